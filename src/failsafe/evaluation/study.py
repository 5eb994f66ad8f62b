"""A study: many episodes of a policy, with a monitor and without, from the same initial states.

```
results/
  manifest.json                                   what is evaluated, and how
  episodes/TASK/SCENARIO/POLICY/ARM/SEED.json     one record each: there or not, so a run goes on where it was
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from failsafe.datasets.files import file_name, locked, write_atomically
from failsafe.errors import StoreError, UserError
from failsafe.evaluation.controls import CONDITIONS, MONITOR, NEVER, WATCH, PrivilegedState, make_control
from failsafe.evaluation.episodes import EpisodeLimits, run_episode
from failsafe.evaluation.scenarios import scenario
from failsafe.execution.processes import SILENT, Line, work_through
from failsafe.experts.tasks import Task, check_task, load_task
from failsafe.generation.nominal import run_nominal
from failsafe.models.contract import RecoveryModel, trained_on
from failsafe.models.loading import load_model
from failsafe.monitors.calibration import Calibration
from failsafe.monitors.monitor import MonitorSettings
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.policies.contract import Policy
from failsafe.policies.loading import load_policy
from failsafe.records import codec
from failsafe.records.episode import Ending, Episode, EpisodeKey
from failsafe.records.provenance import Provenance, collect_provenance, command_line


@dataclass(frozen=True)
class StudyConfig:
    """What is evaluated.

    Attributes:
        tasks: Names of the tasks.
        policies: Base policies, as `load_policy` takes them.
        monitor: Recovery model, as `load_model` takes it.
        weights: SHA-256 of its weights: results of others are another study's.
        policy_weights: By policy, the SHA-256 of its weights where they are on this machine, likewise.
        first_seed: First seed.
        last_seed: One past the last seed.
        scenarios: Names of scenarios.
        conditions: Conditions, among `CONDITIONS`; the policy alone is always one.
        threshold: Score above which an alarm is raised, where there is no calibration for a policy.
        calibrations: By policy, its calibration.
        settings: Of the monitor.
        limits: When an episode ends.
    """

    tasks: tuple[str, ...]
    policies: tuple[str, ...]
    monitor: str
    first_seed: int
    last_seed: int
    scenarios: tuple[str, ...] = ("nominal",)
    conditions: tuple[str, ...] = (NEVER, MONITOR)
    threshold: float = 5.0
    calibrations: dict[str, Calibration] = field(default_factory=dict[str, Calibration])
    settings: MonitorSettings = field(default_factory=MonitorSettings)
    limits: EpisodeLimits = field(default_factory=EpisodeLimits)
    weights: str = ""
    policy_weights: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not (self.tasks and self.policies and self.scenarios) or self.first_seed >= self.last_seed:
            raise UserError("expected at least one task, policy, scenario and seed to evaluate")
        if not 0 <= self.threshold < np.inf:
            raise UserError(f"expected a finite threshold of at least 0, got {self.threshold}")
        for policy, found in self.calibrations.items():
            if found.drift != self.settings.drift:
                raise UserError(
                    f"the thresholds for {policy} are of scores with an allowance of {found.drift:g}, "
                    f"but the monitor's is {self.settings.drift:g}"
                )
        for condition in self.conditions:
            if condition not in CONDITIONS:
                raise UserError(f"unknown arm '{condition}'. There are: {', '.join(CONDITIONS)}")
        for name in self.scenarios:
            scenario(name)


@dataclass(frozen=True)
class StudyManifest:
    """What a folder of results is."""

    FORMAT: ClassVar[int] = 3  # 1: scores were a mean of looks; 2: conditions were called arms

    config: StudyConfig
    command: str
    provenance: Provenance


@dataclass(frozen=True)
class StudyItem:
    """One initial state of one task in one scenario with one policy: all arms are run on it, one by one."""

    task: str
    scenario: str
    policy: str
    seed: int

    def key(self, condition: str) -> EpisodeKey:
        """The episode of one arm."""
        return EpisodeKey(self.task, self.scenario, self.policy, condition, self.seed)


class Results:
    """A folder of results.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def manifest(self) -> StudyManifest:
        """What was evaluated.

        Raises:
            UserError: If there are no results.
        """
        file = self.path / "manifest.json"
        try:
            text = file.read_text()
        except OSError as error:
            raise UserError(f"expected results made by `failsafe evaluate`, got {self.path}") from error
        return codec.loads(StudyManifest, text, str(file))

    def file(self, key: EpisodeKey) -> Path:
        """Where an episode's record is."""
        task, policy = file_name(key.task), file_name(key.policy)
        return self.path / "episodes" / task / key.scenario / policy / key.condition / f"{key.seed:08d}.json"

    def read(self, key: EpisodeKey) -> Episode | None:
        """The record of an episode, None where it has not been run."""
        file = self.file(key)
        return codec.loads(Episode, file.read_text(), str(file)) if self.has(key) else None

    def has(self, key: EpisodeKey) -> bool:
        """Whether an episode has been run."""
        return self.file(key).exists()

    def write(self, episode: Episode) -> None:
        """Keep an episode's record."""
        write_atomically(self.file(episode.key), (codec.dumps(episode) + "\n").encode())

    def episodes(self) -> Iterator[Episode]:
        """Every record, in a fixed order."""
        for file in sorted(self.path.glob("episodes/*/*/*/*/*.json")):
            yield codec.loads(Episode, file.read_text(), str(file))

    def begin(self, config: StudyConfig, made: StudyManifest | None = None) -> None:
        """Make the folder one of this study.

        Args:
            config: What is evaluated.
            made: How it was begun, where that was not by this command.

        Raises:
            StoreError: If it holds another study, or something else.
        """
        if (self.path / "manifest.json").exists():
            if self.manifest.config != config:
                raise StoreError(f"{self.path} holds results of another evaluation; choose another --out")
            return
        if self.path.exists() and any(p.name != ".lock" for p in self.path.iterdir()):
            raise StoreError(f"expected an empty folder or one of results, got {self.path} with other files")
        made = made or StudyManifest(config, command_line(), collect_provenance())
        write_atomically(self.path / "manifest.json", (codec.dumps(made) + "\n").encode())

    def take_in(self, shards: Sequence[Path]) -> int:
        """Copy the episodes of other folders of the same study; how many were new.

        Raises:
            StoreError: If one is of another study.
        """
        taken = 0
        for shard in map(Results, shards):
            self.begin(shard.manifest.config, shard.manifest)
            for file in sorted(shard.path.glob("episodes/*/*/*/*/*.json")):
                mine = self.path / file.relative_to(shard.path)
                if not mine.exists():
                    write_atomically(mine, file.read_bytes())
                    taken += 1
        return taken


