"""A study as sheets of cells, and its headline in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from failsafe.evaluation.controls import ARMS, MONITOR, NEVER
from failsafe.evaluation.paired import ALL_TASKS, Change, Pair, Row, Summary
from failsafe.evaluation.scenarios import scenario
from failsafe.evaluation.statistics import wilson
from failsafe.reports.sheets import Cell, Sheet

CHANCE = 0.05
"""Probability below which a difference is not put down to chance."""
ALARMED = {
    Change.RESCUED: "rescued",
    Change.FAILED: "still failed",
    Change.HARMED: "harmed",
    Change.KEPT: "false alarm",
}
"""What came of an episode in which there was an alarm."""
NO_MODE = "none named"


@dataclass(frozen=True)
class Headline:
    """What the monitor does for one policy.

    Attributes:
        row: All tasks together, with the monitor.
        figures: What stands at the top, with its interval, by name.
        words: The same in sentences.
    """

    row: Row
    figures: dict[str, Cell]
    words: tuple[str, ...]


def headlines(summary: Summary) -> list[Headline]:
    """One for each policy, in the scenario that is as in training, else in the first there is."""
    found: dict[str, Row] = {}
    for row in _whole(summary, MONITOR):
        if row.policy not in found or row.scenario == "nominal":
            found[row.policy] = row
    return [_headline(row) for row in found.values()]


def cells_sheet(summary: Summary) -> Sheet:
    """Every cell with everything that is known of it."""
    head = ("task", "scenario", "policy", "arm", "episodes", "success", "alone", "gain", "p")
    head += ("rescued", "harmed", "harm rate", "false alarms", "alarms", "take-overs")
    head += ("first alarm", "delay", "steps", "seconds", "waiting", "no verdict", "asked for help")
    head += ("other endings",)
    rows = tuple((*_names(row), *_cells(row)) for row in summary.rows)
    return Sheet("Every cell", "", head, rows, names=4)


def narrow_sheets(summary: Summary) -> list[Sheet]:
    """For each scenario and policy what a terminal of 100 columns has room for."""
    sheets: list[Sheet] = []
    for (name, policy), rows in _groups(summary).items():
        lines: list[tuple[Cell, ...]] = []
        before = ""
        for row in rows:
            task = "" if row.task == before else row.task
            before = row.task
            success = Cell(f"{share(row.rate)} ({_between(row.interval)})")
            difference = (_gain(row), _p(row), Cell(str(row.rescued)), Cell(str(row.harmed)), _false(row))
            empty = (Cell("–"),) * len(difference)
            rest = empty if row.arm == NEVER else difference
            lines.append((Cell(task), Cell(row.arm), Cell(str(row.episodes)), success, *rest))
        head = ("task", "arm", "of", "success", "gain", "p", "rescued", "harmed", "false alarms")
        sheets.append(Sheet(f"{policy}, scenario {name}", "", head, tuple(lines), names=2))
    return sheets


def wide_sheets(summary: Summary) -> list[Sheet]:
    """For each scenario and policy the tasks in rows and the arms in columns, then what the monitor does."""
    sheets: list[Sheet] = []
    for (name, policy), rows in _groups(summary).items():
        arms = list(dict.fromkeys(row.arm for row in rows))
        late = any(row.onsets for row in rows)  # one more column
        lines: list[tuple[Cell, ...]] = []
        for task in dict.fromkeys(row.task for row in rows):
            here = {row.arm: row for row in rows if row.task == task}
            cells = [_success(here[arm]) if arm in here else Cell("–") for arm in arms]
            under = here.get(MONITOR)
            rest = (
                (Cell("–"),) * (4 + late)
                if under is None
                else (_gain(under), _p(under), _harm(under), _false(under), *[_delay(under)] * late)
            )
            number = max(row.episodes for row in here.values())
            lines.append((Cell(task), Cell(str(number)), *cells, *rest))
        head = ("task", "episodes", *arms, "gain", "p", "harm rate", "false alarms", *["delay"] * late)
        sheets.append(Sheet(f"{policy}, scenario {name}", "", head, tuple(lines)))
    return sheets


def overview_sheet(summary: Summary) -> Sheet | None:
    """A row for every scenario and policy, all tasks together; None where there is but one of them."""
    whole = _whole(summary, MONITOR)
    if len(whole) < 2:
        return None
    late = any(row.onsets for row in whole)
    rows = tuple(
        (
            Cell(row.scenario),
            Cell(scenario(row.scenario).axis),
            Cell(row.policy),
            Cell(str(row.episodes)),
            Cell(share(row.alone / row.episodes), _between(wilson(row.alone, row.episodes))),
            *(_success(row), _gain(row), _p(row), _harm(row), _false(row), *[_delay(row)] * late),
        )
        for row in whole
    )
    head = (
        "scenario",
        "axis",
        "policy",
        "episodes",
        NEVER,
        MONITOR,
        "gain",
        "p",
        "harm rate",
        "false alarms",
    )
    return Sheet("All scenarios", "", (*head, *["delay"] * late), rows, names=3)


def effort_sheet(summary: Summary) -> Sheet:
    """What each arm did and what it took, all tasks together; per episode where nothing else is said."""
    head = ("scenario", "policy", "arm", "alarms", "take-overs", "first alarm at step", "steps", "seconds")
    head += ("waiting", "no verdict", "asked for help")
    rows: list[tuple[Cell, ...]] = []
    for row in (row for arm in ARMS for row in _whole(summary, arm)):
        alone = row.arm == NEVER
        did = (
            _number(None if alone else row.alarms, ".2f"),
            _number(None if alone else row.take_overs, ".2f"),
            _number(row.first_alarm, ".0f"),
            _number(row.steps, ".0f"),
            _number(row.seconds, ".1f"),
            Cell("–" if alone else share(row.overhead)),
            _number(None if alone else row.faults, ".2f"),
            Cell("–" if alone else f"{row.asked_for_help} of {row.episodes}"),
        )
        rows.append((Cell(row.scenario), Cell(row.policy), Cell(row.arm), *did))
    rows.sort(key=lambda cells: (cells[0].text != "nominal", cells[0].text, cells[1].text))
    return Sheet("What it took", "", head, tuple(rows), names=3)


def confusion_sheet(pairs: Sequence[Pair]) -> Sheet:
    """What the monitor named at its first alarm against what came of it; words are shares of rows."""
    counts: Counter[tuple[str, Change]] = Counter()
    for pair in pairs:
        if alarm := pair.first_alarm:
            counts[alarm.mode.replace("_", " ") or NO_MODE, pair.change] += 1
    totals: Counter[str] = Counter()
    for (mode, _), number in counts.items():
        totals[mode] += number
    rows: list[tuple[Cell, ...]] = []
    for mode, total in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        cells = [
            Cell(
                str(number) if (number := counts[mode, change]) else "",
                tone="right" if change is Change.RESCUED else "",
                words=f"{number / total:.3f}" if number else "",
            )
            for change in ALARMED
        ]
        rows.append((Cell(mode), *cells))
    return Sheet("", "", ("mode named", *ALARMED.values()), tuple(rows))


def share(value: float | None) -> str:
    """A share in per cent."""
    return "–" if value is None else f"{100 * value:.1f}%"


def probability(value: float) -> str:
    """A p-value in two digits."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _whole(summary: Summary, arm: str) -> list[Row]:
    """For each scenario and policy the row of all tasks, or of the only one."""
    rows: dict[tuple[str, str], Row] = {}
    for row in summary.rows:
        if row.arm == arm and (row.task == ALL_TASKS or (row.scenario, row.policy) not in rows):
            rows[row.scenario, row.policy] = row
    return list(rows.values())


