"""The rollout runner, on the toy: what reaches the simulator, and what is recorded."""

import numpy as np
import pytest

from failsafe.errors import PlanError
from failsafe.experts.contract import PlanExpert
from failsafe.experts.toy import ToyStackExpert
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN, Stage, StagePlan
from failsafe.records.trace import Disturbance
from failsafe.rollouts.hooks import Command, Hook, StepContext
from failsafe.rollouts.loop import NO_STAGE
from failsafe.rollouts.noise import ActuationNoise
from failsafe.rollouts.runner import SETTLE_SECONDS, RolloutRunner
from failsafe.simulators.contract import Observation
from failsafe.simulators.toy import ToyPick, ToyStack

STEPS = round(SETTLE_SECONDS * 20)
HOME = (0.45, 0.0, 0.28, 0.0, 1.0, 0.0, 0.0)


def stage(x: float, y: float, z: float, gripper: float = OPEN, hold: int = 0, speed: float = 1.0) -> Stage:
    return Stage("go", (x, y, z, 0.0, 1.0, 0.0, 0.0), gripper, hold, speed)


@pytest.fixture
def runner() -> RolloutRunner:
    sim = ToyPick()
    sim.reset(0)
    return RolloutRunner(sim)


def test_a_stage_is_a_straight_line_in_equal_steps_then_the_hold(runner):
    runner.do(stage(0.546, 0.0, 0.28, hold=3))
    trace = runner.trace()
    assert len(trace) == 4 + 3  # 0.096 m at 0.025 m a step
    np.testing.assert_allclose(
        trace.targets[:, 0], [0.474, 0.498, 0.522, 0.546, 0.546, 0.546, 0.546], atol=1e-6
    )
    np.testing.assert_allclose(trace.targets[:, 1:], np.tile(HOME[1:], (7, 1)), atol=1e-6)
    assert trace.tcp_poses[-1, 0] == pytest.approx(0.546, abs=2e-3)


def test_half_the_speed_takes_twice_the_steps(runner):
    runner.do(stage(0.546, 0.0, 0.28, speed=0.5))
    assert runner.step_count == 8


def test_spans_say_what_each_stage_did():
    sim = ToyPick()
    sim.reset(0)
    runner = RolloutRunner(sim, watch_grip=True)
    box = runner.observation.objects[0]
    yaw = poses.to_rotation_vector(box[3:])[2]
    down = tuple(poses.pose([*box[:2], 0.028], [0.0, np.cos(yaw / 2), np.sin(yaw / 2), 0.0]))
    up = (*down[:2], 0.2, *down[3:])
    for s in (
        Stage("reach", up, OPEN, 2),
        Stage("grasp", down, OPEN, 2),
        Stage("close gripper", down, CLOSED, 8),
        Stage("lift", up, CLOSED, 2),
    ):
        runner.do(s)
    reach, grasp, close, lift = runner.spans
    assert [s.name for s in runner.spans] == ["reach", "grasp", "close gripper", "lift"]
    assert reach.start == 0
    assert (grasp.start, close.start) == (reach.stop, grasp.stop)
    assert lift.stop == runner.step_count
    assert grasp.travel == pytest.approx(0.172, abs=2e-3)
    assert close.closes
    assert [s.closes or s.opens for s in runner.spans] == [False, False, True, False]
    assert (close.held, close.held_after, lift.held_after) == ((), ("box",), ("box",))
    assert runner.trace().stages.tolist() == [i for i, s in enumerate(runner.spans) for _ in range(s.steps)]


def test_a_trace_has_one_state_more_than_commands(runner):
    runner.do(stage(0.5, 0.0, 0.2, hold=1))
    runner.settle(STEPS)
    trace = runner.trace()
    steps = 4 + 1 + STEPS
    assert len(trace) == steps
    assert trace.commands.shape == (steps, 8)
    assert trace.states.shape == (steps + 1, 30)
    assert trace.objects.shape == (steps + 1, 2, 7)
    np.testing.assert_array_equal(trace.states[-1], runner.simulator.state())
    np.testing.assert_array_equal(trace.targets[-STEPS:], np.tile(trace.targets[4], (STEPS, 1)))


