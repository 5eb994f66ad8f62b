"""Record demonstrations: nominal rollouts of the expert from many initial states, without failures."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Protocol, runtime_checkable

from failsafe.errors import UserError
from failsafe.experts.tasks import Task, load_task
from failsafe.generation.nominal import run_nominal
from failsafe.records.trace import Trace
from failsafe.simulators.contract import Simulator

SPARE_SEEDS = 20
"""Seeds tried beyond twice the number of episodes before a task is given up: experts fail on some."""


@runtime_checkable
class DemonstrationSink(Protocol):
    """Where demonstrations are stored; it is sent to the processes."""

    def has(self, task: str, seed: int) -> bool:
        """Whether the demonstration of a task and seed is stored."""
        ...

    def write(self, simulator: Simulator, task: str, seed: int, trace: Trace) -> None:
        """Store a demonstration; the simulator has been reset to its seed and may render it."""
        ...


def record_demonstrations(
    tasks: Sequence[str],
    episodes: int,
    first_seed: int,
    sink: DemonstrationSink,
    workers: int,
    callback: Callable[[int, int], None],
) -> int:
    """Let the expert solve every task until enough episodes succeed; stored ones are not run again.

    Args:
        tasks: Names of the tasks.
        episodes: Successful episodes of each task.
        first_seed: Seed of the first episode; seeds that the expert fails on are skipped.
        sink: Where to store the demonstrations.
        workers: Number of processes.
        callback: Called with the number of episodes done so far and in total.

    Returns:
        Number of episodes.

    Raises:
        UserError: If the expert of a task fails on too many seeds.
    """
    total, done = episodes * len(tasks), 0
    with ProcessPoolExecutor(workers, mp_context=mp.get_context("spawn")) as pool:
        for task in tasks:
            succeeded = 0
            seeds = range(first_seed, first_seed + 2 * episodes + SPARE_SEEDS)
            jobs = [pool.submit(_record_one, sink, task, seed) for seed in seeds[:episodes]]
            spare = iter(seeds[episodes:])
            while jobs and succeeded < episodes:
                if jobs.pop(0).result():
                    succeeded, done = succeeded + 1, done + 1
                    callback(done, total)
                elif (seed := next(spare, None)) is not None:
                    jobs.append(pool.submit(_record_one, sink, task, seed))
            if succeeded < episodes:
                raise UserError(
                    f"expected {episodes} successful episodes of {task}, got {succeeded} from {len(seeds)} "
                    "seeds: ask for fewer, or give the task a better expert"
                )
    return total


_tasks: dict[str, Task] = {}
"""The simulators of a process: making one takes a second."""


def _record_one(sink: DemonstrationSink, task_name: str, seed: int) -> bool:
    """Record one episode; return whether the expert succeeded."""
    if sink.has(task_name, seed):
        return True
    if task_name not in _tasks:
        _tasks[task_name] = load_task(task_name)
    task = _tasks[task_name]
    nominal = run_nominal(task, seed)
    if nominal.record.success:
        sink.write(task.simulator, task_name, seed, nominal.trace)
    return nominal.record.success
