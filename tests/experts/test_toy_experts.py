"""The toy's experts: they succeed from the start, and from wherever a failure has left things."""

import math

import numpy as np
import pytest

from failsafe.errors import PlanError
from failsafe.experts.contract import PlanExpert
from failsafe.experts.toy import (
    ToyPickExpert,
    ToyPickPolicy,
    ToyPushExpert,
    ToyStackExpert,
    lying,
    nearest_yaw,
    pointing_down,
    yaw_of,
)
from failsafe.records import poses
from failsafe.records.plan import StagePlan
from failsafe.records.trace import Disturbance
from failsafe.rollouts.hooks import Hook, StepContext
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.toy import TASKS, ToyPick, ToySimulator, ToyStack

EXPERTS = {"ToyPick-v0": ToyPickExpert, "ToyPush-v0": ToyPushExpert, "ToyStack-v0": ToyStackExpert}
STAGES = {
    "ToyPick-v0": ["reach", "grasp", "close gripper", "lift", "move to goal"],
    "ToyPush-v0": ["reach", "lower", "push", "rise"],
    "ToyStack-v0": ["reach", "grasp", "close gripper", "lift", "align", "place", "open gripper", "rise"],
}


class During(Hook):
    """Disturbs the world in the first steps of one stage."""

    def __init__(self, stage: int, steps: int, disturbance: Disturbance) -> None:
        self._stage, self._left, self._disturbance = stage, steps, disturbance

    def disturb(self, context: StepContext):
        if context.stage != self._stage or not self._left:
            return ()
        self._left -= 1
        return [self._disturbance]


def solve(sim: ToySimulator, expert, hooks=()) -> RolloutRunner:
    runner = RolloutRunner(sim, hooks)
    expert.solve(runner)
    runner.settle()
    return runner


@pytest.mark.parametrize("task", sorted(EXPERTS))
def test_the_expert_succeeds_on_99_of_100_seeds(task):
    sim, names, successes = TASKS[task](), [], 0
    for seed in range(100):
        sim.reset(seed)
        runner = solve(sim, EXPERTS[task]())
        successes += sim.evaluate().success
        names.append([stage.name for stage in runner.stages])
    assert successes >= 99
    assert all(n == STAGES[task] for n in names)


@pytest.mark.parametrize("task", sorted(EXPERTS))
def test_its_plan_carried_out_open_loop_does_it_again(task):
    sim = TASKS[task]()
    for seed in range(8):
        sim.reset(seed)
        runner = solve(sim, EXPERTS[task]())
        sim.reset(seed)
        again = solve(sim, PlanExpert(StagePlan("", tuple(runner.stages))))
        assert sim.evaluate().success
        assert again.trace().same_states(runner.trace())


