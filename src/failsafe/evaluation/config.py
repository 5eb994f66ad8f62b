"""The configuration of a study, and the work items that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from failsafe.errors import UserError
from failsafe.evaluation.conditions import CONDITIONS, MONITOR, NEVER, WATCH
from failsafe.evaluation.episodes import EpisodeLimits
from failsafe.evaluation.scenarios import scenario
from failsafe.monitors.calibration import Calibration
from failsafe.monitors.settings import MonitorSettings
from failsafe.records.episode import EpisodeKey


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
            CONDITIONS[condition]  # raises for an unknown name
        for name in self.scenarios:
            scenario(name)


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


def conditions_to_run(config: StudyConfig) -> list[str]:
    """The arms in the order in which they are run: the policy alone first, for the oracles know its end.

    A monitor that only looks leaves the policy as it is, so that nothing need be run beside it.
    """
    alone = {NEVER} if set(config.conditions) != {WATCH} else set[str]()
    return CONDITIONS.in_order({*config.conditions, *alone})
