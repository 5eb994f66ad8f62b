"""One partition of a run: from its first target to its last, resuming from what is stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from failsafe.errors import FailSafeError, UserError
from failsafe.execution.contract import SILENT, Reporter
from failsafe.experts.own_step import TaskLoader
from failsafe.experts.tasks import Task
from failsafe.generation.candidates import CandidateStatistics
from failsafe.generation.cases import CaseSpec, build_case, make_unjudged_case
from failsafe.generation.config import GenerationConfig
from failsafe.generation.nominal import NominalRollout, make_crashed_nominal, make_nominal, run_nominal
from failsafe.generation.sampling import (
    PartitionSampler,
    partition_targets,
    reaches_target,
    target_task,
)
from failsafe.records.case import FailureCase, NominalRecord, Outcome
from failsafe.records.trace import Trace

SEEDS_WITHOUT_SUCCESS = 25
"""Initial states in a row without success of the expert, after which the run stops."""


@runtime_checkable
class Sink(Protocol):
    """Storage of a partition's cases and nominal rollouts.

    Attributes:
        path: The folder that all of it is in.
    """

    path: Path

    def has_case(self, task: str, case_id: str) -> bool:
        """Return whether a case is stored.

        Args:
            task: Name of the task.
            case_id: Name of the case.
        """
        ...

    def case(self, task: str, case_id: str) -> FailureCase:
        """Return the record of a stored case.

        Args:
            task: Name of the task.
            case_id: Name of the case.
        """
        ...

    def has_nominal(self, task: str, seed: int) -> bool:
        """Return whether the nominal rollout of a task and seed is stored.

        Args:
            task: Name of the task.
            seed: Seed of the initial state.
        """
        ...

    def nominal(self, task: str, seed: int) -> tuple[NominalRecord, Trace]:
        """Return the stored nominal rollout of a task and seed.

        Args:
            task: Name of the task.
            seed: Seed of the initial state.
        """
        ...

    def write_nominal(self, nominal: NominalRecord, trace: Trace) -> None:
        """Store a nominal rollout.

        Args:
            nominal: Record of the rollout.
            trace: Its commands and states.
        """
        ...

    def write_case(self, case: FailureCase, traces: dict[str, Trace]) -> None:
        """Store a case with its rollouts by name.

        Args:
            case: Record of the case.
            traces: Commands and states of its rollouts, by name.
        """
        ...


@dataclass(frozen=True)
class Progress:
    """What is reported after every case and every nominal rollout.

    Attributes:
        partition: Number of the partition.
        task: Name of the task.
        mode: Mode of the first perturbation, empty for a nominal rollout.
        category: The category of the case, or "nominal" or "nominal_failed".
        target_done: Whether a target is now reached or given up.
        resumed: Whether the case had been stored before.
        needed: Whether the case has a needed correction.
    """

    partition: int
    task: str
    mode: str
    category: str
    target_done: bool
    resumed: bool
    needed: bool = False


class PartitionJob:
    """Generates partitions in one process, and keeps the simulators that it has made.

    Args:
        config: The configuration of the dataset.
        sink: Where to store it; sent to the processes.
        tasks: Tasks that have been loaded already, by name; others are loaded when they are needed.
    """

    def __init__(self, config: GenerationConfig, sink: Sink, tasks: Mapping[str, Task] | None = None) -> None:
        self._config = config
        self._sink = sink
        self.folders = (sink.path,)
        self._reporter = SILENT
        self._given_up: set[str] = set()
        given = tasks or {}
        self._tasks = TaskLoader({name: dataclasses.replace(task, name=name) for name, task in given.items()})
        self._nominals: dict[str, NominalRollout] = {}

    def run(self, item: int, reporter: Reporter = SILENT) -> None:
        """Generate one partition.

        Args:
            item: Number of the partition.
            reporter: Receives a `Progress` after every case.

        Raises:
            UserError: If the expert solves none of a task's initial states, or no mode applies to a task.
        """
        partition, self._reporter = item, reporter
        sampler, statistics = PartitionSampler(self._config, partition), CandidateStatistics()
        done_here: set[str] = set()
        for target in partition_targets(self._config, partition):
            for attempt in range(self._config.attempts):
                task_name = target_task(self._config, target)
                nominal = self._solved_nominal(sampler, partition, task_name)
                drawn = sampler.draw(nominal, target)
                if drawn is None:
                    raise UserError(f"none of the modes asked for applies to {task_name}: choose other modes")
                case, resumed = self._case(nominal, drawn, statistics)
                sampler.learn(case)
                statistics.learn(case)
                # Few initial states and a mode without magnitude lead to the same case again.
                new = case.case_id not in done_here
                done_here.add(case.case_id)
                done = (reaches_target(case, self._config) and new) or attempt == self._config.attempts - 1
                mode = drawn.perturbations[0].mode
                reporter.report(
                    Progress(partition, task_name, mode, case.category, done, resumed, case.needed)
                )
                if done:
                    break

    def give_up(self, item: int, part: str = "") -> bool:
        """Record a case or nominal rollout as crashed from now on, and go on with the partition.

        Args:
            item: Number of the partition.
            part: Name of the case or nominal rollout.

        Returns:
            True: the partition is run again.

        Raises:
            FailSafeError: If the process died before any case began.
        """
        if not part:
            raise FailSafeError(
                f"processes died twice at the beginning of partition {item}; `failsafe doctor` reports what "
                "this machine supports"
            )
        self._given_up.add(part)
        return True

    def _task(self, name: str) -> Task:
        return self._tasks.load(name, self._config.first_seed)

    def _solved_nominal(self, sampler: PartitionSampler, partition: int, task_name: str) -> NominalRollout:
        failed = 0
        while (nominal := self._current_nominal(sampler, partition, task_name)).record.success is False:
            failed += 1
            if failed == SEEDS_WITHOUT_SUCCESS:
                break
            sampler.skip_seed(task_name)
        if nominal.record.success:
            return nominal
        raise UserError(
            f"the expert of {task_name} failed on {SEEDS_WITHOUT_SUCCESS} initial states in a row, the last "
            f"of them seed {nominal.record.seed}: {nominal.record.reason}"
        )

    def _current_nominal(self, sampler: PartitionSampler, partition: int, task_name: str) -> NominalRollout:
        seed = sampler.seed(task_name)
        nominal = self._nominals.get(task_name)
        if nominal is None or nominal.record.seed != seed:
            nominal = self._nominals[task_name] = self._nominal(partition, task_name, seed)
        return nominal

    def _nominal(self, partition: int, task_name: str, seed: int) -> NominalRollout:
        task = self._task(task_name)
        if self._sink.has_nominal(task_name, seed):
            task.simulator.reset(seed)
            return make_nominal(task, *self._sink.nominal(task_name, seed))
        name = f"{task_name}-{seed:06d}-nominal"
        if name in self._given_up:
            nominal = make_crashed_nominal(task, seed)
        else:
            self._reporter.begin(name)
            nominal = run_nominal(task, seed)
        self._sink.write_nominal(nominal.record, nominal.trace)
        category = "nominal" if nominal.record.success else "nominal_failed"
        self._reporter.report(Progress(partition, task_name, "", category, False, False))
        return nominal

    def _case(
        self, nominal: NominalRollout, spec: CaseSpec, statistics: CandidateStatistics
    ) -> tuple[FailureCase, bool]:
        if self._sink.has_case(spec.task, spec.case_id):
            return self._sink.case(spec.task, spec.case_id), True
        if spec.case_id in self._given_up:
            result = make_unjudged_case(
                spec,
                nominal.record.plan.instruction,
                Outcome.CRASHED,
                "the process died twice during this case",
            )
        else:
            self._reporter.begin(spec.case_id)
            result = build_case(
                self._task(spec.task),
                nominal,
                spec,
                self._config.labels,
                self._config.verify_rollouts,
                statistics,
            )
        self._sink.write_case(result.case, result.traces)
        return result.case, False