FAILURES = {
    "pushed before the grasp": ("ToyPick-v0", 1, 3, Disturbance("box", (0.2, 0.5, 0.0, 0.0, 0.0, 0.0))),
    "knocked over": ("ToyPick-v0", 1, 2, Disturbance("box", (0.0, 0.0, 0.2, 0.0, 11.0, 0.0))),
    "slipped": ("ToyPick-v0", 4, 30, Disturbance("box", None, 0.0)),
    "torn out": ("ToyPick-v0", 4, 2, Disturbance("box", (0.1, 0.3, -0.1, 2.0, 0.0, 1.0))),
    "pushed before the push": ("ToyPush-v0", 1, 3, Disturbance("box", (-0.2, 0.4, 0.0, 0.0, 0.0, 0.0))),
    "knocked over before the push": ("ToyPush-v0", 1, 3, Disturbance("box", (0.0, 0.0, 0.2, 9.0, 3.0, 0.0))),
    "dropped": ("ToyStack-v0", 4, 3, Disturbance("box_a", (0.3, 0.2, -0.2, -3.0, 0.0, 0.0))),
    "other box pushed": ("ToyStack-v0", 5, 3, Disturbance("box_b", (0.3, 0.0, 0.0, 0.0, 0.0, 0.0))),
    "other box pushed beside": ("ToyStack-v0", 5, 3, Disturbance("box_b", (0.1, 0.17, 0.0, 0.0, 0.0, 0.0))),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_it_recovers_when_asked_again_after_a_failure(failure):
    task, stage, steps, disturbance = FAILURES[failure]
    sim, failed, recovered = TASKS[task](), 0, 0
    for seed in range(8):
        sim.reset(seed)
        plan = StagePlan("", tuple(solve(sim, EXPERTS[task]()).stages))
        sim.reset(seed)
        solve(sim, PlanExpert(plan), [During(stage, steps, disturbance)])
        if sim.evaluate().success:
            continue
        failed += 1
        solve(sim, EXPERTS[task]())
        recovered += sim.evaluate().success
    assert failed >= 3
    assert recovered == failed


def test_it_does_not_run_the_hand_through_things_on_its_way():
    sim = ToyPick()
    sim.reset(2)
    at = sim.observe().objects[0]
    runner = RolloutRunner(sim)
    beside = poses.pose([at[0], at[1] - 0.12, 0.02], [0.0, 1.0, 0.0, 0.0])
    for pose in poses.interpolate(runner.intended, beside, 20):
        sim.step(sim.command(pose, -1.0))
    runner = solve(sim, ToyPickExpert())
    assert runner.stages[0].name == "rise"
    assert sim.evaluate().success


@pytest.mark.parametrize(
    ("task", "name"), [("ToyPick-v0", "box"), ("ToyPush-v0", "box"), ("ToyStack-v0", "box_a")]
)
def test_a_box_out_of_reach_is_a_plan_that_fails(task, name):
    sim = TASKS[task]()
    far = sim.observe().objects[sim.episode.object_index(name)]
    far[:2] = 1.0, 0.3
    sim.reset(0, {name: far})
    with pytest.raises(
        PlanError, match=r"^expected 'box.*' within 0.9 m of the arm's shoulder, got it 1\.\d\d m"
    ):
        EXPERTS[task]().solve(RolloutRunner(sim))


def test_between_boxes_that_lie_close_the_fingers_open_no_wider_than_needed():
    sim = ToyStack()
    side_by_side = {
        "box_a": poses.pose([0.565, 0.073, 0.02], [0.31, 0.0, 0.0, 0.951]),
        "box_b": poses.pose([0.568, 0.018, 0.024], [0.077, 0.0, 0.0, 0.997]),
    }
    sim.reset(0, side_by_side)
    runner = solve(sim, ToyStackExpert())
    assert sim.evaluate().success
    assert -1.0 < runner.stages[0].gripper < 1.0


def test_how_a_box_lies():
    half = (0.03, 0.02, 0.01)
    upright = lying(poses.pose([0, 0, 0], poses.from_rotation_vector([0.0, 0.0, 0.5])), half)
    assert upright == pytest.approx((0.5, 0.03, 0.02, 0.01, 0.0), abs=1e-7)
    on_its_side = lying(poses.pose([0, 0, 0], poses.from_rotation_vector([math.pi / 2, 0.0, 0.0])), half)
    assert on_its_side == pytest.approx((0.0, 0.03, 0.01, 0.02, 0.0), abs=1e-7)
    tilted = lying(poses.pose([0, 0, 0], poses.from_rotation_vector([0.2, 0.0, 0.0])), half)
    assert tilted.tilt == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("now", "wanted", "got"), [(0.0, 0.3, 0.3), (0.0, 3.0, 3.0 - math.pi), (1.5, -1.5, 1.64159)]
)
def test_of_two_yaws_half_a_turn_apart_the_nearer_is_taken(now, wanted, got):
    assert nearest_yaw(pointing_down(0.0, 0.0, 0.0, now), wanted) == pytest.approx(got, abs=1e-5)
    assert yaw_of(pointing_down(0.0, 0.0, 0.0, now)) == pytest.approx(now)


def test_the_closed_loop_policy_succeeds_and_names_no_stage():
    sim, successes = ToyPick(), 0
    for seed in range(30):
        sim.reset(seed)
        runner = solve(sim, ToyPickPolicy())
        successes += sim.evaluate().success
        assert runner.stages == []
        assert max(np.linalg.norm(np.diff(runner.trace().targets[:, :3], axis=0), axis=1)) <= 0.0201
    assert successes >= 29


def test_the_closed_loop_policy_answers_to_a_box_that_moves():
    class Nudge(Hook):
        def disturb(self, context: StepContext):
            return [Disturbance("box", (0.3, 0.2, 0.0, 0.0, 0.0, 0.0))] if context.step == 12 else ()

    sim = ToyPick()
    for seed in range(10):
        sim.reset(seed)
        solve(sim, ToyPickPolicy(), [Nudge()])
        assert sim.evaluate().success


def test_the_closed_loop_policy_gives_up():
    sim = ToyPick()
    sim.reset(0, {"goal": poses.pose([0.5, 0.0, 1.2])})
    with pytest.raises(PlanError, match=r"^expected the box at the goal within 150 steps"):
        ToyPickPolicy().solve(RolloutRunner(sim))