def test_settling_stops_at_rest_and_goes_on_while_something_moves(runner):
    runner.do(stage(0.5, 0.0, 0.2, hold=8))
    before = runner.step_count
    runner.settle()
    assert runner.step_count - before == 3  # 0.15 s at rest
    runner.settle(5)
    assert runner.step_count - before == 8

    class Spin(Hook):
        def disturb(self, context):
            return [Disturbance("box", (0.0, 0.0, 0.0, 0.0, 0.0, 0.5))]

    sim = ToyPick()
    sim.reset(0)
    moving = RolloutRunner(sim, [Spin()])
    moving.settle()
    assert moving.step_count == STEPS


def test_an_action_moves_on_from_the_pose_commanded_before(runner):
    delta = np.array([0.01, 0.0, -0.02, 0.0, 0.0, 0.1])
    runner.act(delta, CLOSED)
    runner.act(delta, CLOSED)
    trace = runner.trace()
    np.testing.assert_allclose(trace.targets[:, :3], [[0.46, 0.0, 0.26], [0.47, 0.0, 0.24]], atol=1e-6)
    turned = poses.delta_between(np.array(HOME), trace.targets[-1].astype(np.float64))
    np.testing.assert_allclose(turned[3:], [0.0, 0.0, 0.2], atol=1e-6)
    assert trace.gripper_commands.tolist() == [-1.0, -1.0]
    assert trace.stages.tolist() == [NO_STAGE] * 2


