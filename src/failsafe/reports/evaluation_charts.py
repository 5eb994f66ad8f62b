"""Drawings of a study's page: success with its interval, the time lines of episodes, when alarms come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from failsafe.evaluation.paired import Pair, Row, Summary
from failsafe.records.episode import Episode
from failsafe.records.event import Event, EventKind
from failsafe.reports.coverage_charts import Histogram, histogram
from failsafe.reports.evaluation_tables import ALARMED

_TOP = 10.0
"""Upper end of the axis of scores where any evidence, or none, makes an alarm."""
MARKS = {
    EventKind.ALARM: "alarm",
    EventKind.TAKE_OVER: "take-over",
    EventKind.HAND_BACK: "hand-back",
    EventKind.REFUSAL: "refusal",
    EventKind.HELP: "asks for help",
    EventKind.FAULT: "fault",
    EventKind.LATE: "no answer in time",
    EventKind.UNREADABLE: "unreadable answer",
}
"""What is marked on a time line, and what it is called."""


@dataclass(frozen=True)
class SuccessChart:
    """Success of every task and arm in one scenario with one policy, in shares of the width.

    Attributes:
        title: Which scenario and policy.
        tasks: By task, its rows.
    """

    title: str
    tasks: dict[str, list[Row]]


@dataclass(frozen=True)
class TimeLine:
    """One episode under the monitor, with all that the monitor saw and did.

    Attributes:
        steps: Control steps that the axis has.
        looks: Step and score of every look that counted; those in a take-over and right after it do not.
        threshold: Score above which there is an alarm, None if there can be none.
        top: Score at the upper end of the axis; what is above is drawn there.
        acting: First and last step of every take-over.
        marks: Step, kind and words of everything marked, take-overs before the alarms that they follow.
        episode: The episode.
        alone: The same with the policy alone.
    """

    steps: int
    looks: list[tuple[int, float]]
    threshold: float | None
    top: float
    acting: list[tuple[int, int]]
    marks: list[tuple[int, EventKind, str]]
    episode: Episode
    alone: Episode

    @property
    def stretches(self) -> list[list[tuple[int, float]]]:
        """The looks between take-overs: after each, evidence begins anew."""
        begins = [0, *(first for first, _ in self.acting)]
        ends = [*(first for first, _ in self.acting), self.steps]
        return [
            [look for look in self.looks if begin < look[0] <= end]
            for begin, end in zip(begins, ends, strict=True)
        ]


def success_charts(summary: Summary) -> list[SuccessChart]:
    """One for each scenario and policy."""
    charts: dict[tuple[str, str], SuccessChart] = {}
    for row in summary.rows:
        title = f"{row.policy}, {row.scenario}"
        chart = charts.setdefault((row.scenario, row.policy), SuccessChart(title, {}))
        chart.tasks.setdefault(row.task, []).append(row)
    return list(charts.values())


def time_line(pair: Pair) -> TimeLine:
    """The time line of a pair."""
    events = pair.under.events
    looks = [event for event in events if event.kind is EventKind.QUERY and event.score is not None]
    begins = [event.step for event in events if event.kind is EventKind.TAKE_OVER]
    ends = [event.step for event in events if event.kind is EventKind.HAND_BACK]
    # An episode may end in the middle of a correction.
    ends += [pair.under.steps] * (len(begins) - len(ends))
    threshold = next((event.threshold for event in looks if event.threshold is not None), None)
    # Evidence that nobody acts upon grows without bounds: what counts is how it comes to the threshold.
    top = 2 * threshold if threshold else _TOP
    return TimeLine(
        steps=max(pair.under.steps, pair.alone.steps, 1),
        looks=[(event.step, event.score) for event in looks if event.score is not None],
        threshold=threshold,
        top=top,
        acting=list(zip(begins, ends, strict=True)),
        marks=[(e.step, e.kind, _words(e)) for e in events if e.kind in MARKS],
        episode=pair.under,
        alone=pair.alone,
    )


def alarm_chart(pairs: Sequence[Pair], max_steps: int) -> Histogram:
    """When the first alarm of an episode comes, and what came of the episode.

    Args:
        pairs: The episodes.
        max_steps: Control steps after which an episode is over.
    """
    values = [(float(alarm.step), ALARMED[pair.change]) for pair in pairs if (alarm := pair.first_alarm)]
    ends = (0.0, float(max_steps))
    return histogram("step of the first alarm", values, ends, "", tuple(ALARMED.values()))


def delay_charts(pairs: Sequence[Pair]) -> list[Histogram]:
    """How long after an accident the first alarm comes: one chart, or none where there were no accidents.

    Args:
        pairs: The episodes.
    """
    late = [(pair.delay, ALARMED[pair.change]) for pair in pairs if pair.delays]
    values = [(float(delay), outcome) for delay, outcome in late if delay is not None]
    if not values:
        return []
    ends = (0.0, max(delay for delay, _ in values) + 1)
    return [histogram("steps from the accident to the alarm", values, ends, "", tuple(ALARMED.values()))]


def _words(event: Event) -> str:
    parts = [f"step {event.step}: {MARKS[event.kind]}"]
    if event.score is not None:
        parts.append(f"score {event.score:.2f}")
    if event.mode:
        parts.append(event.mode.replace("_", " "))
    if event.stage:
        parts.append(event.stage)
    if event.kind is EventKind.TAKE_OVER:
        parts.append(f"{event.actions} actions")
    return ", ".join([*parts, *([event.description] if event.description else [])])
