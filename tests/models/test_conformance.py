"""The suite passes what is right, and names the rule that a broken model does not keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.models.made_up import SPEC, line, sample, window

from failsafe.errors import AssessmentError
from failsafe.models import conformance
from failsafe.models.baselines import fit_baselines
from failsafe.models.conformance import RULES, check_model
from failsafe.records.assessment import Assessment, Status, Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA

NAMES = [f"{'bad' if i % 2 else 'good'}-{i}" for i in range(8)]
SAMPLES = [sample(name, failing=name.startswith("bad"), seed=i // 2) for i, name in enumerate(NAMES)]
WINDOWS = [
    window(line(0.1 + 0.01 * i, 0.06 if i % 2 else 0.0), name=name, brightness=20 * i)
    for i, name in enumerate(NAMES)
]
LONG = (0.0, 1.1, 0.0, 0.0)
"""Not of unit length, so that normalising it changes it."""
ROW = (0.01, 0.0, 0.0, 0.0, 0.0, 0.1, -1.0)


def broken_rules(model: Any, **options: Any) -> list[str]:
    return [check.name for check in check_model(model, WINDOWS, **options) if not check.passed]


@pytest.mark.parametrize(
    "model", fit_baselines(SAMPLES, WINDOWS, SPEC, SAMPLES, MANISKILL_PANDA), ids=lambda m: m.name
)
def test_every_baseline_conforms(model: Any) -> None:
    checks = check_model(model, WINDOWS)
    assert [check for check in checks if not check.passed] == []
    assert len(checks) == len(RULES)
    assert all(check.sentence for check in checks)


def test_every_rule_says_what_it_is() -> None:
    assert all((rule.__doc__ or "").strip() for rule in RULES)


class Sound:
    """Keeps every rule; each model below breaks one."""

    name = "sound"
    window_spec: WindowSpec = SPEC

    def assess(self, window: Window) -> Assessment:
        window.check(self.window_spec)
        return self.judge(window)

    def judge(self, window: Window) -> Assessment:
        return Assessment(failure_probability=0.9, mode="slip", mode_probability=0.8, actions=(ROW,) * 24)


class Unnamed(Sound):
    name = " "


class NoViews(Sound):
    window_spec = WindowSpec(views=(), history=4, frames=2, size=8)


class Remembers(Sound):
    looked = 0

    def judge(self, window: Window) -> Assessment:
        self.looked += 1
        return Assessment(failure_probability=1.0 / self.looked)


class ChecksNothing(Sound):
    def assess(self, window: Window) -> Assessment:
        return self.judge(window)


class ChecksTheSpecAlone(Sound):
    def assess(self, window: Window) -> Assessment:
        if window.spec != SPEC:
            raise AssessmentError("other windows")
        return self.judge(window)


class RaisesTheWrongError(Sound):
    def assess(self, window: Window) -> Assessment:
        if window.spec != SPEC:
            raise ValueError("other windows")
        return super().assess(window)


class ScribblesOnImages(Sound):
    def judge(self, window: Window) -> Assessment:
        window.frames[0, 0, 0, 0, 0] ^= 1
        return Assessment()


class NormalisesInPlace(Sound):
    def judge(self, window: Window) -> Assessment:
        window.tcp_poses[:, 3:] /= np.linalg.norm(window.tcp_poses[:, 3:], axis=1, keepdims=True)
        return Assessment()


class AfraidOfTheDark(Sound):
    def judge(self, window: Window) -> Assessment:
        return Assessment(failure_probability=float(window.frames.std() / window.frames.mean()))


class KnowsOneTask(Sound):
    def judge(self, window: Window) -> Assessment:
        return {"lift the cube": Assessment()}[window.instruction]


def says(**fields: Any) -> type[Sound]:
    class Says(Sound):
        def judge(self, window: Window) -> Assessment:
            return Assessment(**fields)

    return Says


RANGE = "assessments are numbers in range"
BLACK = "a black image gives an assessment"
UNKNOWN = "an unknown instruction is an assessment or a refusal"
LATENCY, LIMITS = "the latency is measured", "actions keep the step limits"
WRONG, NAN = "wrong windows are refused", "numbers that are none are refused"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Sound, []),
        (Unnamed, ["the name and the spec are sane"]),
        (says(failure_probability=math.nan), [RANGE, BLACK, UNKNOWN, LATENCY]),
        (says(failure_probability=1.5), [RANGE, BLACK, UNKNOWN, LATENCY]),
        (says(mode_probability=-0.1), [RANGE, BLACK, UNKNOWN, LATENCY]),
        (says(actions=(ROW,) * 25), [RANGE, BLACK, UNKNOWN, LATENCY]),
        (says(actions=((*ROW[:6], math.inf),)), [RANGE, LIMITS, BLACK, UNKNOWN, LATENCY]),
        (says(actions=((0.025, 0.001, 0.0, 0.0, 0.0, 0.0, 1.0),)), [LIMITS]),  # 25.02 mm
        (says(actions=((0.0, 0.0, 0.0, 0.1, 0.1, 0.0, 1.0),)), [LIMITS]),
        (says(actions=((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.1),)), [LIMITS]),
        (says(frame="somewhere", actions=(ROW,)), ["the frame is stated"]),
        (says(status=Status.UNREADABLE), []),
        (says(status=Status.UNREADABLE, actions=(ROW,)), [RANGE, BLACK, UNKNOWN]),
        (says(status=Status.REFUSED), [RANGE, BLACK, UNKNOWN, LATENCY]),
        (Remembers, ["the same window gives the same assessment"]),
        (ChecksNothing, [WRONG, NAN]),
        (ChecksTheSpecAlone, [WRONG, NAN]),
        (RaisesTheWrongError, [WRONG]),
        (KnowsOneTask, [UNKNOWN]),
    ],
)
def test_a_broken_rule_is_named(make: Callable[[], Any], expected: list[str]) -> None:
    assert broken_rules(make()) == expected


def test_a_model_that_samples_may_say_so() -> None:
    assert broken_rules(Remembers(), repeatable=False) == []


@pytest.mark.parametrize("make", [ScribblesOnImages, NormalisesInPlace])
def test_what_writes_into_the_window_is_found(make: Callable[[], Any]) -> None:
    said = {check.name: check.sentence for check in check_model(make(), [window(line(0.1), quaternion=LONG)])}
    assert said["the window is left alone"].startswith("expected an unmodified window")


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_cannot_stand_a_black_image_is_found() -> None:
    assert BLACK in broken_rules(AfraidOfTheDark())


def test_a_spec_without_views_is_found() -> None:
    assert "the name and the spec are sane" in broken_rules(NoViews())


def test_an_assessment_that_takes_for_ever_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "PATIENCE", 1e-9)
    assert broken_rules(Sound()) == [LATENCY]


def test_there_must_be_a_window() -> None:
    with pytest.raises(ValueError, match="at least one window"):
        check_model(Sound(), [])
