"""Replay stored rollouts and compare every state with the recorded one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from failsafe.records.trace import Trace
from failsafe.rollouts.loop import repeat
from failsafe.simulators.contract import Simulator


@dataclass(frozen=True)
class Replay:
    """The result of a replay.

    Attributes:
        rollout: Name of the rollout: "nominal", "failing", "recovery_0" and so on.
        steps: Its number of control steps.
        same: Whether every state equals the recorded one, bit for bit.
        first_difference: Index of the first state that differs, None if none does.
        largest_difference: Largest absolute difference of any entry of any state.
    """

    rollout: str
    steps: int
    same: bool
    first_difference: int | None
    largest_difference: float


def replay_traces(simulator: Simulator, seed: int, traces: Mapping[str, Trace]) -> list[Replay]:
    """Replay several rollouts from the same initial state.

    Args:
        simulator: Simulator of the task.
        seed: Seed of the initial state.
        traces: The rollouts by name.

    Returns:
        One result for each rollout, in the order of `traces`.
    """
    return [replay_trace(simulator, seed, name, trace) for name, trace in traces.items()]


def replay_trace(simulator: Simulator, seed: int, name: str, trace: Trace) -> Replay:
    """Reset to the seed, apply the recorded commands and disturbances, and compare the states.

    Args:
        simulator: Simulator of the task.
        seed: Seed of the initial state.
        name: Name of the rollout.
        trace: The recorded rollout.
    """
    simulator.reset(seed)
    first, repeated = simulator.state(), repeat(simulator, trace, 0, len(trace))
    replayed = np.stack([first, *(simulator.state() for _ in repeated)])
    different = np.flatnonzero(np.any(replayed != trace.states, axis=1))
    return Replay(
        rollout=name,
        steps=len(trace),
        same=replayed.tobytes() == trace.states.tobytes(),
        first_difference=int(different[0]) if len(different) else None,
        largest_difference=float(np.max(np.abs(replayed - trace.states))),
    )
