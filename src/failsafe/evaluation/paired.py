"""What a study comes to: success by cell with its uncertainty, pairs with and without, alarms, cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.evaluation.controls import ARMS, NEVER
from failsafe.evaluation.statistics import mcnemar, wilson
from failsafe.records.episode import Ending, Episode
from failsafe.records.event import EventKind

ALL_TASKS = "all"


@dataclass(frozen=True)
class Row:
    """One cell: a task in a scenario with a policy under one condition.

    Attributes:
        task: Name of the task, or "all".
        scenario: Name of the scenario.
        policy: The base policy.
        arm: The condition.
        episodes: Number of episodes.
        successes: How many succeeded.
        interval: Wilson's interval of the share.
        alone: Successes of the policy alone from the same initial states.
        rescued: Initial states that the policy alone fails from, and this arm does not.
        harmed: Initial states that the policy alone succeeds from, and this arm does not.
        p: Exact McNemar test of this arm against the policy alone.
        harm_rate: Share of the policy's own successes that this arm broke.
        harm_interval: Wilson's interval of it.
        alarms: Alarms per episode.
        false_alarm_rate: Share of the policy's own successes in which there was an alarm.
        false_alarm_interval: Wilson's interval of it.
        take_overs: Take-overs per episode.
        first_alarm: Median control step of an episode's first alarm.
        steps: Mean control steps.
        seconds: Mean seconds on the robot.
        overhead: Share of a successful episode's time on the robot in which the policy waited for the model.
        asked_for_help: Episodes in which the monitor asked for help.
        endings: How many episodes ended otherwise than in success or failure.
    """

    task: str
    scenario: str
    policy: str
    arm: str
    episodes: int
    successes: int
    interval: tuple[float, float] | None
    alone: int
    rescued: int
    harmed: int
    p: float
    harm_rate: float | None
    harm_interval: tuple[float, float] | None
    alarms: float
    false_alarm_rate: float | None
    false_alarm_interval: tuple[float, float] | None
    take_overs: float
    first_alarm: float | None
    steps: float
    seconds: float
    overhead: float | None
    asked_for_help: int
    endings: dict[str, int]

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.episodes

    @property
    def gain(self) -> float:
        """How much larger it is than for the policy alone."""
        return (self.successes - self.alone) / self.episodes


@dataclass(frozen=True)
class Summary:
    """What a study comes to."""

    rows: tuple[Row, ...]

    def find(self, task: str, scenario: str, policy: str, arm: str) -> Row | None:
        """The row of a cell, None where it has not been run."""
        wanted = (task, scenario, policy, arm)
        return next((r for r in self.rows if (r.task, r.scenario, r.policy, r.arm) == wanted), None)


def summarise(episodes: Iterable[Episode]) -> Summary:
    """Every cell of a study, and for more than one task all of them together.

    Only initial states that have been run under the condition and with the policy alone are counted.

    Args:
        episodes: The records.
    """
    cells: dict[tuple[str, str, str, str], dict[tuple[str, int], Episode]] = defaultdict(dict)
    for episode in episodes:
        key = episode.key
        for task in (key.task, ALL_TASKS):
            cells[task, key.scenario, key.policy, key.arm][key.task, key.seed] = episode
    rows: list[Row] = []
    for (task, name, policy, arm), found in cells.items():
        if task == ALL_TASKS and len({where for where, _ in found}) < 2:
            continue
        alone = cells.get((task, name, policy, NEVER), {})
        pairs = [(alone[where], found[where]) for where in sorted(found) if where in alone]
        if pairs:
            rows.append(_row((task, name, policy, arm), pairs))
    return Summary(
        tuple(
            sorted(rows, key=lambda r: (r.scenario, r.policy, r.task == ALL_TASKS, r.task, ARMS.index(r.arm)))
        )
    )


def _row(cell: tuple[str, str, str, str], pairs: Sequence[tuple[Episode, Episode]]) -> Row:
    task, name, policy, arm = cell
    number = len(pairs)
    successes = sum(mine.success for _, mine in pairs)
    alone = sum(base.success for base, _ in pairs)
    rescued = sum(mine.success and not base.success for base, mine in pairs)
    harmed = sum(base.success and not mine.success for base, mine in pairs)
    alarmed = sum(base.success and mine.count(EventKind.ALARM) > 0 for base, mine in pairs)
    first = [
        next(e.step for e in mine.events if e.kind is EventKind.ALARM)
        for _, mine in pairs
        if mine.count(EventKind.ALARM)
    ]
    done = [mine for _, mine in pairs if mine.success]
    robot = sum(mine.robot_seconds for mine in done)
    odd = [m.ending.value for _, m in pairs if m.ending not in (Ending.SUCCESS, Ending.FAILURE)]
    return Row(
        task=task,
        scenario=name,
        policy=policy,
        arm=arm,
        episodes=number,
        successes=successes,
        interval=wilson(successes, number),
        alone=alone,
        rescued=rescued,
        harmed=harmed,
        p=mcnemar(rescued, harmed),
        harm_rate=harmed / alone if alone else None,
        harm_interval=wilson(harmed, alone),
        alarms=sum(mine.count(EventKind.ALARM) for _, mine in pairs) / number,
        false_alarm_rate=alarmed / alone if alone else None,
        false_alarm_interval=wilson(alarmed, alone),
        take_overs=sum(mine.count(EventKind.TAKE_OVER) for _, mine in pairs) / number,
        first_alarm=float(np.median(first)) if first else None,
        steps=sum(mine.steps for _, mine in pairs) / number,
        seconds=sum(mine.robot_seconds for _, mine in pairs) / number,
        overhead=sum(mine.monitor_seconds for mine in done) / robot if robot else None,
        asked_for_help=sum(mine.count(EventKind.HELP) > 0 for _, mine in pairs),
        endings={ending: odd.count(ending) for ending in sorted(set(odd))},
    )
