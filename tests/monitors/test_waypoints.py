"""Waypoints of an arm that lags behind its targets; test_monitor.py tests those of one that does not."""

from dataclasses import replace

import numpy as np
import pytest

from failsafe.monitors.waypoints import is_negligible, plan_waypoints
from failsafe.records import poses
from failsafe.records.embodiment import MANISKILL_PANDA

AT = poses.pose([0.5, 0.0, 0.3], (0.0, 1.0, 0.0, 0.0))
SLOW = replace(MANISKILL_PANDA, pace=(0.01, 0.05), settle_seconds=0.2)
ROWS = ((0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.025, 0.0, 0.0, 0.0, -1.0))


def test_an_arm_that_lags_behind_gets_waypoints_that_it_can_follow_and_time_to_arrive():
    found = plan_waypoints(ROWS, "robot_base", AT, AT, SLOW)
    offsets = [waypoint.pose[:3] - AT[:3] for waypoint in found]
    z = 0.025 / 3  # three steps for 25 mm at 10 mm
    path = [[0.01, 0, 0], [0.02, 0, 0], [0.02, 0, z], [0.02, 0, 2 * z], [0.02, 0, 0.025]]
    np.testing.assert_allclose(offsets, path + [path[-1]] * 4, atol=1e-12)  # 0.2 s at 20 Hz
    assert [waypoint.gripper for waypoint in found] == [1.0] * 2 + [-1.0] * 7
    assert len(plan_waypoints(ROWS, "robot_base", AT, AT, SLOW, settle=False)) == 5


def test_an_arm_that_arrives_gets_one_waypoint_for_an_action():
    assert len(plan_waypoints(ROWS, "robot_base", AT, AT, MANISKILL_PANDA)) == 2


def test_what_is_negligible_depends_on_what_the_arm_covers():
    small = [[0.006, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]
    assert (is_negligible(small, MANISKILL_PANDA), is_negligible(small, SLOW)) == (True, False)


@pytest.mark.parametrize("wrong", [{"pace": (0.0, 0.1)}, {"pace": (0.1, np.nan)}, {"settle_seconds": -1.0}])
def test_a_pace_is_positive(wrong):
    with pytest.raises(ValueError, match="expected a pace above 0 and a time to settle of at least 0"):
        replace(MANISKILL_PANDA, **wrong)
