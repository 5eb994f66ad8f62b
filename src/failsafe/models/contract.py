"""The contract of a recovery model: it maps a window to an assessment."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Protocol, runtime_checkable

from failsafe.errors import AssessmentError, UserError
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Status, Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA, EmbodimentSpec

MAX_ACTIONS = 24
"""Largest number of actions in an assessment."""


@runtime_checkable
class RecoveryModel(Protocol):
    """Detects a failure, names it, and proposes a correction."""

    @property
    def name(self) -> str:
        """Name in tables."""
        ...

    @property
    def window_spec(self) -> WindowSpec:
        """The windows that it takes."""
        ...

    def assess(self, window: Window) -> Assessment:
        """Assess one window.

        Args:
            window: The recent past of an episode, as `window_spec` describes it.

        Returns:
            The assessment; one with the status "unreadable" if the model's output cannot be parsed.

        Raises:
            AssessmentError: If the window does not match `window_spec`, or the model refuses its instruction.
        """
        ...


def trained_on(learned: object, task: str) -> tuple[int, ...]:
    """Return the seeds of a task that a model or a policy was trained on.

    Args:
        learned: A model or a policy. Its attribute `meta.train_seeds`, if present, lists the seeds by task.
        task: Name of the task.
    """
    seeds: dict[str, tuple[int, ...]] = getattr(getattr(learned, "meta", None), "train_seeds", {})
    return seeds.get(task, ())


def known_instructions(model: object) -> tuple[str, ...]:
    """Return the instructions that a model was trained on; empty if it states none.

    Args:
        model: A recovery model. Its attribute `meta.instructions` or `meta.config.instructions` lists them.
    """
    meta = getattr(model, "meta", None)
    return tuple(getattr(getattr(meta, "config", meta), "instructions", ()))


def accepted_instructions(model: object) -> tuple[str, ...]:
    """Return the instructions that a model assesses; empty if it assesses any, or does not say.

    Args:
        model: A recovery model. Its attribute `instructions`, if present, lists them.
    """
    return tuple(getattr(model, "instructions", ()) or ())


def embodiment_of(model: object) -> EmbodimentSpec:
    """Return the robot of a model's training data; ManiSkill's Panda if it states none.

    Args:
        model: A recovery model. Its attribute `meta.embodiment` or `meta.config.embodiment` is the robot.
    """
    meta = getattr(model, "meta", None)
    found = getattr(getattr(meta, "config", meta), "embodiment", None)
    return found if isinstance(found, EmbodimentSpec) else MANISKILL_PANDA


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
    """Assess a window in a control loop: turn every error into an assessment, and measure the latency.

    Args:
        model: The recovery model.
        window: The window; it is checked against `model.window_spec`.

    Returns:
        The assessment. Its status is "refused" if the model raises an exception, returns numbers that are not
        finite, or returns something else than an `Assessment`.
    """
    begun = time.perf_counter()
    try:
        window.check(model.window_spec)
        assessment = model.assess(window)
        if not isinstance(assessment, Assessment):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected an Assessment, got {type(assessment).__name__}")
        if assessment.status is Status.OK and (problem := flaw(assessment)):
            assessment = Assessment(status=Status.REFUSED, reason=problem)
    except Exception as error:  # an error of the model must leave the policy in control
        assessment = Assessment(status=Status.REFUSED, reason=f"{type(error).__name__}: {error}")
    return replace(assessment, latency=time.perf_counter() - begun)


def flaw(assessment: Assessment) -> str:
    """Return what is wrong with the values of an assessment, in one sentence; empty if it is valid."""
    if not (math.isfinite(assessment.failure_probability) and 0.0 <= assessment.failure_probability <= 1.0):
        return f"expected a probability of failure from 0 to 1, got {assessment.failure_probability}"
    if not (math.isfinite(assessment.mode_probability) and 0.0 <= assessment.mode_probability <= 1.0):
        return f"expected a probability of the mode from 0 to 1, got {assessment.mode_probability}"
    for text in (assessment.stage, assessment.mode, assessment.explanation, assessment.raw):
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] from a custom model
            return f"expected strings for stage, mode, explanation and raw answer, got {text!r:.80}"
    for rows in (assessment.actions, assessment.continuation):
        if len(rows) > MAX_ACTIONS:
            return f"expected at most {MAX_ACTIONS} actions, got {len(rows)}"
    for row in (*assessment.actions, *assessment.continuation):
        if len(row) != 7 or not all(abs(value) <= poses.LARGEST for value in row):
            return f"expected actions of 7 finite numbers, got {row}"
    return ""


def require(condition: bool, problem: str) -> None:
    """Refuse a window unless a condition holds.

    Args:
        condition: What must hold.
        problem: The error message.

    Raises:
        AssessmentError: If the condition does not hold.
    """
    if not condition:
        raise AssessmentError(problem)