def study_items(config: StudyConfig, shard: tuple[int, int] = (0, 1)) -> list[StudyItem]:
    """All initial states of a study, or one shard's, seed by seed: a run that is cut short is balanced."""
    cells = [
        StudyItem(task, name, policy, seed)
        for seed in range(config.first_seed, config.last_seed)
        for name in config.scenarios
        for policy in config.policies
        for task in config.tasks
        if not scenario(name).tasks or task in scenario(name).tasks
    ]
    return cells[shard[0] :: shard[1]]


def run_study(
    config: StudyConfig,
    out: Path,
    workers: int,
    tell: Callable[[StudyItem], None],
    shard: tuple[int, int] = (0, 1),
) -> Results:
    """Run all episodes of a study that have not been run.

    Args:
        config: What is evaluated.
        out: Folder of the results.
        workers: Number of processes.
        tell: Called after every cell.
        shard: Number of this shard, from 0, and of all.

    Raises:
        FailSafeError: If something does not fit before the first step.
    """
    for task in config.tasks:
        check_task(task)
    results = Results(out)
    with locked(out):
        results.begin(config)
        todo: list[StudyItem] = []
        for cell in study_items(config, shard):
            if all(results.has(cell.key(condition)) for condition in _conditions(config)):
                tell(cell)
            else:
                todo.append(cell)
        work_through(StudyJob(config, out), todo, workers, tell)
    return results


class StudyJob:
    """What a process of a study does; it keeps the simulators, the policies and the model that it has made.

    Args:
        config: What is evaluated.
        out: Folder of the results.
    """

    def __init__(self, config: StudyConfig, out: Path) -> None:
        self._config, self._results = config, Results(out)
        self._tasks: dict[str, Task] = {}
        self._spares: dict[str, Task] = {}
        self._policies: dict[str, Policy] = {}
        self._model: RecoveryModel | None = None

    def run(self, item: StudyItem, line: Line = SILENT) -> None:
        """Run the arms of a cell that have not been run."""
        self._load(item)
        for condition in _conditions(self._config):
            if not self._results.has(item.key(condition)):
                self._results.write(self.episode(item, condition))

    def give_up(self, item: StudyItem, part: str = "") -> bool:
        """Record that the arm that was run has killed two processes; whether others are still to be run."""
        missing = [
            condition for condition in _conditions(self._config) if not self._results.has(item.key(condition))
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
        if condition != NEVER:
            policy = self._guard(cell, condition, policy)
        return run_episode(task, policy, cell.key(condition), where, self._config.limits, states=states)

    def _load(self, cell: StudyItem) -> None:
        """Have the policy and the model at hand, and make sure that neither was trained on the seed."""
        if cell.policy not in self._policies:
            self._policies[cell.policy] = load_policy(cell.policy)
        _check_fresh(self._policies[cell.policy], cell.policy, cell)
        if set(self._config.conditions) != {NEVER}:
            if self._model is None:
                self._model = load_model(self._config.monitor)
            _check_fresh(self._model, self._config.monitor, cell)

    def _guard(self, cell: StudyItem, condition: str, policy: Policy) -> MonitoredPolicy:
        assert self._model is not None
        settings = self._config.settings
        calibration = self._config.calibrations.get(cell.policy)
        threshold = calibration.threshold if calibration else self._config.threshold
        if condition == WATCH:
            return MonitoredPolicy(policy, self._model, np.inf, settings)
        if condition == MONITOR:
            return MonitoredPolicy(policy, self._model, threshold, settings)
        truth = self._truth(cell)
        model, own = make_control(condition, self._model, truth)
        guarded = MonitoredPolicy(policy, model, threshold if own else 0.0, settings)
        truth.step = lambda: guarded.monitor.step
        truth.in_charge = lambda: guarded.monitor.in_charge
        return guarded

    def _truth(self, cell: StudyItem) -> PrivilegedState:
        alone = self._results.read(cell.key(NEVER))
        assert alone is not None
        task = self.task(cell)
        if task.name not in self._spares:
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
            "nothing: choose other --seeds"
        )


def _conditions(config: StudyConfig) -> list[str]:
    """The arms in the order in which they are run: the policy alone first, for the oracles know its end.

    A monitor that only looks leaves the policy as it is, so that nothing need be run beside it.
    """
    alone = set(config.conditions) != {WATCH}
    return [
        condition
        for condition in CONDITIONS
        if condition in config.conditions or (condition == NEVER and alone)
    ]
