"""The recovery oracle of evaluations: the shortest correction from the state of a running episode."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from failsafe.experts.tasks import Task
from failsafe.generation.candidates import CandidateStatistics
from failsafe.generation.continuations import ExpertContinuation
from failsafe.generation.corrections import propose
from failsafe.generation.nominal import NominalRollout
from failsafe.generation.verification import carry_out, most_steps
from failsafe.records.trace import Trace
from failsafe.rollouts.branching import Branch, branch


def recover_now(
    task: Task, nominal: NominalRollout, state: Float32[np.ndarray, "S"], gripper: float
) -> Trace | None:
    """Return the shortest recovery from a state of an episode, found by trying candidates out.

    The state is restored. Where the simulator does not restore exactly, the error is millimetres: good enough
    for an oracle in an evaluation, not for a label.

    Args:
        task: The task, with a simulator that runs no episode.
        nominal: The nominal rollout of the episode's initial state.
        state: The simulator's state now. [S]
        gripper: Gripper command given last, -1 (closed) to +1 (open).

    Returns:
        The recovered rollout, whose first steps are the correction; None if no candidate ends in success.
    """
    simulator, seed = task.simulator, nominal.record.seed
    simulator.reset(seed)
    before = simulator.observe()
    simulator.restore(state)
    now = simulator.observe()
    # A recorded rollout of one step, from the initial state to the present one.
    episode = Trace(
        commands=np.zeros((1, simulator.spec.command_size), dtype=np.float32),
        targets=now.tcp_pose[None].astype(np.float32),
        gripper_commands=np.array([gripper], dtype=np.float32),
        stages=np.zeros(1, dtype=np.int16),
        tcp_poses=np.stack([before.tcp_pose, now.tcp_pose]).astype(np.float32),
        gripper_widths=np.array([before.gripper_width, now.gripper_width], dtype=np.float32),
        objects=np.stack([before.objects, now.objects]).astype(np.float32),
        states=np.stack([nominal.trace.states[0], state]),
    )
    more_steps = most_steps(nominal, simulator.spec.embodiment)

    def begin() -> Branch:
        return branch(simulator, seed, episode, 1, exact=False, more_steps=more_steps)

    expert = ExpertContinuation(task, nominal, episode)
    candidates = propose(task, nominal, episode, 1, begin().runner)
    for candidate in CandidateStatistics().select("", candidates):
        runner = begin().runner
        if carry_out(task, expert, candidate, runner)[0]:
            return runner.trace()
    return None
