"""What ships does what it is for: the monitor repairs a good policy after an accident, and hands back."""

from __future__ import annotations

from pathlib import Path

import pytest

from failsafe.evaluation.config import StudyConfig, StudyItem
from failsafe.evaluation.episodes import EpisodeLimits
from failsafe.evaluation.results import Results
from failsafe.evaluation.study import StudyJob
from failsafe.monitors.calibration import shipped_calibration

SEEDS = {"PickCube-v1": (6000, 6001), "metaworld/window-open-v3": (5025, 5026)}
"""Development seeds on which the policy alone does not recover from the perturbation in time."""


@pytest.mark.parametrize(
    ("task", "policy", "monitor", "scenario", "share"),
    [
        pytest.param(
            "PickCube-v1",
            "reference:strong",
            "compact",
            "object_dropped",
            0.15,
            marks=[pytest.mark.maniskill, pytest.mark.render],
        ),
        pytest.param(
            "metaworld/window-open-v3",
            "reference:metaworld",
            "compact-metaworld",
            "gripper_stays_open",
            0.2,
            marks=pytest.mark.metaworld,
        ),
    ],
)
def test_the_shipped_monitor_repairs_the_shipped_policy_and_hands_back(
    task: str, policy: str, monitor: str, scenario: str, share: float, tmp_path: Path
) -> None:
    """On a processor with other last bits one of the two may end otherwise, and the gain remains."""
    calibration, seeds = shipped_calibration(policy), SEEDS[task]
    assert calibration is not None
    config = StudyConfig(
        tasks=(task,),
        policies=(policy,),
        monitor=monitor,
        first_seed=seeds[0],
        last_seed=seeds[-1] + 1,
        scenarios=(scenario,),
        calibrations={policy: calibration},
        limits=EpisodeLimits(max_steps=100),
    )
    job, results = StudyJob(config, tmp_path), Results(tmp_path)
    for seed in seeds:
        job.run(StudyItem(task, scenario, policy, seed))
    row = results.summary().find(task, scenario, policy, "monitor")
    assert row is not None
    assert row.successes >= row.alone + 1
    assert row.harmed == 0
    assert row.intervention.rescued_share is not None
    assert row.intervention.rescued_share <= share
    assert row.intervention.policy_ends == row.rescued, "the policy finishes, not the monitor"
