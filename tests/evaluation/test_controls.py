"""Each control does what its name says, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.evaluation.toy_study import Replayer

from failsafe.errors import UnknownNameError
from failsafe.evaluation.conditions import CONDITIONS
from failsafe.evaluation.controls import HoldPolicy, PrivilegedState
from failsafe.experts.tasks import load_task
from failsafe.generation.nominal import run_nominal
from failsafe.models.contract import MAX_ACTIONS
from failsafe.policies.contract import ActionSpace
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Status, Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA
from failsafe.records.episode import Ending, Episode, EpisodeKey
from failsafe.records.observation import PolicyObservation
from failsafe.rollouts.runner import SETTLE_SECONDS

SPEC = WindowSpec(views=("front",), history=4, frames=1, size=8)
ROW = (0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class Model:
    """Half sure of a failure."""

    name = "model"
    window_spec = SPEC

    def assess(self, window: Window) -> Assessment:
        return Assessment(
            failure_probability=0.5, stage="grasp", mode="slip", actions=(ROW,), continuation=(ROW,) * 2
        )


class Thorough(Model):
    """Says what it would do if there were a failure."""

    def assess_as_failing(self, window: Window) -> Assessment:
        return Assessment(failure_probability=0.5, actions=(ROW,) * 5)


@pytest.fixture(scope="module")
def known() -> Callable[..., PrivilegedState]:
    task = load_task("ToyPush-v0")
    nominal = run_nominal(task, 3)
    assert nominal.record.success

    def truth(fails: bool = True, step: int = 10_000, injected: int | None = None) -> PrivilegedState:
        key = EpisodeKey("ToyPush-v0", "nominal", "policy", "never", 3)
        ending = Ending.FAILURE if fails else Ending.SUCCESS
        alone = Episode(key, "push", ending, 100, 5.0, injection_step=injected)
        return PrivilegedState(task, nominal, alone, lambda: step)

    return truth


def window(widths: tuple[float, ...] = (0.08,) * 5, at: Any = None) -> Window:
    here = poses.pose([0.55, 0.1, 0.05], (0.0, 1.0, 0.0, 0.0)) if at is None else at
    return Window(
        "push",
        SPEC,
        np.zeros((1, 1, 8, 8, 3), dtype=np.uint8),
        np.tile(here, (5, 1)).astype(np.float32),
        np.array(widths, dtype=np.float32),
    )


def make_control(condition: str, model: Any, truth: PrivilegedState) -> Any:
    control = CONDITIONS[condition].control
    assert control is not None
    return control(model, truth)


def carry_out(rows: Any, start: np.ndarray) -> list[np.ndarray]:
    """The poses that actions lead to, each within the limits."""
    path = [start]
    for row in rows:
        path.append(poses.apply_delta(path[-1], row[:6]))
        far, turned = poses.distance(path[-2], path[-1])
        assert far <= MANISKILL_PANDA.max_translation + 1e-9
        assert turned <= MANISKILL_PANDA.max_rotation + 1e-9
    return path


def test_every_control_is_made_by_its_name(known: Callable[..., PrivilegedState]) -> None:
    made = [name for name in CONDITIONS if CONDITIONS[name].control is not None]
    own = {condition: make_control(condition, Model(), known()) for condition in made}
    assert {condition: model.name for condition, model in own.items()} == {
        condition: condition.replace("-", " ") for condition in made
    }
    assert [name for name in made if CONDITIONS[name].threshold is None] == ["fixed-retry"]
    assert {model.window_spec for model in own.values()} == {SPEC}
    with pytest.raises(UnknownNameError, match="did you mean 'random-nudge'"):
        make_control("random-nuge", Model(), known())


@pytest.mark.parametrize(
    ("widths", "gripper"),
    [
        ((0.08,) * 5, 1.0),
        ((0.04,) * 5, -1.0),
        ((0.08, 0.07, 0.06, 0.05, 0.04), -1.0),
        ((0.04, 0.05, 0.06, 0.07, 0.08), 1.0),
    ],
)
def test_always_nudge_lifts_by_5_cm_at_every_query_and_hands_back(
    known: Callable[..., PrivilegedState], widths: tuple[float, ...], gripper: float
) -> None:
    truth = known()
    model = make_control("always-nudge", Model(), truth)
    for _ in range(3):
        assessment = model.assess(window(widths))
        assert assessment.failure_probability == 1.0
        path = carry_out(assessment.actions, poses.IDENTITY)
        np.testing.assert_allclose(path[-1], [0, 0, 0.05, 1, 0, 0, 0], atol=1e-12)
        assert {row[6] for row in assessment.actions} == {gripper}
    truth.in_charge = lambda: True
    assert not model.assess(window(widths)).failing, "one lift a takeover"


def test_random_nudge_acts_at_a_fifth_of_the_queries(
    known: Callable[..., PrivilegedState],
) -> None:
    first, again = (make_control("random-nudge", Model(), known()) for _ in range(2))
    said = [first.assess(window()) for _ in range(500)]
    assert said == [again.assess(window()) for _ in range(500)], "the draws are the seed's"
    ends = np.array([carry_out(assessment.actions, poses.IDENTITY)[-1][:3] for assessment in said])
    np.testing.assert_allclose(np.linalg.norm(ends, axis=1), 0.05)
    assert np.abs(ends.mean(0)).max() < 0.006
    assert {assessment.failure_probability for assessment in said} == {0.0, 1.0}
    share = np.mean([assessment.failure_probability for assessment in said])
    assert abs(share - 0.2) < 3 * np.sqrt(0.2 * 0.8 / 500)


def test_fixed_retry_opens_rises_and_goes_back(known: Callable[..., PrivilegedState]) -> None:
    truth = known()
    model = make_control("fixed-retry", Model(), truth)
    here = window().tcp_poses[-1].astype(np.float64)
    assessment = model.assess(window((0.04,) * 5))
    assert (assessment.failure_probability, assessment.mode) == (0.5, "slip"), "the alarm is the model's"
    assert {row[6] for row in assessment.actions} == {1.0}
    path = carry_out(assessment.actions, here)
    np.testing.assert_allclose(path[4], here, atol=1e-9)
    highest = max(range(len(path)), key=lambda i: path[i][2] - 10 * np.linalg.norm(path[i][:2] - here[:2]))
    assert path[highest][2] - here[2] == pytest.approx(0.08)
    assert len(assessment.actions) < MAX_ACTIONS
    np.testing.assert_allclose(path[-1][:3], truth.start[:3], atol=1e-9)


@pytest.mark.parametrize(("fails", "early"), [(True, True), (False, False), (False, True)])
@pytest.mark.parametrize("injected", [None, 20])
def test_the_oracle_detector_is_silent_where_nothing_fails_and_until_it_is_due(
    known: Callable[..., PrivilegedState], fails: bool, early: bool, injected: int | None
) -> None:
    done = known().nominal.record.spans[-1].stop + round(SETTLE_SECONDS * 20)
    due = done if injected is None else injected + 10
    model = make_control("oracle-detector", Model(), known(fails, due - early, injected))
    assert model.assess(window()).failure_probability == 0.0
    model = make_control("oracle-detector", Model(), known(True, due, injected))
    assert model.assess(window()).failure_probability == 1.0


def test_the_oracle_detector_acts_as_the_model_would(known: Callable[..., PrivilegedState]) -> None:
    done = known().nominal.record.spans[-1].stop + round(SETTLE_SECONDS * 20)
    plain = make_control("oracle-detector", Model(), known(True, done))
    said = plain.assess(window())
    assert (said.failure_probability, said.actions, said.continuation) == (1.0, (ROW,), ())
    thorough = make_control("oracle-detector", Thorough(), known(True, done))
    assert thorough.assess(window()).actions == (ROW,) * 5
    truth = known(True, done)
    truth.in_charge = lambda: True
    going_on = make_control("oracle-detector", Model(), truth)
    assert going_on.assess(window()) == Model().assess(window()), "in a takeover it is the model's turn"


class Answers(Model):
    """Gives one answer."""

    def __init__(self, **answer: Any) -> None:
        self.answer = Assessment(**{"actions": (ROW,) * 3, "continuation": (ROW,) * 2} | answer)

    def assess(self, window: Window) -> Assessment:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        ({"failure_probability": 0.6}, 3),
        ({"failure_probability": 0.4}, 2),  # no failure: what the expert does next
        ({"failure_probability": 0.6, "actions": ()}, 2),
        ({"failure_probability": 0.6, "needs_help": True}, 2),
        ({"failure_probability": 0.6, "actions": ((0.001,) * 6 + (1.0,),)}, 2),  # negligible
    ],
)
def test_the_model_alone_always_acts(
    known: Callable[..., PrivilegedState], answer: dict[str, Any], rows: int
) -> None:
    assessment = make_control("model-alone", Answers(**answer), known()).assess(window())
    assert (assessment.failure_probability, len(assessment.actions)) == (1.0, rows)
    unusable = Answers(status=Status.REFUSED, reason="too dark").answer
    assert (
        make_control("model-alone", Answers(status=Status.REFUSED, reason="too dark"), known()).assess(
            window()
        )
        == unusable
    )


def test_a_policy_that_holds_keeps_its_pose_and_its_grip() -> None:
    class Chunks(Replayer):
        action_space = ActionSpace(chunk=4)

    policy = HoldPolicy(Chunks())
    policy.reset("push")
    target, measured = (poses.pose([0.5, 0.1, z], (0.0, 1.0, 0.0, 0.0)) for z in (0.2, 0.21))
    for width, gripper in ((0.08, 1.0), (0.06, 1.0), (0.04, -1.0), (0.08, 1.0)):
        row = policy.act(PolicyObservation({}, measured, target, width))[0]
        pose, fingers = policy.action_space.to_pose(row, target, measured)
        np.testing.assert_allclose(pose, target, atol=1e-9)
        assert fingers == gripper
    assert (policy.action_space.chunk, policy.views) == (1, {"front": 32})