def _headline(row: Row) -> Headline:
    alone = Cell(share(row.alone / row.episodes), _between(wilson(row.alone, row.episodes)))
    figures = {
        "success alone": alone,
        "with the monitor": _success(row),
        "gain, points": _gain(row),
        "McNemar p": _p(row),
        "harm rate": _harm(row),
        "false alarms": _false(row),
    }
    return Headline(row, figures, (_difference(row), _care(row)))


def _difference(row: Row) -> str:
    pairs = (
        f"of {row.episodes} initial states {row.rescued} fail alone and succeed with the monitor, "
        f"{row.harmed} succeed alone and fail with it (exact McNemar p {_equals(row.p)})"
    )
    if row.p >= CHANCE:
        return f"No difference beyond chance: {pairs}."
    better = "More" if row.gain > 0 else "Fewer"
    return f"{better} episodes succeed with the monitor: {pairs}."


def _care(row: Row) -> str:
    if not row.alone:
        return "The policy alone never succeeds, so nothing can be said of harm and of false alarms."
    broken = f"{row.harmed} fail with the monitor ({share(row.harm_rate)}, {_between(row.harm_interval)})"
    if row.false_alarm_rate is None:
        return f"Of the {row.alone} episodes in which the policy alone succeeds {broken}."
    alarm = f"in {share(row.false_alarm_rate)} ({_between(row.false_alarm_interval)}) there is an alarm"
    return f"Of the {row.alone} episodes in which the policy alone succeeds {broken}; {alarm}."


