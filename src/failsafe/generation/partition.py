"""One lane of a run, from its first wanted failure to its last; resumes from what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from failsafe.errors import FailSafeError, UserError
from failsafe.execution.contract import SILENT, Reporter
from failsafe.experts.tasks import Task, load_task
from failsafe.generation.candidates import CandidateStatistics
from failsafe.generation.cases import CaseSpec, build_case, make_unjudged_case
from failsafe.generation.config import GenerationConfig
from failsafe.generation.nominal import NominalRollout, make_crashed_nominal, make_nominal, run_nominal
from failsafe.generation.sampling import PartitionSampler, partition_targets, target_task
from failsafe.records.case import FailureCase, NominalRecord, Outcome
from failsafe.records.trace import Trace

SEEDS_WITHOUT_SUCCESS = 25
"""Initial states in a row that the expert fails on before the task is given up."""


@runtime_checkable
class Sink(Protocol):
    """Where a lane puts what it finds, and looks up what it found before."""

    def has_case(self, task: str, case_id: str) -> bool:
        """Whether a work item has been done."""
        ...

    def case(self, task: str, case_id: str) -> FailureCase:
        """The record of a work item that has been done."""
        ...

    def has_nominal(self, task: str, seed: int) -> bool:
        """Whether there is a twin for a task and seed."""
        ...

    def nominal(self, task: str, seed: int) -> tuple[NominalRecord, Trace]:
        """The twin of a task and seed."""
        ...

    def write_nominal(self, nominal: NominalRecord, trace: Trace) -> None:
        """Store a twin."""
        ...

    def write_case(self, case: FailureCase, traces: dict[str, Trace]) -> None:
        """Store a work item."""
        ...


@dataclass(frozen=True)
class Progress:
    """What a listener is told after every work item.

    Attributes:
        partition: Number of the lane.
        task: Task of the item.
        mode: Mode of its first perturbation, empty for a nominal twin.
        verdict: What it came to.
        target_done: Whether a wanted failure is now settled.
        resumed: Whether it had been done before.
    """

    partition: int
    task: str
    mode: str
    verdict: str
    target_done: bool
    resumed: bool


class PartitionJob:
    """Runs lanes in one process, keeping the simulators that it has made.

    Args:
        config: What the dataset is to hold.
        sink: Where to put it; travels to the processes.
        tasks: Tasks that have been loaded already, by name; others are loaded when they are needed.
    """

    def __init__(self, config: GenerationConfig, sink: Sink, tasks: Mapping[str, Task] | None = None) -> None:
        self._config = config
        self._sink = sink
        self._reporter = SILENT
        self._given_up: set[str] = set()
        self._tasks: dict[str, Task] = dict(tasks or {})
        self._nominals: dict[str, NominalRollout] = {}

    def run(self, item: int, reporter: Reporter = SILENT) -> None:
        """Generate one partition; report a `Progress` after every case.

        Raises:
            UserError: If the expert solves none of the task's initial states.
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
                    raise UserError(
                        f"none of the modes asked for applies to {task_name}: choose others with --modes"
                    )
                case, resumed = self._case(nominal, drawn, statistics)
                sampler.learn(case)
                statistics.learn(case)
                new = (
                    case.case_id not in done_here
                )  # few states and a mode without magnitude repeat themselves
                done_here.add(case.case_id)
                done = (case.verified and new) or attempt == self._config.attempts - 1
                mode = drawn.perturbations[0].mode
                reporter.report(Progress(partition, task_name, mode, case.category, done, resumed))
                if done:
                    break

    def give_up(self, item: int, part: str = "") -> bool:
        """From now on, record a work item as one that crashes; the lane goes on without it.

        Raises:
            FailSafeError: If the lane has not got as far as a work item.
        """
        if not part:
            raise FailSafeError(
                f"processes died twice at the beginning of lane {item}; `failsafe doctor` says what this "
                "machine can do"
            )
        self._given_up.add(part)
        return True

    def _task(self, name: str) -> Task:
        if name not in self._tasks:
            self._tasks[name] = load_task(name)
        return self._tasks[name]

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
        verdict = "nominal" if nominal.record.success else "nominal_failed"
        self._reporter.report(Progress(partition, task_name, "", verdict, False, False))
        return nominal

    def _case(
        self, nominal: NominalRollout, item: CaseSpec, statistics: CandidateStatistics
    ) -> tuple[FailureCase, bool]:
        if self._sink.has_case(item.task, item.case_id):
            return self._sink.case(item.task, item.case_id), True
        if item.case_id in self._given_up:
            finished = make_unjudged_case(
                item,
                nominal.record.plan.instruction,
                Outcome.CRASHED,
                "the process died twice while at work on it",
            )
        else:
            self._reporter.begin(item.case_id)
            finished = build_case(
                self._task(item.task),
                nominal,
                item,
                self._config.labels,
                self._config.verify_rollouts,
                statistics,
            )
        self._sink.write_case(finished.case, finished.traces)
        return finished.case, False
