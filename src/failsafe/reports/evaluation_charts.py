"""Charts of an evaluation report: success rates, time lines of episodes, histograms of alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from failsafe.evaluation.intervention import STEP_LIMITS
from failsafe.evaluation.paired import Pair, Row, Summary
from failsafe.records.episode import Episode
from failsafe.records.event import Event, EventKind
from failsafe.reports.coverage_charts import Histogram, histogram
from failsafe.reports.evaluation_tables import ALARMED, whole_rows

_TOP = 10.0
"""Upper end of the score axis without a finite threshold above 0."""
MARKS = {
    EventKind.ALARM: "alarm",
    EventKind.TAKE_OVER: "takeover",
    EventKind.HAND_BACK: "hand-back",
    EventKind.REFUSAL: "refusal",
    EventKind.HELP: "asks for help",
    EventKind.FAULT: "fault",
    EventKind.LATE: "no answer in time",
    EventKind.UNREADABLE: "unreadable answer",
}
"""The events marked on a time line, and their names."""


@dataclass(frozen=True)
class SuccessChart:
    """Success of every task and condition in one scenario with one policy.

    Attributes:
        title: Scenario and policy.
        tasks: The rows of each task.
    """

    title: str
    tasks: dict[str, list[Row]]


@dataclass(frozen=True)
class CurveChart:
    """Success by step limit of every condition in one scenario with one policy, all tasks together.

    Attributes:
        title: Scenario and policy.
        limits: The step limits.
        rows: The rows, one for each condition.
    """

    title: str
    limits: tuple[int, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class TimeLine:
    """Time line of one episode with the monitor: its queries and events.

    Attributes:
        steps: Length of the axis, control steps.
        queries: Step and score of every query that counted; those during and right after a takeover do not.
        threshold: Score above which the monitor alarms, None if it never does.
        top: Score at the upper end of the axis; higher scores are drawn there.
        acting: First and last step of every takeover.
        marks: Step, kind and text of every marked event.
        episode: The episode.
        alone: The same episode with the policy alone.
    """

    steps: int
    queries: list[tuple[int, float]]
    threshold: float | None
    top: float
    acting: list[tuple[int, int]]
    marks: list[tuple[int, EventKind, str]]
    episode: Episode
    alone: Episode

    @property
    def segments(self) -> list[list[tuple[int, float]]]:
        """The queries between takeovers; each takeover resets the detector."""
        begins = [0, *(first for first, _ in self.acting)]
        ends = [*(first for first, _ in self.acting), self.steps]
        return [
            [query for query in self.queries if begin < query[0] <= end]
            for begin, end in zip(begins, ends, strict=True)
        ]


def success_charts(summary: Summary) -> list[SuccessChart]:
    """Return one chart for each scenario and policy."""
    charts: dict[tuple[str, str], SuccessChart] = {}
    for row in summary.rows:
        title = f"{row.policy}, {row.scenario}"
        chart = charts.setdefault((row.scenario, row.policy), SuccessChart(title, {}))
        chart.tasks.setdefault(row.task, []).append(row)
    return list(charts.values())


def curve_charts(summary: Summary) -> list[CurveChart]:
    """Return one chart of success by step limit for each scenario and policy."""
    charts: dict[tuple[str, str], list[Row]] = {}
    for row in whole_rows(summary):
        charts.setdefault((row.scenario, row.policy), []).append(row)
    return [
        CurveChart(f"{policy}, {name}", STEP_LIMITS, tuple(rows)) for (name, policy), rows in charts.items()
    ]


def time_line(pair: Pair) -> TimeLine:
    """Return the time line of a pair of episodes."""
    events = pair.under.events
    queries = [event for event in events if event.kind is EventKind.QUERY and event.score is not None]
    threshold = next((event.threshold for event in queries if event.threshold is not None), None)
    # The score grows without bounds if no alarm is acted on; only the part up to the threshold matters.
    top = 2 * threshold if threshold else _TOP
    return TimeLine(
        steps=max(pair.under.steps, pair.alone.steps, 1),
        queries=[(event.step, event.score) for event in queries if event.score is not None],
        threshold=threshold,
        top=top,
        acting=list(pair.under.takeovers),
        marks=[(e.step, e.kind, _text(e)) for e in events if e.kind in MARKS],
        episode=pair.under,
        alone=pair.alone,
    )


def alarm_chart(pairs: Sequence[Pair], max_steps: int) -> Histogram:
    """Return a histogram of the first alarm's step, stacked by outcome.

    Args:
        pairs: The episodes.
        max_steps: Control steps of a whole episode.
    """
    values = [(float(alarm.step), ALARMED[pair.change]) for pair in pairs if (alarm := pair.first_alarm)]
    ends = (0.0, float(max_steps))
    return histogram("step of the first alarm", values, ends, "", tuple(ALARMED.values()))


def delay_charts(pairs: Sequence[Pair]) -> list[Histogram]:
    """Return a histogram of the steps from a runtime disturbance to the first alarm, if there are any.

    Args:
        pairs: The episodes.
    """
    late = [(pair.delay, ALARMED[pair.change]) for pair in pairs if pair.delays]
    values = [(float(delay), outcome) for delay, outcome in late if delay is not None]
    if not values:
        return []
    ends = (0.0, max(delay for delay, _ in values) + 1)
    return [histogram("steps from the disturbance to the alarm", values, ends, "", tuple(ALARMED.values()))]


def _text(event: Event) -> str:
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
