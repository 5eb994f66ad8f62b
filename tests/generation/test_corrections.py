import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.generation.made_up import ROBOT, make_nominal, make_spans, make_trace

from failsafe.errors import PlanError
from failsafe.experts.tasks import load_task
from failsafe.generation import corrections
from failsafe.generation.corrections import MAX_SECONDS, Waypoint, propose, to_actions
from failsafe.generation.nominal import run_nominal
from failsafe.generation.perturbed import run_perturbed
from failsafe.records import poses
from failsafe.records.case import RecoveryStrategy
from failsafe.records.perturbation import Perturbation
from failsafe.records.plan import CLOSED, OPEN
from failsafe.rollouts.runner import RolloutRunner

FINGERS = 4
"""Steps that fingers need."""

positions = st.lists(st.floats(-0.4, 0.4), min_size=3, max_size=3)
turns = st.lists(st.floats(-1.8, 1.8), min_size=3, max_size=3)
places = st.tuples(positions, turns, st.sampled_from([OPEN, CLOSED, 0.4]))


def waypoint(place):
    position, turn, gripper = place
    return Waypoint(poses.pose(position, poses.from_rotation_vector(turn)), gripper)


def at(x=0.0, y=0.0, z=0.0, yaw=0.0):
    return poses.pose([x, y, z], [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])


# ---------------------------------------------------------------- actions


@settings(max_examples=60, deadline=None)
@given(
    places,
    st.lists(places, min_size=1, max_size=4),
    st.floats(0.005, 0.1),
    st.floats(0.05, 0.6),
)
def test_actions_keep_the_limits_and_arrive(first, others, max_translation, max_rotation):
    robot = dataclasses.replace(ROBOT, max_translation=max_translation, max_rotation=max_rotation)
    start, targets = waypoint(first), [waypoint(place) for place in others]
    actions = to_actions(start.pose, start.gripper, targets, robot)
    assert len(actions) >= 1
    path = [start.pose]
    for action in actions:
        assert np.linalg.norm(action[:3]) <= max_translation * (1 + 1e-6)
        assert np.linalg.norm(action[3:6]) <= max_rotation * (1 + 1e-6)
        path.append(poses.apply_delta(path[-1], action[:6]))
    reached = 0
    for target in targets:
        apart = [max(poses.distance(pose, target.pose)) for pose in path[reached:]]
        assert min(apart) < 1e-6
        reached += int(np.argmax(np.array(apart) < 1e-6))  # the first time, for a place may come again
    assert max(poses.distance(path[-1], targets[-1].pose)) < 1e-6
    assert actions[-1][6] == targets[-1].gripper


@pytest.mark.parametrize(
    ("start", "target", "count"),
    [
        (at(), at(), 1),  # never none
        (at(), at(x=0.02), 1),
        (at(), at(x=0.021), 2),
        (at(), at(z=-0.1), 5),
        (at(), at(yaw=0.1), 1),
        (at(), at(yaw=0.5), 5),
        (at(), at(x=0.04, yaw=0.5), 5),  # the slower of both
        (at(), at(x=0.012, y=0.016), 1),  # 2 cm along the diagonal
    ],
)
def test_no_action_more_than_needed(start, target, count):
    actions = to_actions(start, OPEN, [Waypoint(target, OPEN)], ROBOT)
    assert len(actions) == count
    assert {row[6] for row in actions} == {OPEN}


def test_equal_steps_along_a_straight_line():
    actions = to_actions(at(0.1), CLOSED, [Waypoint(at(0.13, yaw=-0.1), CLOSED)], ROBOT)
    np.testing.assert_allclose(actions, [[0.015, 0, 0, 0, 0, -0.05, CLOSED]] * 2, atol=1e-9)


@pytest.mark.parametrize(
    ("moving", "before", "after", "count"),
    [(0, OPEN, CLOSED, FINGERS), (2, OPEN, CLOSED, FINGERS), (7, CLOSED, OPEN, 7), (1, 0.5, 0.4, 1)],
)
def test_fingers_get_their_time(moving, before, after, count):
    actions = to_actions(at(), before, [Waypoint(at(x=0.02 * moving), after)], ROBOT)
    assert len(actions) == count
    assert {row[6] for row in actions} == {after}
    still = [row[:6] for row in actions[moving:]]
    assert still == [(0.0,) * 6] * (count - moving)


