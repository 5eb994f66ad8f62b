"""Branches: a rollout runner that starts from the state of a recorded rollout at one of its steps.

An adapter declares how its rollouts are branched exactly. RESTORE: the recorded state is put back. REPLAY:
the recorded commands are repeated from the same reset. A proof needs an exact branch. Where an error of
millimetres is acceptable (noisy rollouts, screening), the recorded state is put back whatever the adapter
declares, because that takes no physics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.errors import DivergedError
from failsafe.records.case import BranchMethod
from failsafe.records.trace import Trace
from failsafe.rollouts.hooks import Hook
from failsafe.rollouts.loop import repeat
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import Exactness, Simulator

_CHECKED_STEPS = 2
"""Control steps after which the restored end of a rollout is judged: contacts exist only after a step."""


@dataclass(frozen=True)
class Branch:
    """A rollout that continues a recorded one.

    Attributes:
        runner: The runner, which counts its commands from the measured tool pose.
        method: How the state was reached.
        exact: Whether the state is the recorded one, bit for bit, and the future that of the recorded rollout
            under the same commands.
        prefix: The recorded steps that the runner's own trace does not hold.
    """

    runner: RolloutRunner
    method: BranchMethod
    exact: bool
    prefix: Trace | None = None

    def trace(self) -> Trace:
        """Return the whole rollout: the recorded prefix, then what the runner did."""
        rest = self.runner.trace()
        return rest if self.prefix is None else _join(self.prefix, rest)


def branch(
    simulator: Simulator,
    seed: int,
    trace: Trace,
    step: int,
    hooks: Sequence[Hook] = (),
    *,
    exact: bool = True,
    more_steps: int = 1000,
    record: bool = True,
) -> Branch:
    """Return a runner in the state of a recorded rollout at a step.

    Args:
        simulator: The simulator that the rollout was recorded in; its present episode ends.
        seed: Seed of the rollout's initial state.
        trace: The recorded rollout.
        step: Control step before whose command the branch begins, 0 to T.
        hooks: What acts along the control loop of the branch. Hooks never act on the prefix.
        exact: Whether the branch must have the recorded rollout's future. If False, the state is restored
            even where the adapter declares REPLAY.
        more_steps: Control steps after which the branch is over.
        record: Keep the branch as a trace. If False, `Branch.trace` is not available.

    Returns:
        The branch. `Branch.exact` says whether the state was reached exactly.

    Raises:
        DivergedError: If the physics diverges in a replayed prefix.
    """
    simulator.reset(seed)
    declared = simulator.spec.exactness
    if exact and declared is Exactness.REPLAY:
        runner = RolloutRunner(simulator, hooks, max_steps=step + more_steps, record=record)
        same = runner.replay(trace, step)
        runner.restart_from_measured_pose()
        return Branch(runner, BranchMethod.REPLAY, same)
    simulator.restore(trace.states[step])
    same = simulator.state().tobytes() == trace.states[step].tobytes()
    runner = RolloutRunner(simulator, hooks, max_steps=more_steps, record=record)
    if step:
        runner.gripper = float(trace.gripper_commands[step - 1])
    return Branch(runner, BranchMethod.RESTORE, same and declared is Exactness.RESTORE, _prefix(trace, step))


def restores_closely(simulator: Simulator, seed: int, trace: Trace) -> bool:
    """Return whether restored states of a task are good enough for noisy rollouts and screening.

    A task may keep something outside the physics, such as the dots of a drawing. Then a restored state is
    another one, however near the poses are. Test on a successful rollout: its end, restored, must be judged a
    success as well. The values of a task that the adapter's tests do not cover are unknown, so its states are
    never restored.

    Args:
        simulator: The simulator that the rollout was recorded in; its present episode ends.
        seed: Seed of the rollout's initial state.
        trace: A rollout that ended in success.
    """
    if simulator.spec.exactness is Exactness.RESTORE:
        return True
    if not simulator.spec.checked:
        return False
    start = max(0, len(trace) - _CHECKED_STEPS)
    simulator.reset(seed)
    simulator.restore(trace.states[start])
    try:
        for _ in repeat(simulator, trace, start, len(trace)):
            pass
    except DivergedError:
        return False
    return simulator.evaluate().success


def _prefix(trace: Trace, step: int) -> Trace:
    """Return the first `step` control steps of a trace."""
    return Trace(
        commands=trace.commands[:step],
        targets=trace.targets[:step],
        gripper_commands=trace.gripper_commands[:step],
        stages=trace.stages[:step],
        tcp_poses=trace.tcp_poses[: step + 1],
        gripper_widths=trace.gripper_widths[: step + 1],
        objects=trace.objects[: step + 1],
        states=trace.states[: step + 1],
        disturbances=tuple((at, d) for at, d in trace.disturbances if at < step),
    )


def _join(prefix: Trace, rest: Trace) -> Trace:
    """Return one trace of two, where `rest` begins in the last state of `prefix`."""

    def steps(name: str) -> np.ndarray:
        return np.concatenate([getattr(prefix, name), getattr(rest, name)])

    def states(name: str) -> np.ndarray:
        return np.concatenate([getattr(prefix, name), getattr(rest, name)[1:]])

    return Trace(
        commands=steps("commands"),
        targets=steps("targets"),
        gripper_commands=steps("gripper_commands"),
        stages=steps("stages"),
        tcp_poses=states("tcp_poses"),
        gripper_widths=states("gripper_widths"),
        objects=states("objects"),
        states=states("states"),
        disturbances=(*prefix.disturbances, *((len(prefix) + at, d) for at, d in rest.disturbances)),
    )
