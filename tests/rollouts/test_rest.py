"""Rest: tool, fingers and objects have all been slow for 0.15 s."""

import itertools

import numpy as np
import pytest

from failsafe.records import poses
from failsafe.rollouts.rest import RestDetector
from failsafe.simulators.contract import Observation

POSE = poses.pose([0.4, 0.0, 0.2])


def observation(tool=0.0, width=0.04, object_x=0.0, object_turn=0.0):
    box = poses.apply_delta(POSE, [object_x, 0.0, 0.0, 0.0, 0.0, object_turn])
    return Observation(poses.apply_delta(POSE, [0.0, tool, 0.0, 0.0, 0.0, 0.0]), width, np.stack([POSE, box]))


def steps_to_rest(moments, hz=20.0):
    rest = RestDetector(hz)
    found = [rest.update(a, b) for a, b in itertools.pairwise(moments)]
    return found.index(True) + 1 if True in found else None


def test_three_still_steps_at_20_hz_are_rest():
    assert steps_to_rest([observation()] * 6) == 3
    assert steps_to_rest([observation()] * 9, hz=40.0) == 6


@pytest.mark.parametrize(
    ("name", "slow", "fast"),
    [
        ("tool", 0.0004, 0.0006),
        ("width", 0.0004, 0.0006),
        ("object_x", 0.0004, 0.0006),
        ("object_turn", 0.0009, 0.0011),
    ],
)
def test_whatever_moves_faster_than_the_limit_is_no_rest(name, slow, fast):
    assert steps_to_rest([observation(**{name: slow * i}) for i in range(8)]) == 3
    assert steps_to_rest([observation(**{name: fast * i}) for i in range(8)]) is None


def test_motion_begins_the_count_anew():
    moments = [observation()] * 3 + [observation(tool=0.01)] * 5
    assert steps_to_rest(moments) == 2 + 1 + 3