def test_fingers_get_their_time_at_every_waypoint():
    down, up = at(z=-0.02), at(z=0.04)
    strategies = [Waypoint(down, CLOSED), Waypoint(down, OPEN), Waypoint(up, OPEN)]
    actions = to_actions(at(), CLOSED, strategies, ROBOT)
    assert [row[6] for row in actions] == [CLOSED] + [OPEN] * FINGERS + [OPEN] * 3
    assert [round(row[2], 6) for row in actions] == [-0.02, 0.0, 0.0, 0.0, 0.0, 0.02, 0.02, 0.02]


# ---------------------------------------------------------------- the scene as in the nominal rollout

# Four steps of reaching for the cube at 0.5, four of carrying it 10 cm a step, and one state at the end.
TOOL = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
CUBE = [0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9]
WIDTHS = [0.08] * 4 + [0.04] * 5
REACHING, CARRYING, NOWHERE = [1] * 4 + [0] * 4, [0] * 4 + [1] * 4, [0] * 8


@pytest.mark.parametrize(
    ("cube", "yaw", "tool", "width", "where"),
    [
        (0.5, 0.0, 0.2, 0.08, REACHING),
        (0.5, 0.0, 3.0, 0.08, REACHING),  # the tool is what is led back: it may be anywhere
        (0.5, 0.0, 3.0, 0.00, REACHING),
        (0.507, 0.0, 0.2, 0.08, REACHING),
        (0.509, 0.0, 0.2, 0.08, NOWHERE),
        (0.5, 0.11, 0.2, 0.08, REACHING),
        (0.5, 0.13, 0.2, 0.08, NOWHERE),
        (2.0, 0.0, 2.0, 0.04, CARRYING),  # in the grip as it should be, anywhere
        (2.007, 0.0, 2.0, 0.04, CARRYING),
        (2.009, 0.0, 2.0, 0.04, NOWHERE),
        (2.0, 0.13, 2.0, 0.04, NOWHERE),
        (2.0, 0.0, 2.0, 0.045, CARRYING),
        (2.0, 0.0, 2.0, 0.08, NOWHERE),  # the fingers do not close on it
        (0.5, 0.0, 0.5, 0.04, [1] * 8),
        (0.7, 0.0, 0.2, 0.08, NOWHERE),
    ],
)
def test_where_the_scene_is_the_nominals(cube, yaw, tool, width, where):
    nominal = make_nominal(
        make_trace(CUBE, TOOL, widths=WIDTHS), make_spans(("reach", 4), ("carry", 4, "cube"))
    )
    now = make_trace([cube] * 2, [tool] * 2, [yaw] * 2, [width] * 2)
    assert corrections._in_place(nominal, now, 1).astype(int).tolist() == where


def test_the_nearest_point_of_a_stage_is_led_to_and_of_equals_the_later():
    nominal = make_nominal(
        make_trace(CUBE, TOOL, widths=WIDTHS), make_spans(("reach", 4), ("carry", 4, "cube"))
    )
    # 0.25 lies between 0.2 and 0.3, three steps of 2 cm from either: the later is further on
    found = corrections._to_nominal_path(nominal, make_trace([0.5] * 2, [0.25] * 2), 1, ROBOT, OPEN)
    assert [(c.strategy, c.resume_index, c.resume_stage) for c in found] == [
        (RecoveryStrategy.NOMINAL_PATH, 0, "reach")
    ]
    assert sum(row[0] for row in found[0].actions) == pytest.approx(0.05, abs=1e-6)
    assert len(found[0].actions) == 3
    # a mark that has moved is no reason against
    marked = make_trace([0.5] * 2, [0.25] * 2, goal=[3.0] * 2)
    assert corrections._to_nominal_path(nominal, marked, 1, ROBOT, OPEN) == found


# ---------------------------------------------------------------- candidates


