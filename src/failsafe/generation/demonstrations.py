"""Record demonstrations: nominal rollouts of the expert from many initial states, without failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from failsafe.errors import UserError
from failsafe.execution.contract import SILENT, Executor, Reporter, ignore
from failsafe.experts.own_step import TaskLoader
from failsafe.generation.nominal import run_nominal
from failsafe.records.trace import Trace
from failsafe.simulators.contract import Simulator

SPARE_SEEDS = 20
"""Seeds tried beyond twice the number of episodes before a task is given up: experts fail on some."""


@runtime_checkable
class DemonstrationSink(Protocol):
    """Where demonstrations are stored; it is sent to the processes.

    Attributes:
        folder: The folder that all of them are in.
    """

    folder: Path

    def has(self, task: str, seed: int) -> bool:
        """Whether the demonstration of a task and seed is stored.

        Args:
            task: Name of the task.
            seed: Seed of the episode.
        """
        ...

    def write(self, simulator: Simulator, task: str, seed: int, trace: Trace) -> None:
        """Store a demonstration; the simulator has been reset to its seed and may render it.

        Args:
            simulator: The simulator, reset to the seed of the episode.
            task: Name of the task.
            seed: Seed of the episode.
            trace: Commands and states of the episode.
        """
        ...


def record_demonstrations(
    tasks: Sequence[str],
    episodes: int,
    first_seed: int,
    sink: DemonstrationSink,
    executor: Executor,
    callback: Callable[[int, int], None] = ignore,
) -> int:
    """Let the expert solve every task until enough episodes succeed; stored ones are not run again.

    Args:
        tasks: Names of the tasks.
        episodes: Successful episodes of each task.
        first_seed: Seed of the first episode. Seeds that the expert fails on, or that kill their worker
            twice, are skipped.
        sink: Where to store the demonstrations.
        executor: Runs the episodes.
        callback: Called with the number of episodes done so far and in total.

    Returns:
        Number of episodes.

    Raises:
        UserError: If the expert of a task fails on too many seeds.
    """
    seeds = range(first_seed, first_seed + 2 * episodes + SPARE_SEEDS)
    job = DemonstrationJob(sink)
    tried, succeeded = dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 0)

    def count(task: str) -> None:
        succeeded[task] += 1
        callback(sum(succeeded.values()), episodes * len(tasks))

    # Each round tries as many further seeds as failed in the round before. So the first successful seeds of a
    # task are recorded, whatever the executor and the number of workers.
    while True:
        items: list[DemonstrationItem] = []
        for task in tasks:
            batch = seeds[tried[task] :][: episodes - succeeded[task]]
            items += [DemonstrationItem(task, seed) for seed in batch]
            tried[task] += len(batch)
        if not items:
            break
        executor.run(job, items, on_message=count)
    for task, number in succeeded.items():
        if number < episodes:
            raise UserError(
                f"expected {episodes} successful episodes of {task}, got {number} from {len(seeds)} "
                "seeds: ask for fewer, or give the task a better expert"
            )
    return episodes * len(tasks)


class DemonstrationItem(NamedTuple):
    """One episode to record.

    Attributes:
        task: Name of the task.
        seed: Seed of the initial state.
    """

    task: str
    seed: int


class DemonstrationJob:
    """Records one episode after the other, and reports the task of each that succeeded.

    Args:
        sink: Where to store the demonstrations; sent to the workers.
    """

    def __init__(self, sink: DemonstrationSink) -> None:
        self._sink = sink
        self.folders = (sink.folder,)
        self._tasks = TaskLoader()

    def run(self, item: DemonstrationItem, reporter: Reporter = SILENT) -> None:
        """Record an episode unless it is stored. See `Job.run`."""
        if self._sink.has(item.task, item.seed) or self._record(item):
            reporter.report(item.task)

    def give_up(self, item: DemonstrationItem, part: str = "") -> bool:
        """Treat a seed that killed its worker twice like one that the expert fails on. See `Job.give_up`."""
        return False

    def _record(self, item: DemonstrationItem) -> bool:
        """Return whether the expert succeeded."""
        task = self._tasks.load(item.task, item.seed)
        nominal = run_nominal(task, item.seed)
        if nominal.record.success:
            self._sink.write(task.simulator, item.task, item.seed, nominal.trace)
        return nominal.record.success
