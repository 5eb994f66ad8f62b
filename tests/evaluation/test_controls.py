"""Each control does what its name says, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluation import toy_study

from failsafe.errors import UnknownNameError
from failsafe.evaluation import controls
from failsafe.evaluation.conditions import CONDITIONS, CONTROLS
from failsafe.evaluation.controls import PrivilegedState
from failsafe.evaluation.paired import Change, pairs_of
from failsafe.evaluation.results import Results
from failsafe.evaluation.study import StudyJob
from failsafe.experts.tasks import load_task
from failsafe.generation.nominal import run_nominal
from failsafe.models.contract import MAX_ACTIONS, MAX_ROTATION, MAX_TRANSLATION, assess_safely
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Window, WindowSpec
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
    task, spare = load_task("ToyPush-v0"), load_task("ToyPush-v0")
    nominal = run_nominal(spare, 3)
    assert nominal.record.success

    def truth(fails: bool = True, step: int = 10_000) -> PrivilegedState:
        return PrivilegedState(task, spare, nominal, fails, lambda: step)

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
        assert far <= MAX_TRANSLATION + 1e-9
        assert turned <= MAX_ROTATION + 1e-9
    return path


def test_every_control_is_made_by_its_name(known: Callable[..., PrivilegedState]) -> None:
    own = {condition: make_control(condition, Model(), known()) for condition in CONTROLS}
    assert {condition: model.name for condition, model in own.items()} == {
        condition: condition.replace("-", " ") for condition in CONTROLS
    }
    calibrated = [condition for condition in CONTROLS if CONDITIONS[condition].threshold is None]
    assert calibrated == ["fixed-retry"]
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


@pytest.mark.parametrize("condition", ["oracle-detector", "oracle-recovery"])
@pytest.mark.parametrize(("fails", "early"), [(True, True), (False, False), (False, True)])
def test_oracles_are_silent_where_nothing_fails_and_until_the_expert_is_done(
    known: Callable[..., PrivilegedState], condition: str, fails: bool, early: bool
) -> None:
    done = known().nominal.record.spans[-1].stop + round(SETTLE_SECONDS * 20)
    model = make_control(condition, Model(), known(fails, done - 1 if early else done))
    assert model.assess(window()).failure_probability == 0.0


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


def test_the_oracle_of_recovery_gives_a_way_that_works_as_actions(
    known: Callable[..., PrivilegedState], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = known()
    truth.task.simulator.reset(3)
    state = truth.task.simulator.state()
    at = truth.task.simulator.observe().tcp_pose
    asked: list[Any] = []
    path = truth.nominal.trace
    monkeypatch.setattr(controls, "recover_now", lambda *given: asked.append(given) or path)
    model = make_control("oracle-recovery", Model(), truth)
    assessment = assess_safely(model, window(at=at))
    ((spare, _, seen, fingers),) = asked
    assert spare is truth.spare, "nothing is tried out in the episode's own simulator"
    np.testing.assert_array_equal(seen, state)
    assert fingers == 1.0
    assert assessment.failure_probability == 1.0
    assert len(assessment.actions) == MAX_ACTIONS < len(path), "what is left is found out once that is done"
    led = carry_out(assessment.actions, at)[1:]
    for pose, target in zip(led, path.targets, strict=False):
        assert max(poses.distance(pose, target.astype(np.float64))) < 1e-4
    np.testing.assert_array_equal(truth.task.simulator.state(), state)
    monkeypatch.setattr(controls, "recover_now", lambda *given: None)
    lost = model.assess(window(at=at))
    assert (lost.failure_probability, lost.actions) == (1.0, ())


def test_the_oracle_of_recovery_rescues_what_can_be_rescued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On seed 1 the policy reaches beside the box, whatever a monitor does; on seed 3 it succeeds."""
    study = toy_study.config(4, (toy_study.PUSH,), ("never", "oracle-recovery"))
    monkeypatch.setattr("failsafe.evaluation.study.load_model", lambda _: toy_study.TinyMonitor())
    job, results = StudyJob(study, tmp_path), Results(tmp_path)
    for seed in (1, 3):
        job.run(toy_study.cell(seed, toy_study.PUSH))
    failed, worked = pairs_of(results.episodes(), "oracle-recovery")
    assert failed.change is Change.RESCUED
    assert worked.change is Change.KEPT
    assert worked.first_alarm is None