@pytest.fixture(scope="module")
def picking():
    task = load_task("ToyPick-v0")
    return task, run_nominal(task, 0)


def candidates(picking, mode, stage, magnitude, step, **drawn):
    task, nominal = picking
    name = nominal.record.spans[stage].name
    failing = run_perturbed(
        task, nominal, (Perturbation(mode, stage, name, 0.0, magnitude, "", **drawn),)
    ).trace
    task.simulator.reset(0)
    live = RolloutRunner(task.simulator)
    assert live.replay(failing, step)
    live.restart_from_measured_pose()
    before = task.simulator.state()
    found = propose(task, nominal, failing, step, live)
    assert task.simulator.state().tobytes() == before.tobytes()  # asked, not moved
    return found, failing


@pytest.mark.parametrize(
    ("mode", "stage", "magnitude", "drawn"),
    [
        ("translation_x", 0, 0.08, {}),
        ("gripper_stays_open", 2, 0.0, {}),
        ("object_pushed", 0, 0.1, {"direction": 1.0, "object": "box"}),
        ("object_dropped", 4, 0.0, {"object": "box"}),
    ],
)
@pytest.mark.parametrize("step", [12, 30, 45, 50])
def test_candidates_come_shortest_first(picking, mode, stage, magnitude, drawn, step):
    found, failing = candidates(picking, mode, stage, magnitude, step, **drawn)
    counts = [len(candidate.actions) for candidate in found]
    assert counts == sorted(counts)
    assert min(counts, default=1) >= 1
    assert max(counts, default=1) <= round(MAX_SECONDS * 20)
    for candidate in found:
        assert (candidate.resume_index >= 0) is (candidate.strategy is RecoveryStrategy.NOMINAL_PATH)
        end = failing.tcp_poses[step].astype(float)
        for action in candidate.actions:
            end = poses.apply_delta(end, action[:6])
        if candidate.strategy is RecoveryStrategy.NOMINAL_PATH:
            path = picking[1].trace.tcp_poses.astype(float)
            assert min(max(poses.distance(end, pose)) for pose in path) < 1e-6


def test_a_scene_that_is_intact_is_led_back_to_the_nominal_path(picking):
    found, _ = candidates(picking, "translation_x", 0, 0.08, 12)
    stages = [c.resume_stage for c in found if c.strategy is RecoveryStrategy.NOMINAL_PATH]
    assert set(stages) == {"reach", "grasp", "close gripper"}


def test_an_object_that_has_moved_needs_a_fresh_plan(picking):
    found, failing = candidates(picking, "object_pushed", 0, 0.1, 15, direction=1.0, object="box")
    assert {c.strategy for c in found} == {RecoveryStrategy.FRESH_PLAN, RecoveryStrategy.FRESH_PLAN_VIA_LIFT}
    straight = next(c for c in found if c.strategy is RecoveryStrategy.FRESH_PLAN)
    assert straight.resume_stage == "reach"
    end = failing.tcp_poses[15, :2] + np.sum([row[:2] for row in straight.actions], axis=0)
    np.testing.assert_allclose(end, failing.objects[15, 0, :2], atol=1e-5)  # above where the box now is


def test_what_is_carried_can_be_set_down(picking):
    found, failing = candidates(picking, "slip", 3, 0.02, 45, object="box")
    down = next(c for c in found if c.strategy is RecoveryStrategy.SET_DOWN_AND_RETRY)
    heights = np.cumsum([row[2] for row in down.actions])
    assert heights.min() == pytest.approx(0.025 - failing.objects[45, 0, 2], abs=1e-5)
    released = next(i for i, row in enumerate(down.actions) if row[6] == OPEN)
    assert heights[released - 1] == pytest.approx(heights.min())


def test_an_expert_without_a_plan_leaves_only_the_nominal_path(picking):
    class Lost:
        def solve(self, runner):
            raise PlanError("expected a plan, got none")

    task, nominal = picking
    found, _ = candidates((dataclasses.replace(task, expert=Lost()), nominal), "translation_x", 0, 0.08, 12)
    assert {c.strategy for c in found} == {RecoveryStrategy.NOMINAL_PATH}
