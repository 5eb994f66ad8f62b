"""What ships does what it is for: the monitor repairs a good policy after an accident, and hands back."""

from __future__ import annotations

from pathlib import Path

import pytest

from failsafe.evaluation.config import StudyConfig, StudyItem
from failsafe.evaluation.episodes import EpisodeLimits
from failsafe.evaluation.results import Results
from failsafe.evaluation.study import StudyJob
from failsafe.monitors.calibration import shipped_calibration

TASK, POLICY, SCENARIO = "PickCube-v1", "reference:strong", "object_dropped"
SEEDS = (6000, 6001)
"""Development seeds on which the policy alone does not recover from the drop within the step limit."""


@pytest.mark.maniskill
@pytest.mark.render
def test_the_shipped_monitor_repairs_the_shipped_policy_and_hands_back(tmp_path: Path) -> None:
    """On a processor with other last bits one of the two may end otherwise, and the gain remains."""
    calibration = shipped_calibration(POLICY)
    assert calibration is not None
    config = StudyConfig(
        tasks=(TASK,),
        policies=(POLICY,),
        monitor="compact",
        first_seed=SEEDS[0],
        last_seed=SEEDS[-1] + 1,
        scenarios=(SCENARIO,),
        calibrations={POLICY: calibration},
        limits=EpisodeLimits(max_steps=100),
    )
    job, results = StudyJob(config, tmp_path), Results(tmp_path)
    for seed in SEEDS:
        job.run(StudyItem(TASK, SCENARIO, POLICY, seed))
    row = results.summary().find(TASK, SCENARIO, POLICY, "monitor")
    assert row is not None
    assert row.successes >= row.alone + 1
    assert row.harmed == 0
    assert row.intervention.rescued_share is not None
    assert row.intervention.rescued_share <= 0.15
    assert row.intervention.policy_ends == row.rescued, "the policy finishes, not the monitor"