def _equals(p: float) -> str:
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"


def _groups(summary: Summary) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in summary.rows:
        groups.setdefault((row.scenario, row.policy), []).append(row)
    return groups


def _names(row: Row) -> tuple[Cell, ...]:
    return tuple(Cell(name) for name in (row.task, row.scenario, row.policy, row.arm))


def _cells(row: Row) -> tuple[Cell, ...]:
    """What follows the names, in the order of the heading."""
    others = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in row.endings.items())
    counts = (Cell(f"{row.episodes}"), _success(row), Cell(share(row.alone / row.episodes)))
    lengths = (_number(row.steps, ".0f"), _number(row.seconds, ".1f"))
    if row.arm == NEVER:
        return (*counts, *(Cell(""),) * 10, *lengths, *(Cell(""),) * 3, Cell(others))
    return (
        *counts,
        _gain(row),
        _p(row),
        Cell(str(row.rescued)),
        Cell(str(row.harmed)),
        _harm(row),
        _false(row),
        _number(row.alarms, ".2f"),
        _number(row.take_overs, ".2f"),
        _number(row.first_alarm, ".0f"),
        _delay(row),
        *lengths,
        Cell(share(row.overhead), value=row.overhead),
        _number(row.faults, ".2f"),
        Cell(str(row.asked_for_help)),
        Cell(others),
    )


def _success(row: Row) -> Cell:
    words = f"{row.successes} of {row.episodes}"
    return Cell(share(row.rate), _between(row.interval), words=words, value=row.rate)


def _gain(row: Row) -> Cell:
    points = 100 * row.gain
    tone = "" if row.p >= CHANCE else "good" if points > 0 else "bad"
    text = f"{points:+.1f}".replace("-", "−") if round(points, 1) else "0.0"
    return Cell(text, tone=tone, words=f"{row.rescued} rescued, {row.harmed} harmed", value=points)


def _p(row: Row) -> Cell:
    return Cell(probability(row.p), value=row.p)


def _harm(row: Row) -> Cell:
    words = f"{row.harmed} of {row.alone}"
    return Cell(share(row.harm_rate), _between(row.harm_interval), words=words, value=row.harm_rate)


def _false(row: Row) -> Cell:
    interval = _between(row.false_alarm_interval)
    return Cell(share(row.false_alarm_rate), interval, value=row.false_alarm_rate)


def _delay(row: Row) -> Cell:
    """Steps from an accident to the alarm, and how many that made the policy fail were seen at all."""
    if not row.onsets:
        return Cell("–")
    steps = "–" if row.delay is None else f"{row.delay:.0f}"
    return Cell(f"{steps} ({row.detected} of {row.onsets})", value=row.delay)


def _number(value: float | None, form: str) -> Cell:
    return Cell("–" if value is None else f"{value:{form}}", value=value)


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f}%"
