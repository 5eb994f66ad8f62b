"""The correction that is proven with the policy going on, and what each condition makes of the toy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation import toy_study
from tests.evaluation.toy_study import LIMITS, PUSH, Replayer

from failsafe.errors import PolicyError
from failsafe.evaluation import oracles
from failsafe.evaluation.conditions import CONDITIONS
from failsafe.evaluation.episodes import run_episode
from failsafe.evaluation.oracles import CorrectedPolicy, run_oracle_minimal
from failsafe.evaluation.paired import Change, pairs_of
from failsafe.evaluation.results import Results
from failsafe.evaluation.scenarios import SCENARIOS
from failsafe.evaluation.study import StudyJob
from failsafe.monitors.calibration import Calibration, Threshold
from failsafe.monitors.hand_back import HandBackModel
from failsafe.records.episode import Ending, Episode, EpisodeKey
from failsafe.records.event import EventKind
from failsafe.simulators.contract import Simulator


def key(seed: int, condition: str = "never") -> EpisodeKey:
    return EpisodeKey(PUSH, "nominal", toy_study.POLICY, condition, seed)


def search(seed: int, policy: Replayer | None = None) -> tuple[Episode, Episode]:
    """The policy alone, and with the oracle. By seed: 0 can be mended, 1 cannot, 3 succeeds."""
    task, policy, nominal = toy_study.push(), policy or Replayer(), SCENARIOS["nominal"]
    alone = run_episode(task, policy, key(seed), nominal, LIMITS)
    return alone, run_oracle_minimal(task, policy, key(seed, "oracle-minimal"), nominal, LIMITS, alone)


def test_one_correction_is_found_after_which_the_policy_itself_succeeds() -> None:
    alone, corrected = search(0)
    assert (alone.success, corrected.success) == (False, True)
    ((start, stop),) = corrected.takeovers
    assert [event.kind for event in corrected.events] == [
        EventKind.ALARM, EventKind.TAKE_OVER, EventKind.HAND_BACK,
    ]  # fmt: skip
    assert (start, corrected.events[1].actions) == (5, stop - start)
    assert stop < corrected.steps / 2, "the rest is the policy's"


def test_what_no_correction_helps_is_left_to_the_policy_and_so_are_successes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(oracles, "MAX_TRIALS", 2)  # each trial is a whole episode
    for seed in (1, 3):
        alone, corrected = search(seed)
        assert (corrected.ending, corrected.steps, corrected.events) == (alone.ending, alone.steps, ())
        assert corrected.key.condition == "oracle-minimal"


def test_a_policy_that_is_not_deterministic_is_refused() -> None:
    class Drifting(Replayer):
        episodes = 0

        def reset(self, instruction: str) -> None:
            super().reset(instruction)
            self._offset = 0 * toy_study.MISS if self.episodes else toy_study.MISS
            type(self).episodes += 1

    with pytest.raises(PolicyError, match=r"expected a deterministic policy .* leave the condition out"):
        search(3, Drifting())


def test_a_corrected_policy_is_the_policy_but_for_the_correction() -> None:
    up = (0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0)

    def heights(rows: int, at: int = 20) -> np.ndarray:
        task, states = toy_study.push(), []
        robot = task.simulator.spec.embodiment
        policy = CorrectedPolicy(Replayer(), at, (up,) * rows, robot) if rows else Replayer()
        run_episode(task, policy, key(3), SCENARIOS["nominal"], LIMITS, states)
        return np.array([tool_height(task.simulator, state) for state in states])

    alone, corrected = heights(0), heights(3)
    np.testing.assert_array_equal(corrected[:21], alone[:21])
    assert corrected[23] - corrected[20] == pytest.approx(0.06, abs=0.02)


def tool_height(simulator: Simulator, state: np.ndarray) -> float:
    simulator.restore(state)
    return float(simulator.observe().tcp_pose[2])


def test_every_condition_runs_and_says_who_acted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On seed 0 the policy misses; stopped by a correction, it begins anew and succeeds."""
    monkeypatch.setattr("failsafe.evaluation.study.load_model", lambda _: toy_study.TinyMonitor())
    instruction = "pick up the box and hold it at the goal"
    calibration = Calibration(
        0.05,
        "tiny",
        toy_study.POLICY,
        2.0,
        {instruction: Threshold(0.0, 40)},
        hand_back=HandBackModel({instruction: 2.0}, {}, 0.0, 0.0, 30, 20),
    )
    study = replace(toy_study.config(1), calibrations={toy_study.POLICY: calibration})
    study = replace(study, conditions=tuple(CONDITIONS.registered))
    job, results = StudyJob(study, tmp_path), Results(tmp_path)
    job.run(toy_study.cell(0))
    found = {episode.key.condition: episode for episode in results.episodes()}
    assert set(found) >= {"never", "watch", "minimal", "monitor", "assist", "model-alone", "hold"}
    for condition in ("never", "watch"):
        assert found[condition].intervention_steps == 0
        assert found[condition].ending is Ending.FAILURE
    for condition in (
        "minimal",
        "monitor",
        "learned-hand-back",
        "retry",
        "assist",
        "fixed-retry",
        "oracle-minimal",
    ):
        (pair,) = pairs_of(found.values(), condition)
        assert pair.change is Change.RESCUED
        assert 0 < found[condition].intervention_steps < 0.25 * LIMITS.max_steps
    assert not found["hold"].success, "corrections alone do not do the task"
