"""The contract of a recovery model: a window goes in, a verdict comes out."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Protocol, runtime_checkable

from failsafe.errors import AssessmentError, UserError
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Status, Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA

MAX_TRANSLATION, MAX_ROTATION = MANISKILL_PANDA.step_limits
"""Step limits (m, rad) of the robot of the shipped checkpoints, the scale of baselines and text answers."""
MAX_ACTIONS = 24
"""The most actions of a verdict."""


@runtime_checkable
class RecoveryModel(Protocol):
    """Sees a failure, names it, and says how to get back."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def window_spec(self) -> WindowSpec:
        """The windows that it looks at."""
        ...

    def assess(self, window: Window) -> Assessment:
        """Assess one window.

        An answer that cannot be read is a verdict with the status "unreadable".

        Raises:
            AssessmentError: If the window is not one that the model can look at.
        """
        ...


def trained_on(learned: object, task: str) -> tuple[int, ...]:
    """The seeds of a task that a model or a policy was trained on, as far as its checkpoint says."""
    seeds: dict[str, tuple[int, ...]] = getattr(getattr(learned, "meta", None), "train_seeds", {})
    return seeds.get(task, ())


def check_objects(model: object, task: str, objects: int) -> None:
    """Check that a model can locate every object of a task.

    Args:
        model: The model. One without an attribute `max_objects`, or with None there, has no limit.
        task: Name of the task, for the message.
        objects: Number of its objects.

    Raises:
        UserError: If the task has more objects than the model can locate.
    """
    most: int | None = getattr(model, "max_objects", None)
    if most is not None and objects > most:
        raise UserError(
            f"expected a task of at most {most} objects, which is what this model can locate, got {task} "
            f"with {objects}: train a compact model on samples of it"
        )


def assess_safely(model: RecoveryModel, window: Window) -> Assessment:
    """Assess a window in a control loop: whatever goes wrong is a verdict, and the latency is measured.

    An exception makes a verdict with the status "refused"; so does one whose numbers are not finite, and
    what is no verdict at all.
    """
    begun = time.perf_counter()
    try:
        window.check(model.window_spec)
        assessment = model.assess(window)
        if not isinstance(assessment, Assessment):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected a Verdict, got {type(assessment).__name__}")
        if assessment.status is Status.OK and (problem := flaw(assessment)):
            assessment = Assessment(status=Status.REFUSED, reason=problem)
    except Exception as error:  # whatever a model does wrong must leave the policy in charge
        assessment = Assessment(status=Status.REFUSED, reason=f"{type(error).__name__}: {error}")
    return replace(assessment, latency=time.perf_counter() - begun)


def flaw(assessment: Assessment) -> str:
    """What is wrong with a verdict's numbers and words, in a sentence; empty where nothing is."""
    if not (math.isfinite(assessment.failure_probability) and 0.0 <= assessment.failure_probability <= 1.0):
        return f"expected a probability of failure from 0 to 1, got {assessment.failure_probability}"
    if not (math.isfinite(assessment.mode_probability) and 0.0 <= assessment.mode_probability <= 1.0):
        return f"expected a probability of the kind from 0 to 1, got {assessment.mode_probability}"
    for words in (assessment.stage, assessment.mode, assessment.explanation, assessment.raw):
        if not isinstance(words, str):  # pyright: ignore[reportUnnecessaryIsInstance] of a model of one's own
            return f"expected stage, mode, explanation and raw answer in words, got {words!r:.80}"
    for rows in (assessment.actions, assessment.continuation):
        if len(rows) > MAX_ACTIONS:
            return f"expected at most {MAX_ACTIONS} actions, got {len(rows)}"
    for row in (*assessment.actions, *assessment.continuation):
        if len(row) != 7 or not all(abs(value) <= poses.LARGEST for value in row):
            return f"expected actions of 7 finite numbers, got {row}"
    return ""


def require(condition: bool, problem: str) -> None:
    """Refuse a window.

    Raises:
        AssessmentError: With the problem, unless the condition holds.
    """
    if not condition:
        raise AssessmentError(problem)
