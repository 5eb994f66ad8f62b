"""Run a study: many episodes of a policy, with a monitor and without, from the same initial states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from failsafe.datasets.files import locked
from failsafe.errors import UserError
from failsafe.evaluation.conditions import CONDITIONS, NEVER
from failsafe.evaluation.config import StudyConfig, StudyItem, conditions_to_run, study_items
from failsafe.evaluation.controls import PrivilegedState
from failsafe.evaluation.episodes import run_episode
from failsafe.evaluation.objects import StudyObjects
from failsafe.evaluation.results import Results
from failsafe.evaluation.scenarios import scenario
from failsafe.execution.contract import SILENT, Executor, Reporter, ignore
from failsafe.experts.tasks import Task, check_task, load_task
from failsafe.generation.nominal import run_nominal
from failsafe.models.contract import RecoveryModel, check_objects, trained_on
from failsafe.models.loading import load_model
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.policies.contract import Policy
from failsafe.policies.loading import load_policy
from failsafe.records.episode import Ending, Episode


def run_study(
    config: StudyConfig,
    out: Path,
    executor: Executor,
    on_done: Callable[[StudyItem], None] = ignore,
    shard: tuple[int, int] = (0, 1),
    objects: StudyObjects | None = None,
) -> Results:
    """Run all episodes of a study that have not been run.

    Args:
        config: What is evaluated.
        out: Folder of the results.
        executor: Runs the items.
        on_done: Called with every item that is done, now or by an earlier run.
        shard: Number of this shard, from 0, and of all.
        objects: Policies, tasks and the model that were given as objects; the rest is loaded by name.

    Raises:
        FailSafeError: If something does not fit before the first step.
    """
    objects = objects or StudyObjects()
    for task in config.tasks:
        if task not in objects.tasks:
            check_task(task)
    results = Results(out)
    with locked(out):
        results.begin(config)
        todo: list[StudyItem] = []
        for cell in study_items(config, shard):
            if all(results.has(cell.key(condition)) for condition in conditions_to_run(config)):
                on_done(cell)
            else:
                todo.append(cell)
        executor.run(StudyJob(config, out, objects), todo, on_done)
    return results


class StudyJob:
    """What a process of a study does; it keeps the simulators, the policies and the model that it has made.

    Args:
        config: What is evaluated.
        out: Folder of the results.
        objects: Policies, tasks and the model that were given as objects.
    """

    def __init__(self, config: StudyConfig, out: Path, objects: StudyObjects | None = None) -> None:
        self._config, self._results = config, Results(out)
        self._objects = objects or StudyObjects()
        self._tasks: dict[str, Task] = dict(self._objects.tasks)
        self._spares: dict[str, Task] = {}
        self._policies: dict[str, Policy] = dict(self._objects.policies)
        self._model: RecoveryModel | None = self._objects.model

    def run(self, item: StudyItem, reporter: Reporter = SILENT) -> None:
        """Run the arms of a cell that have not been run."""
        self._load(item)
        for condition in conditions_to_run(self._config):
            if not self._results.has(item.key(condition)):
                self._results.write(self.episode(item, condition))

    def give_up(self, item: StudyItem, part: str = "") -> bool:
        """Record that the arm that was run has killed two processes; whether others are still to be run."""
        missing = [
            condition
            for condition in conditions_to_run(self._config)
            if not self._results.has(item.key(condition))
        ]
        if missing:
            description = "the process died twice while at work on it"
            self._results.write(
                Episode(item.key(missing[0]), "", Ending.CRASHED, 0, 0.0, description=description)
            )
        return len(missing) > 1

    def task(self, cell: StudyItem) -> Task:
        """What a cell is run on."""
        name = scenario(cell.scenario).tasks.get(cell.task, cell.task)
        if name not in self._tasks:
            self._tasks[name] = load_task(name)
        return self._tasks[name]

    def episode(
        self, cell: StudyItem, condition: str, states: list[Float32[np.ndarray, "S"]] | None = None
    ) -> Episode:
        """Run one arm of a cell, whether or not it has been run; nothing is written.

        Args:
            cell: The initial state. For an oracle's arm, the policy alone must have been run on it.
            condition: The condition.
            states: Where to put the simulator's state of every step, for pictures.
        """
        where, task = scenario(cell.scenario), self.task(cell)
        self._load(cell)
        policy = self._policies[cell.policy]
        if CONDITIONS[condition].monitored:
            policy = self._guard(cell, condition, policy)
        return run_episode(task, policy, cell.key(condition), where, self._config.limits, states=states)

    def _load(self, cell: StudyItem) -> None:
        """Have the policy and the model at hand, and make sure that neither was trained on the seed."""
        if cell.policy not in self._policies:
            self._policies[cell.policy] = load_policy(cell.policy)
        _check_fresh(self._policies[cell.policy], cell.policy, cell)
        if any(CONDITIONS[condition].monitored for condition in self._config.conditions):
            if self._model is None:
                self._model = load_model(self._config.monitor)
            _check_fresh(self._model, self._config.monitor, cell)

    def _guard(self, cell: StudyItem, condition: str, policy: Policy) -> MonitoredPolicy:
        assert self._model is not None
        chosen, settings = CONDITIONS[condition], self._config.settings
        calibration = self._config.calibrations.get(cell.policy)
        threshold = calibration.threshold if calibration else self._config.threshold
        if chosen.threshold is not None:
            threshold = chosen.threshold
        simulator = self.task(cell).simulator
        check_objects(self._model, cell.task, len(simulator.episode.objects))
        embodiment = simulator.spec.embodiment
        if chosen.control is None:
            return MonitoredPolicy(policy, self._model, threshold, settings, embodiment=embodiment)
        truth = self._truth(cell)
        control = chosen.control(self._model, truth)
        guarded = MonitoredPolicy(policy, control, threshold, settings, embodiment=embodiment)
        truth.step = lambda: guarded.monitor.step
        truth.in_charge = lambda: guarded.monitor.in_control
        return guarded

    def _truth(self, cell: StudyItem) -> PrivilegedState:
        alone = self._results.read(cell.key(NEVER))
        assert alone is not None
        task = self.task(cell)
        if task.name not in self._spares:
            if task in self._objects.tasks.values():
                raise UserError(
                    f"expected the task {cell.task} by name, for controls that need a second simulator of "
                    "it, got an object: register it, or give MODULE:FUNCTION"
                )
            self._spares[task.name] = load_task(task.name)
        spare = self._spares[task.name]
        return PrivilegedState(task, spare, run_nominal(spare, cell.seed), not alone.success, lambda: 0)


def _check_fresh(learned: Policy | RecoveryModel, name: str, cell: StudyItem) -> None:
    """Refuse an episode that proves nothing: one from where something learned has begun before.

    Raises:
        UserError: If it is one.
    """
    if cell.seed in trained_on(learned, cell.task):
        raise UserError(
            f"{name} was trained on seed {cell.seed} of {cell.task}, so that what it does there proves "
            "nothing: choose other seeds"
        )
