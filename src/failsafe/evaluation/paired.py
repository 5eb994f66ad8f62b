"""Summarise a study: success with its uncertainty, paired episodes, alarms and cost."""

from __future__ import annotations

import enum
import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.evaluation.conditions import CONDITIONS, MONITOR, NEVER
from failsafe.evaluation.intervention import (
    Intervention,
    StepLimit,
    measure_intervention,
    number_states,
    success_curve,
)
from failsafe.evaluation.scenarios import scenario
from failsafe.evaluation.statistics import gain_interval, rate_interval, sign_flip
from failsafe.records.episode import Ending, Episode
from failsafe.records.event import Event, EventKind

ALL_TASKS, NOMINAL = "all", "nominal"
PERTURBED = "perturbed"
"""Scenario of the rows of all run-time perturbations together, where there are several."""
_NO_ASSESSMENT = (EventKind.FAULT, EventKind.LATE, EventKind.UNREADABLE)


class Change(str, enum.Enum):
    """How the ending under a condition differs from the ending of the policy alone."""

    RESCUED = "rescued"
    HARMED = "harmed"
    FAILED = "still failed"
    KEPT = "still succeeded"


@dataclass(frozen=True)
class Pair:
    """Two episodes from one initial state: the policy alone, and one condition.

    Attributes:
        alone: Episode of the policy alone.
        under: Episode under the condition.
        nominal: Episode of the policy alone in the nominal scenario, None if it has not been run.
    """

    alone: Episode
    under: Episode
    nominal: Episode | None = None

    @property
    def change(self) -> Change:
        """The difference in the ending."""
        if self.alone.success:
            return Change.KEPT if self.under.success else Change.HARMED
        return Change.RESCUED if self.under.success else Change.FAILED

    @property
    def first_alarm(self) -> Event | None:
        """The first alarm under the condition, None if there was none."""
        return next((event for event in self.under.events if event.kind is EventKind.ALARM), None)

    @property
    def delays(self) -> bool:
        """Whether a detection delay is defined: a disturbance caused the failure, and no alarm came before.

        The disturbance is the cause if it began at the same step in both episodes, the policy alone fails
        with it and, if the nominal scenario has been run, succeeds without it.
        """
        onset, alarm = self.under.injection_step, self.first_alarm
        if onset is None or onset != self.alone.injection_step or self.alone.success:
            return False
        did_it = self.nominal is None or self.nominal.success
        return did_it and (alarm is None or alarm.step > onset)

    @property
    def delay(self) -> int | None:
        """Control steps from the onset of the disturbance to the first alarm; None if there is none."""
        onset, alarm = self.under.injection_step, self.first_alarm
        return alarm.step - onset if self.delays and onset is not None and alarm is not None else None

    @property
    def false_alarm(self) -> bool | None:
        """Whether there was an alarm in an undisturbed success of the policy alone, else None."""
        if (
            not self.alone.success
            or self.alone.injection_step is not None
            or self.under.injection_step is not None
        ):
            return None
        return self.first_alarm is not None

    @property
    def survived_alarm(self) -> bool | None:
        """Whether there was an alarm in a perturbed success of the policy alone, else None.

        The perturbation has to happen in both episodes. An alarm before it counts, too.
        """
        if not self.alone.success or None in (self.alone.injection_step, self.under.injection_step):
            return None
        return self.first_alarm is not None


