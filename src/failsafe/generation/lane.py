"""One lane of a run, from its first wanted failure to its last; resumes from what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from failsafe.errors import FailSafeError, UserError
from failsafe.experts.tasks import Task, load_task
from failsafe.generation.config import GenerationConfig
from failsafe.generation.processes import SILENT, Line
from failsafe.generation.rollouts import Twin, crashed_twin, make_twin, run_nominal
from failsafe.generation.sampling import LaneSampler, lane_slots, slot_task
from failsafe.generation.work import WorkItem, unfinished, work
from failsafe.records.case import FailureCase, Nominal, Outcome
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

    def nominal(self, task: str, seed: int) -> tuple[Nominal, Trace]:
        """The twin of a task and seed."""
        ...

    def write_nominal(self, nominal: Nominal, trace: Trace) -> None:
        """Store a twin."""
        ...

    def write_case(self, case: FailureCase, traces: dict[str, Trace]) -> None:
        """Store a work item."""
        ...


@dataclass(frozen=True)
class Progress:
    """What a listener is told after every work item.

    Attributes:
        lane: Number of the lane.
        task: Task of the item.
        mode: Mode of its first perturbation, empty for a nominal twin.
        verdict: What it came to.
        slot_done: Whether a wanted failure is now settled.
        resumed: Whether it had been done before.
    """

    lane: int
    task: str
    mode: str
    verdict: str
    slot_done: bool
    resumed: bool


class LaneJob:
    """Runs lanes in one process, keeping the simulators that it has made.

    Args:
        config: What the dataset is to hold.
        sink: Where to put it; travels to the processes.
    """

    def __init__(self, config: GenerationConfig, sink: Sink) -> None:
        self._config = config
        self._sink = sink
        self._line = SILENT
        self._given_up: set[str] = set()
        self._tasks: dict[str, Task] = {}
        self._twins: dict[str, Twin] = {}

    def run(self, item: int, line: Line = SILENT) -> None:
        """Work through a lane; the line is told `Progress` after every work item.

        Raises:
            UserError: If the expert solves none of the task's initial states.
        """
        lane, self._line = item, line
        sampler = LaneSampler(self._config, lane)
        done_here: set[str] = set()
        for slot in lane_slots(self._config, lane):
            for attempt in range(self._config.attempts):
                task_name = slot_task(self._config, slot)
                twin = self._solved_twin(sampler, lane, task_name)
                drawn = sampler.draw(twin, slot)
                if drawn is None:
                    raise UserError(
                        f"none of the modes asked for applies to {task_name}: choose others with --modes"
                    )
                case, resumed = self._case(twin, drawn)
                sampler.learn(case)
                new = (
                    case.case_id not in done_here
                )  # few states and a mode without magnitude repeat themselves
                done_here.add(case.case_id)
                done = (case.verified and new) or attempt == self._config.attempts - 1
                mode = drawn.perturbations[0].mode
                line.tell(Progress(lane, task_name, mode, case.verdict, done, resumed))
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

    def _solved_twin(self, sampler: LaneSampler, lane: int, task_name: str) -> Twin:
        failed = 0
        while (twin := self._current_twin(sampler, lane, task_name)).record.success is False:
            failed += 1
            if failed == SEEDS_WITHOUT_SUCCESS:
                break
            sampler.skip_seed(task_name)
        if twin.record.success:
            return twin
        raise UserError(
            f"the expert of {task_name} failed on {SEEDS_WITHOUT_SUCCESS} initial states in a row, the last "
            f"of them seed {twin.record.seed}: {twin.record.reason}"
        )

    def _current_twin(self, sampler: LaneSampler, lane: int, task_name: str) -> Twin:
        seed = sampler.seed(task_name)
        twin = self._twins.get(task_name)
        if twin is None or twin.record.seed != seed:
            twin = self._twins[task_name] = self._twin(lane, task_name, seed)
        return twin

    def _twin(self, lane: int, task_name: str, seed: int) -> Twin:
        task = self._task(task_name)
        if self._sink.has_nominal(task_name, seed):
            task.simulator.reset(seed)
            return make_twin(task, *self._sink.nominal(task_name, seed))
        name = f"{task_name}-{seed:06d}-nominal"
        if name in self._given_up:
            twin = crashed_twin(task, seed)
        else:
            self._line.begin(name)
            twin = run_nominal(task, seed)
        self._sink.write_nominal(twin.record, twin.trace)
        verdict = "nominal" if twin.record.success else "nominal_failed"
        self._line.tell(Progress(lane, task_name, "", verdict, False, False))
        return twin

    def _case(self, twin: Twin, item: WorkItem) -> tuple[FailureCase, bool]:
        if self._sink.has_case(item.task, item.case_id):
            return self._sink.case(item.task, item.case_id), True
        if item.case_id in self._given_up:
            finished = unfinished(
                item,
                twin.record.plan.instruction,
                Outcome.CRASHED,
                "the process died twice while at work on it",
            )
        else:
            self._line.begin(item.case_id)
            finished = work(
                self._task(item.task), twin, item, self._config.labels, self._config.verify_rollouts
            )
        self._sink.write_case(finished.case, finished.traces)
        return finished.case, False
