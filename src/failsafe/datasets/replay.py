"""Re-run a stored episode from its record, and compare every state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from failsafe.datasets.store import Dataset
from failsafe.experts.tasks import Task
from failsafe.records.case import FailureCase
from failsafe.records.trace import Trace
from failsafe.simulators.contract import Simulator


@dataclass(frozen=True)
class Replay:
    """What a replay showed.

    Attributes:
        rollout: Name of the rollout: "nominal", "failing", "recovery_0" and so on.
        steps: Its control steps.
        same: Whether every state was the recorded one, bit for bit.
        first_difference: First state that was not, None if all were.
        largest_difference: Largest difference of any number of any state.
    """

    rollout: str
    steps: int
    same: bool
    first_difference: int | None
    largest_difference: float


def replay_case(dataset: Dataset, task: Task, case: FailureCase) -> list[Replay]:
    """Replay a work item's nominal twin, its failing rollout and its recoveries.

    Args:
        dataset: Where it is stored.
        task: Its task.
        case: The work item.
    """
    traces = {"nominal": dataset.nominal(case.task, case.seed)[1]}
    traces |= dataset.traces(case.task, case.case_id)
    return [replay_trace(task.simulator, case.seed, name, trace) for name, trace in traces.items()]


def replay_trace(simulator: Simulator, seed: int, name: str, trace: Trace) -> Replay:
    """Give a simulator the recorded commands and disturbances again, from the same seed."""
    simulator.reset(seed)
    states = [simulator.state()]
    for step in range(len(trace)):
        simulator.step(trace.commands[step], trace.disturbances_at(step))
        states.append(simulator.state())
    again = np.stack(states)
    different = np.flatnonzero(np.any(again != trace.states, axis=1))
    return Replay(
        rollout=name,
        steps=len(trace),
        same=again.tobytes() == trace.states.tobytes(),
        first_difference=int(different[0]) if len(different) else None,
        largest_difference=float(np.max(np.abs(again - trace.states))),
    )
