"""Demonstrations from a dataset: its proven recoveries, and nominal rollouts from the same initial states.

A policy that is trained further on them sees the data that a recovery model learns from, as far as a policy
can imitate it: the failing rollouts are no demonstrations.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from failsafe.datasets.manifest import check_task_code
from failsafe.datasets.mined import read_source
from failsafe.datasets.store import Dataset
from failsafe.errors import UserError
from failsafe.execution.contract import SILENT, Executor, Reporter, ignore
from failsafe.experts.tasks import Task, load_task
from failsafe.imports import names_from_files
from failsafe.records.case import EXPERT, Outcome
from failsafe.records.files import exists
from failsafe.records.seeds import check_trainable
from failsafe.samples.demonstrate import DemonstrationWriter, demonstration_folder
from failsafe.samples.demonstrations import DemonstrationConfig


class Recovery(NamedTuple):
    """One rollout of a dataset that is a demonstration.

    Attributes:
        case_id: Name of the case; empty for the nominal rollout.
        rollout: Name of the recovered rollout.
        step: Control step at which its correction begins, and the demonstration.
    """

    case_id: str
    rollout: str
    step: int

    @property
    def name(self) -> str:
        """Name of the demonstration, unique for its task and seed; empty for the nominal rollout."""
        return f"{self.case_id.rpartition('-')[2]}-{self.step:04d}" if self.case_id else ""


class StateRecoveries(NamedTuple):
    """The demonstrations of one initial state.

    Attributes:
        task: Name of the task.
        seed: Seed of the initial state.
        recoveries: The demonstrations, the nominal rollout first.
    """

    task: str
    seed: int
    recoveries: tuple[Recovery, ...]


def build_recovery_demonstrations(
    source: Path,
    config: DemonstrationConfig,
    out: Path,
    executor: Executor,
    callback: Callable[[int, int], None] = ignore,
) -> int:
    """Make a set of demonstrations from a dataset, or what is missing of one.

    Args:
        source: Folder of the dataset, generated or mined.
        config: What the set contains; its `tasks`, where there are any, are chosen from those of the dataset.
            `dataset` and `first_seed` are filled in.
        out: Folder of the set.
        executor: Renders the demonstrations.
        callback: Called with the number of episodes done so far and in total.

    Returns:
        Number of episodes, recoveries and nominal rollouts.

    Raises:
        UserError: If the dataset has no proven recovery, is of seeds kept for calibration or proof, was made
            by other code of a task, or `out` holds something else.
        RecordError: If a case is damaged.
    """
    with names_from_files():
        return _build(source, config, out, executor, callback)


def _build(
    source: Path,
    config: DemonstrationConfig,
    out: Path,
    executor: Executor,
    callback: Callable[[int, int], None],
) -> int:
    dataset = Dataset(source)
    dataset.require()
    command, seeds = read_source(source)
    check_trainable(seeds)
    check_task_code(source)
    states = find_recoveries(dataset, config.tasks, config.episodes)
    found = Counter[str]()
    for state in states:
        found[state.task] += len(state.recoveries)
    if missing := [task for task in config.tasks if task not in found] or ([] if found else ["any task"]):
        raise UserError(
            f"expected proven recoveries of {', '.join(missing)} in {source}, got none: make more failures "
            "with `failsafe generate`"
        )
    config = replace(config, tasks=tuple(sorted(found)), dataset=command, first_seed=seeds.start)
    with demonstration_folder(config, out, found):
        done = 0

        def count(state: StateRecoveries) -> None:
            nonlocal done
            done += len(state.recoveries)
            callback(done, found.total())

        executor.run(RecoveryJob(source, DemonstrationWriter(config, out)), states, count)
    return found.total()


def find_recoveries(dataset: Dataset, tasks: Sequence[str] = (), most: int = 0) -> list[StateRecoveries]:
    """Find the proven recoveries of a dataset with the expert going on, and the nominal rollouts beside them.

    Args:
        dataset: The dataset.
        tasks: Names of the tasks; empty for all.
        most: Largest number of recoveries of each task, the first ones by seed and name; 0 for all.
    """
    cases = [case for case in dataset.cases() if not tasks or case.task in tasks]
    cases = [case for case in cases if case.outcome is Outcome.FAILURE]
    found = [
        (case.task, case.seed, Recovery(case.case_id, label.recovery, label.step))
        for case in sorted(cases, key=lambda case: (case.task, case.seed, case.case_id))
        for label in case.labels
        if label.proven and label.recovery and label.verification.continuation == EXPERT
    ]
    states: list[StateRecoveries] = []
    for _, of_task in itertools.groupby(found, key=lambda item: item[0]):
        chosen = list(of_task)[: most or None]
        for (task, seed), group in itertools.groupby(chosen, key=lambda item: item[:2]):
            nominal = Recovery("", "", 0)
            states.append(StateRecoveries(task, seed, (nominal, *(recovery for _, _, recovery in group))))
    return states


class RecoveryJob:
    """Renders the demonstrations of one initial state after the other.

    Args:
        source: Folder of the dataset.
        writer: Writes them.
    """

    def __init__(self, source: Path, writer: DemonstrationWriter) -> None:
        self._source = source
        self._writer = writer
        self.folders = (source, writer.folder)
        self._tasks: dict[str, Task] = {}

    def run(self, item: StateRecoveries, reporter: Reporter = SILENT) -> None:
        """Render the demonstrations of a state unless they are stored. See `Job.run`."""
        task, seed, recoveries = item
        missing = [r for r in recoveries if not exists(self._writer.path(task, seed, r.name))]
        if not missing:
            return
        if task not in self._tasks:
            self._tasks[task] = load_task(task)
        simulator, dataset = self._tasks[task].simulator, Dataset(self._source)
        simulator.reset(seed)
        for case_id, rollout, step in missing:
            trace = dataset.traces(task, case_id)[rollout] if case_id else dataset.nominal(task, seed)[1]
            path = self._writer.path(task, seed, Recovery(case_id, rollout, step).name)
            self._writer.write_from(step, simulator, path, trace)

    def give_up(self, item: StateRecoveries, part: str = "") -> bool:
        """Leave out a state; reading the set names the gap. See `Job.give_up`."""
        return False
