"""Run a study: many episodes of a policy, with a monitor and without, from the same initial states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from failsafe.datasets.files import remove_partials
from failsafe.datasets.locks import locked
from failsafe.evaluation.conditions import CONDITIONS, NEVER
from failsafe.evaluation.config import StudyConfig, StudyItem, conditions_to_run, study_items
from failsafe.evaluation.controls import PrivilegedState
from failsafe.evaluation.episodes import run_episode
from failsafe.evaluation.objects import StudyObjects
from failsafe.evaluation.preflight import check_calibrations, check_start
from failsafe.evaluation.results import Frozen, Results
from failsafe.evaluation.scenarios import scenario
from failsafe.execution.contract import SILENT, Executor, Reporter, ignore
from failsafe.experts.own_step import TaskLoader
from failsafe.experts.tasks import Task, check_task
from failsafe.generation.nominal import run_nominal
from failsafe.models.contract import RecoveryModel
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
    frozen: Frozen | None = None,
) -> Results:
    """Run the episodes of a study that are missing in its results.

    Args:
        config: Configuration of the study.
        out: Folder of the results.
        executor: Runs the items.
        on_done: Called with every item that is done, now or by an earlier run.
        shard: Number of the shard, from 0, and number of shards.
        objects: Policies, tasks and the model that were given as objects; the rest is loaded by name.
        frozen: The protocol that the study follows, None without one.

    Returns:
        The results.

    Raises:
        UserError: If a task, policy or model is not available, or a check before the first step says why the
            study would fail or mean nothing (`failsafe.evaluation.preflight`).
        StoreError: If the folder holds something else, or cannot be written.
        PolicyError: If a policy does not fit the simulator.
    """
    objects = objects or StudyObjects()
    for task in config.tasks:
        if task not in objects.tasks:
            check_task(task)
    check_calibrations(config)
    results = Results(out)
    with locked(out):
        remove_partials(out)
        results.begin(config, frozen=frozen)
        todo: list[StudyItem] = []
        for item in study_items(config, shard):
            if all(results.has(item.key(condition)) for condition in conditions_to_run(config)):
                on_done(item)
            else:
                todo.append(item)
        executor.run(StudyJob(config, out, objects), todo, on_done)
    return results


def counting(on_progress: Callable[[int, int], None], total: int) -> Callable[[object], None]:
    """Report that nothing is done yet, and return a callback that reports one item more at each call.

    Args:
        on_progress: Called with the number of items done so far, and of all.
        total: Number of all items.
    """
    done = 0

    def count(_: object) -> None:
        nonlocal done
        done += 1
        on_progress(done, total)

    on_progress(0, total)
    return count


class StudyJob:
    """Runs the episodes of one item after the other; keeps the simulators, policies and model loaded.

    Args:
        config: Configuration of the study.
        out: Folder of the results.
        objects: Policies, tasks and the model that were given as objects.
    """

    def __init__(self, config: StudyConfig, out: Path, objects: StudyObjects | None = None) -> None:
        self._config, self._results = config, Results(out)
        self.folders = (out,)
        self._objects = objects or StudyObjects()
        self._tasks = TaskLoader(self._objects.tasks)
        self._policies: dict[str, Policy] = dict(self._objects.policies)
        self._model: RecoveryModel | None = self._objects.model
        self._checked = False

    def run(self, item: StudyItem, reporter: Reporter = SILENT) -> None:
        """Run the conditions of an item that have no record, and write their records. See `Job.run`."""
        if not self._checked:
            self._check()
        for condition in conditions_to_run(self._config):
            if not self._results.has(item.key(condition)):
                self._results.write(self.episode(item, condition))

    def give_up(self, item: StudyItem, part: str = "") -> bool:
        """Record the running condition as crashed; return whether other conditions are still to be run.

        See `Job.give_up`.
        """
        missing = [
            condition
            for condition in conditions_to_run(self._config)
            if not self._results.has(item.key(condition))
        ]
        if missing:
            description = "the process died twice during this episode"
            self._results.write(
                Episode(item.key(missing[0]), "", Ending.CRASHED, 0, 0.0, description=description)
            )
        return len(missing) > 1

    def task(self, item: StudyItem) -> Task:
        """Return the task of an item, which its scenario may replace."""
        name = scenario(item.scenario).tasks.get(item.task, item.task)
        return self._tasks.load(name, item.seed)

    def episode(
        self, item: StudyItem, condition: str, states: list[Float32[np.ndarray, "S"]] | None = None
    ) -> Episode:
        """Run one episode, whether or not it has a record, and return its record without writing it.

        Args:
            item: The item. For a control, its policy alone must have a record.
            condition: Name of the condition.
            states: List to append the simulator's state of every step to, for rendering.

        Raises:
            PolicyError: If the policy does not fit the simulator.
        """
        where, task = scenario(item.scenario), self.task(item)
        self._load(item)
        policy, chosen = self._policies[item.policy], CONDITIONS[condition]
        if chosen.run is not None:
            key, limits = item.key(condition), self._config.limits
            return chosen.run(task, policy, key, where, limits, self._alone(item), states)
        policy = chosen.policy(policy) if chosen.policy else policy
        if chosen.monitored:
            policy = self._guard(item, condition, policy)
        return run_episode(task, policy, item.key(condition), where, self._config.limits, states=states)

    def _check(self) -> None:
        """Check every policy with every task before the first episode of this worker."""
        seen: set[tuple[str, int]] = set()
        for item in study_items(self._config):
            if item.seed > self._config.first_seed:
                break
            self._load(item)
            task = self.task(item)
            if (item.policy, id(task)) not in seen:
                model = self._model if self._monitored else None
                check_start(self._config, item, task, self._policies[item.policy], model)
                seen.add((item.policy, id(task)))
        self._checked = True

    def _load(self, item: StudyItem) -> None:
        """Load the policy and the model."""
        if item.policy not in self._policies:
            self._policies[item.policy] = load_policy(item.policy)
        if self._monitored and self._model is None:
            self._model = load_model(self._config.monitor)

    @property
    def _monitored(self) -> bool:
        return any(CONDITIONS[condition].monitored for condition in self._config.conditions)

    def _guard(self, item: StudyItem, condition: str, policy: Policy) -> MonitoredPolicy:
        assert self._model is not None
        chosen, simulator = CONDITIONS[condition], self.task(item).simulator
        calibration = self._config.calibrations.get(item.policy)
        threshold = calibration.threshold if calibration else self._config.threshold
        if chosen.threshold is not None:
            threshold = chosen.threshold
        embodiment = simulator.spec.embodiment
        seconds = self._config.limits.max_steps / embodiment.control_hz
        settings = self._config.settings
        settings = replace(settings, budget=replace(settings.budget, episode_seconds=seconds))
        settings = chosen.settings(settings) if chosen.settings else settings
        if chosen.learned and calibration is not None:
            settings = replace(settings, hand_back=calibration.hand_back)
        if chosen.control is None:
            return MonitoredPolicy(policy, self._model, threshold, settings, embodiment=embodiment)
        truth = self._truth(item)
        control = chosen.control(self._model, truth)
        guarded = MonitoredPolicy(policy, control, threshold, settings, embodiment=embodiment)
        truth.step = lambda: guarded.monitor.step
        truth.in_charge = lambda: guarded.monitor.in_control
        return guarded

    def _alone(self, item: StudyItem) -> Episode:
        alone = self._results.read(item.key(NEVER))
        assert alone is not None
        return alone

    def _truth(self, item: StudyItem) -> PrivilegedState:
        task = self.task(item)
        # The episode resets the simulator, so the expert may use it before.
        return PrivilegedState(task, run_nominal(task, item.seed), self._alone(item), lambda: 0)
