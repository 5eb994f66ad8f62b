"""Branches, on the toy: exact by restore as it declares, and as if it were exact by replay only."""

import dataclasses

import numpy as np
import pytest

from failsafe.errors import PlanError
from failsafe.experts.toy import ToyPickExpert
from failsafe.records.case import BranchMethod
from failsafe.records.plan import CLOSED
from failsafe.records.trace import Disturbance
from failsafe.rollouts.branching import branch, restores_closely
from failsafe.rollouts.hooks import Hook
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import Exactness
from failsafe.simulators.toy import ToyPick

SEED, STEP = 3, 40


class ReplayedToy(ToyPick):
    """The toy, declared exact by replay only."""

    def __init__(self):
        super().__init__()
        self._spec = dataclasses.replace(self._spec, exactness=Exactness.REPLAY)


class Push(Hook):
    """Pushes the box in the first steps, so that the prefix holds disturbances."""

    def disturb(self, context):
        return [Disturbance("box", (0.02, 0.0, 0.0, 0.0, 0.0, 0.0))] if context.step < 3 else ()


@pytest.fixture(scope="module")
def trace():
    simulator = ToyPick()
    simulator.reset(SEED)
    runner = RolloutRunner(simulator, [Push()])
    ToyPickExpert().solve(runner)
    runner.settle()
    assert simulator.evaluate().success
    return runner.trace()


@pytest.mark.parametrize(
    ("simulator", "exact", "method", "is_exact"),
    [
        (ToyPick, True, BranchMethod.RESTORE, True),
        (ToyPick, False, BranchMethod.RESTORE, True),
        (ReplayedToy, True, BranchMethod.REPLAY, True),
        (ReplayedToy, False, BranchMethod.RESTORE, False),
    ],
)
@pytest.mark.parametrize("step", [0, 1, STEP])
def test_a_branch_is_in_the_recorded_state(trace, simulator, exact, method, is_exact, step):
    simulator = simulator()
    branched = branch(simulator, SEED, trace, step, exact=exact)
    assert (branched.method, branched.exact) == (method, is_exact)
    assert simulator.state().tobytes() == trace.states[step].tobytes()
    np.testing.assert_allclose(branched.runner.intended, trace.tcp_poses[step], atol=1e-6)
    assert branched.runner.gripper == (trace.gripper_commands[step - 1] if step else 1.0)
    assert branched.trace().states.tobytes() == trace.states[: step + 1].tobytes()


@pytest.mark.parametrize("step", [0, STEP])
def test_both_methods_give_the_same_rollout(trace, step):
    found = []
    for simulator in (ToyPick(), ReplayedToy()):
        branched = branch(simulator, SEED, trace, step)
        for _ in range(5):
            branched.runner.act(np.array([0.0, 0.01, 0.01, 0.0, 0.0, 0.0]), CLOSED)
        found.append(branched.trace())
    restored, replayed = found
    assert len(restored) == step + 5
    for field in dataclasses.fields(restored):
        a, b = getattr(restored, field.name), getattr(replayed, field.name)
        if field.name == "disturbances":
            assert a == b == (trace.disturbances if step else ())
        else:
            np.testing.assert_array_equal(a, b, err_msg=field.name)


@pytest.mark.parametrize("simulator", [ToyPick, ReplayedToy])
def test_hooks_do_not_act_on_the_prefix(trace, simulator):
    class Counting(Hook):
        calls = 0

        def before_step(self, context, command):
            self.calls += 1
            return command

    hook = Counting()
    branched = branch(simulator(), SEED, trace, STEP, [hook])
    assert (branched.exact, hook.calls) == (True, 0)
    branched.runner.act(np.zeros(6), CLOSED)
    assert hook.calls == 1


@pytest.mark.parametrize("simulator", [ToyPick, ReplayedToy])
def test_a_branch_ends_after_so_many_more_steps(trace, simulator):
    runner = branch(simulator(), SEED, trace, STEP, more_steps=2).runner
    runner.settle(2)
    with pytest.raises(PlanError):
        runner.settle(1)


def test_a_restored_state_that_is_not_the_recorded_one_is_not_exact(trace):
    class LosesTheLast(ToyPick):
        def restore(self, state):
            super().restore(np.concatenate([state[:-1], [np.float32(0.5)]]).astype(np.float32))

    assert not branch(LosesTheLast(), SEED, trace, STEP).exact


def test_restored_states_are_close_enough_unless_the_task_keeps_more(trace):
    class KeepsMore(ReplayedToy):
        """Success needs the whole episode, as in a drawing task."""

        steps = 0

        def reset(self, seed, objects=None):
            self.steps = 0
            return super().reset(seed, objects)

        def step(self, command, disturbances=()):
            self.steps += 1
            super().step(command, disturbances)

        def evaluate(self):
            judged = super().evaluate()
            return dataclasses.replace(judged, success=judged.success and self.steps >= len(trace))

    assert restores_closely(ToyPick(), SEED, trace)
    assert restores_closely(ReplayedToy(), SEED, trace)
    assert not restores_closely(KeepsMore(), SEED, trace)