@dataclass(frozen=True)
class Row:
    """One row of the table: a task in a scenario with a policy under one condition.

    Attributes:
        task: Name of the task, or "all".
        scenario: Name of the scenario, or "perturbed": all scenarios with run-time perturbations together.
        policy: The base policy.
        condition: The condition.
        episodes: Number of episodes.
        successes: Number of successful episodes.
        interval: 95 % interval of the success rate: Wilson's, or a bootstrap over initial states in rows in
            which a state counts several times. The intervals of the other rates are of the same kind.
        alone: Successes of the policy alone from the same initial states.
        alone_interval: 95 % interval of their rate.
        rescued: Initial states from which the policy alone fails and this condition succeeds.
        harmed: Initial states from which the policy alone succeeds and this condition fails.
        gain_interval: 95 % bootstrap interval over initial states of the gain in success rate.
        p: p-value of the exact McNemar test of this condition against the policy alone; where an initial
            state counts several times, of the sign-flip test on the sums over each state.
        harm_rate: Share of the policy's own successes that fail under this condition.
        harm_interval: 95 % interval of `harm_rate`.
        alarms: Alarms per episode.
        false_alarm_rate: Share of the policy's own undisturbed successes with an alarm.
        false_alarm_interval: 95 % interval of `false_alarm_rate`.
        survived: Perturbed episodes in which the policy alone succeeds.
        survived_alarms: Number of those with an alarm, which may be in time and is not needed.
        survived_interval: 95 % interval of the share of those with an alarm.
        intervention: What part the monitor has in the episodes.
        curve: Successes by step limit.
        take_overs: Take-overs per episode.
        first_alarm: Median control step of an episode's first alarm.
        onsets: Episodes with a defined detection delay, see `Pair.delays`.
        detected: Number of those with an alarm after the onset.
        delay: Median control steps from the onset to that alarm.
        steps: Mean control steps.
        seconds: Mean seconds on the robot.
        overhead: Blocking latency of the monitor as a share of the robot time, over successful episodes.
        faults: Queries per episode without an assessment: faults, late and unreadable answers.
        asked_for_help: Episodes in which the monitor asked for help.
        endings: Number of episodes by ending, other than success and failure.
        limited: Share of the control steps in which the policy asked for more than the robot's step limits;
            None if a record does not say.
    """

    task: str
    scenario: str
    policy: str
    condition: str
    episodes: int
    successes: int
    interval: tuple[float, float] | None
    alone: int
    alone_interval: tuple[float, float] | None
    rescued: int
    harmed: int
    gain_interval: tuple[float, float] | None
    p: float
    harm_rate: float | None
    harm_interval: tuple[float, float] | None
    alarms: float
    false_alarm_rate: float | None
    false_alarm_interval: tuple[float, float] | None
    survived: int
    survived_alarms: int
    survived_interval: tuple[float, float] | None
    intervention: Intervention
    curve: tuple[StepLimit, ...]
    take_overs: float
    first_alarm: float | None
    onsets: int
    detected: int
    delay: float | None
    steps: float
    seconds: float
    overhead: float | None
    faults: float
    asked_for_help: int
    endings: dict[str, int]
    limited: float | None = None

    @property
    def rate(self) -> float:
        """Success rate."""
        return self.successes / self.episodes

    @property
    def gain(self) -> float:
        """Success rate minus that of the policy alone."""
        return (self.successes - self.alone) / self.episodes


@dataclass(frozen=True)
class Summary:
    """The table of a study.

    Attributes:
        rows: Nominal scenario first; within a policy all tasks together last.
    """

    rows: tuple[Row, ...]

    def find(self, task: str, scenario: str, policy: str, condition: str) -> Row | None:
        """Return a row, None if it has not been run.

        Args:
            task: Name of the task, or "all".
            scenario: Name of the scenario.
            policy: Name of the policy.
            condition: Name of the condition.
        """
        wanted = (task, scenario, policy, condition)
        return next((r for r in self.rows if (r.task, r.scenario, r.policy, r.condition) == wanted), None)


def pairs_of(episodes: Iterable[Episode], condition: str = MONITOR) -> list[Pair]:
    """Pair the episodes of the policy alone with those under a condition.

    Args:
        episodes: Records of a study.
        condition: Name of the condition.

    Returns:
        One pair for every initial state that has been run with both, in a fixed order.
    """
    found: dict[tuple[str, str, str, int], dict[str, Episode]] = defaultdict(dict)
    for episode in episodes:
        key = episode.key
        found[key.scenario, key.policy, key.task, key.seed][key.condition] = episode
    both = [
        (where, conditions)
        for where, conditions in sorted(found.items())
        if NEVER in conditions and condition in conditions
    ]
    nominal = {where[1:]: conditions.get(NEVER) for where, conditions in found.items() if where[0] == NOMINAL}
    return [
        Pair(conditions[NEVER], conditions[condition], nominal.get(where[1:])) for where, conditions in both
    ]


def summarise(episodes: Iterable[Episode]) -> Summary:
    """Make the table of a study: one row per cell and, with more than one task, one for all tasks.

    Only initial states that have been run both under the condition and with the policy alone count. With
    several scenarios of run-time perturbations there are also rows of all of them together, in which an
    initial state counts once per scenario.

    Args:
        episodes: Records of the study.
    """
    cells: dict[tuple[str, str, str, str], dict[tuple[str, str, int], Episode]] = defaultdict(dict)
    for episode in episodes:
        key = episode.key
        names = (key.scenario, PERTURBED) if scenario(key.scenario).perturbations else (key.scenario,)
        for task, name in itertools.product((key.task, ALL_TASKS), names):
            cells[task, name, key.policy, key.condition][key.scenario, key.task, key.seed] = episode
    rows: list[Row] = []
    for (task, name, policy, condition), found in cells.items():
        if task == ALL_TASKS and len({where[1] for where in found}) < 2:
            continue
        if name == PERTURBED and len({where[0] for where in found}) < 2:
            continue
        alone = cells.get((task, name, policy, NEVER), {})
        nominal = {w[1:]: e for w, e in cells.get((task, NOMINAL, policy, NEVER), {}).items()}
        pairs = [Pair(alone[w], found[w], nominal.get(w[1:])) for w in sorted(found) if w in alone]
        if pairs:
            rows.append(_row((task, name, policy, condition), pairs))

    # The nominal scenario comes first, all perturbations and all tasks together last.
    ranks = {name: rank for rank, name in enumerate(CONDITIONS.in_order({row.condition for row in rows}))}

    def order(row: Row) -> tuple[object, ...]:
        last = row.task == ALL_TASKS
        return (
            row.scenario != NOMINAL,
            row.scenario == PERTURBED,
            row.scenario,
            row.policy,
            last,
            row.task,
            ranks[row.condition],
        )

    return Summary(tuple(sorted(rows, key=order)))