def test_a_rollout_replays_bit_for_bit():
    sim = ToyStack()
    sim.reset(4)
    runner = RolloutRunner(sim)
    ToyStackExpert().solve(runner)
    trace = runner.trace()
    for steps in (0, 1, len(trace) // 2, len(trace)):
        sim.reset(4)
        again = RolloutRunner(sim)
        assert again.replay(trace, steps)
        assert again.step_count == steps
    assert again.trace().same_states(trace)
    sim.reset(5)
    assert not RolloutRunner(sim).replay(trace, 5)


def test_a_replay_gives_the_disturbances_again():
    class Push(Hook):
        def disturb(self, context: StepContext):
            return [Disturbance("box", (0.3, 0.0, 0.0, 0.0, 0.0, 0.0))] if context.step in (2, 3) else ()

    sim = ToyPick()
    sim.reset(0)
    runner = RolloutRunner(sim, [Push()])
    runner.do(stage(0.5, 0.1, 0.2, hold=4))
    trace = runner.trace()
    assert [step for step, _ in trace.disturbances] == [2, 3]
    assert trace.objects[4, 0, 0] - trace.objects[2, 0, 0] == pytest.approx(0.03, abs=1e-6)
    sim.reset(0)
    assert RolloutRunner(sim).replay(trace, len(trace))


def test_after_a_replay_actions_go_on_from_the_last_command(runner):
    runner.do(stage(0.55, 0.0, 0.28, CLOSED))
    trace = runner.trace()
    runner.simulator.reset(0)
    again = RolloutRunner(runner.simulator)
    again.replay(trace, 2)
    again.act(np.zeros(6), again.gripper)
    assert again.gripper == CLOSED
    np.testing.assert_allclose(again.trace().targets[2], trace.targets[1], atol=1e-6)
    again.restart_from_measured_pose()
    again.act(np.zeros(6), OPEN)
    np.testing.assert_allclose(again.trace().targets[3], again.trace().tcp_poses[3], atol=1e-6)


def test_an_interceptor_sees_every_command_and_may_change_it():
    class Lower(Hook):
        seen: list[StepContext]

        def __init__(self) -> None:
            self.seen = []

        def before_step(self, context: StepContext, command: Command) -> Command:
            self.seen.append(context)
            return Command(command.target - np.array([0, 0, 0.01, 0, 0, 0, 0]), CLOSED)

    sim = ToyPick()
    sim.reset(0)
    lower = Lower()
    runner = RolloutRunner(sim, [lower])
    runner.do(stage(0.49, 0.0, 0.28, hold=1))
    runner.do(stage(0.49, 0.02, 0.28))
    assert [(m.step, m.stage, m.stage_step, m.stage_steps) for m in lower.seen] == [
        (0, 0, 0, 3),
        (1, 0, 1, 3),
        (2, 0, 2, 3),
        *((3 + i, 1, i, len(lower.seen) - 3) for i in range(len(lower.seen) - 3)),
    ]
    trace = runner.trace()
    np.testing.assert_allclose(trace.targets[:3, 2], [0.27, 0.27, 0.27], atol=1e-6)
    assert (trace.gripper_commands == CLOSED).all()


def test_what_an_interceptor_asks_for_is_bound_by_the_step_limits():
    class Leap(Hook):
        def before_step(self, context: StepContext, command: Command) -> Command:
            return Command(poses.apply_delta(command.target, [0.3, 0.4, 0.0, 0.0, 0.0, 1.0]), command.gripper)

    sim = ToyPick()
    sim.reset(0)
    runner = RolloutRunner(sim, [Leap()])
    runner.do(Stage("stay", HOME, OPEN, 1))
    delta = poses.delta_between(np.array(HOME), runner.trace().targets[0].astype(np.float64))
    np.testing.assert_allclose(delta, [0.015, 0.02, 0.0, 0.0, 0.0, 0.125], atol=1e-6)


def test_an_interceptor_that_does_nothing_changes_nothing():
    """Also where a contact has stopped the tool far from where it was told to be."""
    plan = StagePlan("", (stage(0.3, 0.2, -0.08, hold=2), stage(0.3, 0.2, 0.2), stage(0.6, -0.2, 0.2)))
    traces = []
    for hooks in ((), (Hook(),)):
        sim = ToyPick()
        sim.reset(0)
        runner = RolloutRunner(sim, hooks)
        PlanExpert(plan).solve(runner)
        traces.append(runner.trace())
    assert traces[0].same_states(traces[1])


def test_a_plan_can_be_taken_up_in_its_middle(runner):
    plan = StagePlan("", (stage(0.4, 0.0, 0.28), stage(0.5, 0.0, 0.28), stage(0.5, 0.1, 0.28)))
    later = RolloutRunner(runner.simulator, first_stage=1)
    PlanExpert(plan, start=1).solve(later)
    assert len(later.stages) == 2
    assert sorted(set(later.trace().stages.tolist())) == [1, 2]
    later.settle(1)
    assert later.trace().stages[-1] == 2


def test_a_rollout_that_does_not_end_is_a_plan_that_failed():
    sim = ToyPick()
    runner = RolloutRunner(sim, max_steps=5)
    with pytest.raises(PlanError, match=r"^the rollout was not over after 5 control steps$"):
        runner.do(stage(0.5, 0.0, 0.28, hold=10))
    assert runner.step_count == 5


def test_a_rollout_without_a_record_ends_in_the_same_state_and_observes_less():
    class Counted(ToyPick):
        observed = 0

        def observe(self) -> Observation:
            self.observed += 1
            return super().observe()

    ends, observed = [], []
    for record in (True, False):
        sim = Counted()
        sim.reset(0)
        runner = RolloutRunner(sim, [ActuationNoise(np.random.default_rng(0))], record=record)
        runner.do(stage(0.55, 0.0, 0.28, CLOSED))
        ends.append((runner.step_count, sim.state().tobytes()))
        observed.append(sim.observed)
    assert ends[0] == ends[1]
    assert observed[1] <= 3 < observed[0]
    with pytest.raises(ValueError, match="record=False"):
        runner.trace()
