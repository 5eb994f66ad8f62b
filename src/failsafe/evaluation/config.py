"""The configuration of a study, and the items that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from failsafe.errors import RecordError, UserError
from failsafe.evaluation.conditions import CONDITIONS, LEARNED, MONITOR, NEVER, WATCH
from failsafe.evaluation.episodes import EpisodeLimits
from failsafe.evaluation.scenarios import scenario
from failsafe.monitors.calibration import Calibration
from failsafe.monitors.settings import MonitorSettings
from failsafe.records.episode import EpisodeKey

_MOST_ITEMS = 1_000_000
"""Largest number of initial states in a study, over all tasks, policies and scenarios."""


@dataclass(frozen=True)
class StudyConfig:
    """Everything that determines the episodes of a study.

    Attributes:
        tasks: Names of the tasks.
        policies: Names of the base policies, as `load_policy` takes them.
        monitor: Name of the recovery model, as `load_model` takes it.
        weights: What identifies the recovery model's weights or code (`failsafe.models.loading.fingerprint`).
            Results of others belong to another study.
        policy_weights: By policy, what identifies its weights or code (`policy_fingerprint`).
        code: Version of FailSafe, and fingerprints of tasks, scenarios and conditions that are not FailSafe's
            own, see `study_code`.
        first_seed: First seed of the initial states.
        last_seed: One past the last seed.
        scenarios: Names of the scenarios.
        conditions: Names of the conditions, see `CONDITIONS`. The policy alone is added where it is needed.
        threshold: Score (log odds) above which the monitor raises an alarm on policies without calibration.
        calibrations: Calibration of the monitor by policy.
        settings: Settings of the monitor.
        limits: When an episode ends.

    Raises:
        UserError: If a list or the range of seeds is empty, a number is out of range, a name is unknown, a
            calibration was made with another drift than the monitor has or lacks the hand-back model of a
            condition, or the settings have `assist` or a hand-back model.
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
    code: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Validate the fields."""
        if not (self.tasks and self.policies and self.scenarios) or self.first_seed >= self.last_seed:
            raise UserError("expected at least one task, policy, scenario and seed to evaluate")
        cells = len(self.tasks) * len(self.policies) * len(self.scenarios)
        if self.first_seed < 0 or cells * (self.last_seed - self.first_seed) > _MOST_ITEMS:
            raise UserError(
                f"expected seeds of at least 0, and at most {_MOST_ITEMS} episodes of each condition, got "
                f"seeds {self.first_seed} to {self.last_seed - 1} for {cells} tasks, policies and scenarios"
            )
        if not 0 <= self.threshold < np.inf:
            raise UserError(f"expected a finite threshold of at least 0, got {self.threshold}")
        for policy, found in self.calibrations.items():
            if found.drift != self.settings.drift:
                raise UserError(
                    f"expected thresholds for {policy} that were calibrated with the monitor's drift of "
                    f"{self.settings.drift:g}, got {found.drift:g}: calibrate again"
                )
        if self.settings.assist:
            raise UserError(
                "expected settings without assist, which would make another condition of each, got "
                "assist=True: choose the condition 'assist'"
            )
        if self.settings.hand_back is not None:
            raise UserError(
                "expected settings without a hand-back model, which would make another condition of each, "
                f"got one: choose the condition '{LEARNED}'"
            )
        for condition in self.conditions:
            if CONDITIONS[condition].learned:  # raises for an unknown name
                self._check_learned(condition)
        for name in self.scenarios:
            scenario(name)

    def _check_learned(self, condition: str) -> None:
        for policy in self.policies:
            calibration = self.calibrations.get(policy)
            if calibration is None or calibration.hand_back is None:
                raise UserError(
                    f"expected a hand-back model of {policy} for the condition '{condition}', got none in "
                    "its calibration: make one with `failsafe calibrate --hand-backs RESULTS`"
                )


@dataclass(frozen=True)
class StudyItem:
    """One initial state of a task in a scenario with a policy. Its conditions run one after the other.

    Attributes:
        task: Name of the task.
        scenario: Name of the scenario.
        policy: Name of the base policy.
        seed: Seed of the initial state.
    """

    task: str
    scenario: str
    policy: str
    seed: int

    def key(self, condition: str) -> EpisodeKey:
        """Return the key of the episode under a condition."""
        return EpisodeKey(self.task, self.scenario, self.policy, condition, self.seed)


def study_items(config: StudyConfig, shard: tuple[int, int] = (0, 1)) -> list[StudyItem]:
    """List the items of a study, seed by seed, so that an interrupted run is balanced.

    Args:
        config: Configuration of the study.
        shard: Number of the shard, from 0, and number of shards.
    """
    items = [
        StudyItem(task, name, policy, seed)
        for seed in range(config.first_seed, config.last_seed)
        for name in config.scenarios
        for policy in config.policies
        for task in config.tasks
        if not scenario(name).tasks or task in scenario(name).tasks
    ]
    return items[shard[0] :: shard[1]]


def rename_assist_seconds(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert a record of a study in which the setting had the name `continuation_seconds`.

    Raises:
        RecordError: If its monitor escalated, which had another rule then.
    """
    settings: dict[str, Any] = fields["config"]["settings"]
    settings["assist_seconds"] = settings.pop("continuation_seconds")
    if settings.pop("escalation_seconds", 0.0) or "escalate" in fields["config"]["conditions"]:
        raise RecordError(
            "expected a study without the condition 'escalate', which had another rule in this format, got "
            "one with it: evaluate again into another folder"
        )
    return fields


def conditions_to_run(config: StudyConfig) -> list[str]:
    """List the conditions of a study in the order in which they run.

    The policy alone comes first, because the oracles use its ending. The condition "watch" needs no other
    episode beside it, because it does not intervene.
    """
    alone = {NEVER} if set(config.conditions) != {WATCH} else set[str]()
    return CONDITIONS.in_order({*config.conditions, *alone})