def _row(cell: tuple[str, str, str, str], pairs: Sequence[Pair]) -> Row:
    task, name, policy, condition = cell
    number = len(pairs)
    under = [pair.under for pair in pairs]
    successes = sum(episode.success for episode in under)
    alone = sum(pair.alone.success for pair in pairs)
    units = number_states([pair.alone for pair in pairs])
    differences = [pair.under.success - pair.alone.success for pair in pairs]
    per_unit = [0] * len(set(units))
    for unit, difference in zip(units, differences, strict=True):
        per_unit[unit] += difference
    own = [(pair, unit) for pair, unit in zip(pairs, units, strict=True) if pair.alone.success]
    rescues = [pair.under for pair in pairs if pair.change is Change.RESCUED]
    rescued = len(rescues)
    harmed = sum(pair.change is Change.HARMED for pair in pairs)
    quiet = [(pair, unit) for pair, unit in zip(pairs, units, strict=True) if pair.false_alarm is not None]
    false = [pair.false_alarm is True for pair, _ in quiet]
    survivors = [
        (pair, unit) for pair, unit in zip(pairs, units, strict=True) if pair.survived_alarm is not None
    ]
    survived = [pair.survived_alarm is True for pair, _ in survivors]
    first = [alarm.step for pair in pairs if (alarm := pair.first_alarm)]
    late = [pair.delay for pair in pairs if pair.delays]
    delays = [delay for delay in late if delay is not None]
    done = [episode for episode in under if episode.success]
    robot = sum(e.robot_seconds for e in done)
    odd = [e.ending.value for e in under if e.ending not in (Ending.SUCCESS, Ending.FAILURE)]
    return Row(
        task=task,
        scenario=name,
        policy=policy,
        condition=condition,
        episodes=number,
        successes=successes,
        interval=rate_interval([episode.success for episode in under], units),
        alone=alone,
        alone_interval=rate_interval([pair.alone.success for pair in pairs], units),
        rescued=rescued,
        harmed=harmed,
        gain_interval=gain_interval(differences, units),
        p=sign_flip(per_unit),
        harm_rate=harmed / alone if alone else None,
        harm_interval=rate_interval([not pair.under.success for pair, _ in own], [unit for _, unit in own]),
        alarms=sum(e.count(EventKind.ALARM) for e in under) / number,
        false_alarm_rate=sum(false) / len(false) if false else None,
        false_alarm_interval=rate_interval(false, [unit for _, unit in quiet]),
        survived=len(survived),
        survived_alarms=sum(survived),
        survived_interval=rate_interval(survived, [unit for _, unit in survivors]),
        intervention=measure_intervention(under, rescues),
        curve=success_curve(under),
        take_overs=sum(e.count(EventKind.TAKE_OVER) for e in under) / number,
        first_alarm=float(np.median(first)) if first else None,
        onsets=len(late),
        detected=len(delays),
        delay=float(np.median(delays)) if delays else None,
        steps=sum(e.steps for e in under) / number,
        seconds=sum(e.robot_seconds for e in under) / number,
        overhead=sum(e.monitor_seconds for e in done) / robot if robot else None,
        faults=sum(e.count(kind) for e in under for kind in _NO_ASSESSMENT) / number,
        asked_for_help=sum(e.count(EventKind.HELP) > 0 for e in under),
        endings={ending: odd.count(ending) for ending in sorted(set(odd))},
        limited=_limited(under),
    )


def _limited(episodes: Sequence[Episode]) -> float | None:
    counts = [episode.limited_steps for episode in episodes if episode.limited_steps is not None]
    steps = sum(episode.steps for episode in episodes)
    return sum(counts) / steps if steps and len(counts) == len(episodes) else None
