from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failsafe.models import corrections
from failsafe.models.contract import MAX_ACTIONS
from failsafe.models.version_1 import EMBODIMENT
from failsafe.records import poses


def total(actions):
    pose = poses.IDENTITY
    for row in actions:
        pose = poses.apply_delta(pose, row[:6])
    return pose


def straight(delta, count, gripper):
    target = poses.apply_delta(poses.IDENTITY, delta)
    rows, at = [], poses.IDENTITY
    for pose in poses.interpolate(at, target, count):
        rows.append((*poses.delta_between(at, pose).tolist(), gripper))
        at = pose
    return tuple(rows)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-0.014, 0.014), min_size=3, max_size=3),
    st.lists(st.floats(-0.07, 0.07), min_size=3, max_size=3),
    st.integers(1, MAX_ACTIONS),
    st.sampled_from([-1.0, 1.0]),
)
def test_straight_ways_come_back_as_they_were(step, turn, count, gripper):
    actions = straight([*np.multiply(step, count), *np.multiply(turn, count)], count, gripper)
    again = corrections.decode(corrections.encode(actions, EMBODIMENT), EMBODIMENT)
    assert len(again) == count
    assert max(poses.distance(total(actions), total(again))) < 1e-5
    assert {row[6] for row in again} == {gripper}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=corrections.SIZE, max_size=corrections.SIZE))
def test_whatever_a_network_says_keeps_the_limits(numbers):
    actions = corrections.decode(np.array(numbers, dtype=np.float32), EMBODIMENT)
    assert 1 <= len(actions) <= MAX_ACTIONS
    for row in actions:
        assert np.linalg.norm(row[:3]) <= EMBODIMENT.max_translation * (1 + 1e-6)
        assert np.linalg.norm(row[3:6]) <= EMBODIMENT.max_rotation * (1 + 1e-6)
        assert row[6] in (-1.0, 1.0)


def test_a_way_with_stops_keeps_its_corners():
    """Open, rise, go across, come down: four legs of two steps each."""
    legs = [(0, 0, 0.02), (0, 0, 0.02), (0.02, 0, 0), (0.02, 0, 0), (0, 0.01, 0), (0, 0.01, 0), (0, 0, -0.02)]
    actions = tuple((*map(float, leg), 0.0, 0.0, 0.0, 1.0) for leg in [*legs, (0, 0, -0.02)])
    again = corrections.decode(corrections.encode(actions, EMBODIMENT), EMBODIMENT)
    np.testing.assert_allclose(np.array(again), np.array(actions), atol=1e-6)


def test_what_comes_next_is_led_to_and_fingers_are_no_sooner():
    """Twelve steps straight down, and the fingers close with the ninth: in the last quarter, not before."""
    ahead = np.zeros((1, 12, 7), dtype=np.float32)
    ahead[0, :, 2] = -0.01 * np.arange(1, 13)
    ahead[0, :, 5] = 0.02 * np.arange(1, 13)
    ahead[0, :, 6] = [1.0] * 7 + [-1.0] * 5
    rows = corrections.decode(corrections.encode_continuation(ahead, EMBODIMENT)[0], EMBODIMENT)
    assert [row[6] for row in rows] == [1.0] * 9 + [-1.0] * 3
    at = poses.IDENTITY
    for row, wanted in zip(rows, ahead[0].astype(np.float64), strict=True):
        at = poses.apply_delta(at, row[:6])
        there = poses.apply_delta(poses.IDENTITY, wanted[:6])
        assert max(poses.distance(at, there)) < 1e-4


def test_words():
    said = corrections.describe(((0.02, 0.0, -0.015, 0.0, 0.0, 0.1, -1.0),))
    assert said == "move 25 mm (x +20, y +0, z -15), turn 6 degrees, gripper closed, in 1 steps"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 24])
def test_fingers_change_in_the_quarter_in_which_they_do(count):
    still = (0.0,) * 5
    actions = tuple((0.01, *still, 1.0 if i < count // 2 else -1.0) for i in range(count))
    again = corrections.decode(corrections.encode(actions, EMBODIMENT), EMBODIMENT)
    assert len(again) == count
    assert again[-1][6] == -1.0
