"""The tables of an evaluation, and its headline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from failsafe.evaluation.conditions import CONDITIONS, MONITOR, NEVER
from failsafe.evaluation.intervention import STEP_LIMITS
from failsafe.evaluation.paired import ALL_TASKS, NOMINAL, PERTURBED, Change, Pair, Row, Summary
from failsafe.evaluation.scenarios import scenario
from failsafe.evaluation.statistics import wilson
from failsafe.reports.tables import Table, TableCell

CHANCE = 0.05
"""p-value below which a difference is significant."""
ALARMED = {
    Change.RESCUED: "rescued",
    Change.FAILED: "still failed",
    Change.HARMED: "harmed",
    Change.KEPT: "false alarm",
}
"""Outcomes of an episode with an alarm."""
NO_MODE = "none named"


@dataclass(frozen=True)
class Headline:
    """The effect of the monitor on one policy.

    Attributes:
        row: All tasks together, with the monitor.
        figures: The figures at the top of the page, by name.
        description: The same as sentences.
    """

    row: Row
    figures: dict[str, TableCell]
    description: tuple[str, ...]


def headlines(summary: Summary) -> list[Headline]:
    """Return a headline per policy: of all perturbations, else of the nominal scenario, else the first."""
    rows = sorted(
        _whole(summary, MONITOR), key=lambda row: (row.scenario != PERTURBED, row.scenario != NOMINAL)
    )
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row.policy, row)
    return [_headline(row) for row in found.values()]


def cells_table(summary: Summary) -> Table:
    """Return the table of all cells with all figures."""
    head = ("task", "scenario", "policy", "condition", "episodes", "success", "alone", "gain", "p")
    head += ("rescued", "harmed", "harm rate", "false alarms", "alarms, policy survives", *_INTERVENTION)
    head += ("alarms", "takeovers")
    head += ("first alarm", "delay", "steps", "seconds", "waiting", "no assessment", "asked for help")
    head += ("other endings",)
    rows = tuple((*_names(row), *_cells(row)) for row in summary.rows)
    return Table("All cells", "", head, rows, names=4)


def narrow_tables(summary: Summary) -> list[Table]:
    """Return, for each scenario and policy, three tables that fit a terminal of 100 characters."""
    tables: list[Table] = []
    for (name, policy), rows in _groups(summary).items():
        lines: list[tuple[TableCell, ...]] = []
        before = ""
        for row in rows:
            task = "" if row.task == before else row.task
            before = row.task
            success = TableCell(f"{share(row.rate)} ({_between(row.interval)})")
            difference = (
                _gain(row),
                _p(row),
                TableCell(str(row.rescued)),
                TableCell(str(row.harmed)),
                _false(row),
            )
            empty = (TableCell("–"),) * len(difference)
            rest = empty if row.condition == NEVER else difference
            lines.append(
                (TableCell(task), TableCell(row.condition), TableCell(str(row.episodes)), success, *rest)
            )
        head = ("task", "condition", "of", "success", "gain", "p", "rescued", "harmed", "false alarms")
        tables.append(Table(f"{policy}, scenario {name}", "", head, tuple(lines), names=2))
        tables.extend(_narrow_intervention(policy, name, summary))
    return tables


def _narrow_intervention(policy: str, name: str, summary: Summary) -> tuple[Table, Table]:
    """Return who acts in one scenario with one policy, all tasks together, and success by step limit."""
    rows = [row for row in whole_rows(summary) if (row.policy, row.scenario) == (policy, name)]
    acts = tuple(
        (TableCell(row.condition), *map(_plain, (*_intervention(row), _survived(row)))) for row in rows
    )
    curve = tuple(
        (
            TableCell(row.condition),
            *(
                TableCell(f"{100 * point.successes / row.episodes:.0f}% ({_between(point.interval)})")
                for point in row.curve
            ),
        )
        for row in rows
    )
    head = ("condition", *_INTERVENTION, "alarms, policy survives")
    steps = ("condition", *(f"{limit} steps" for limit in STEP_LIMITS))
    return Table("Who acts", "", head, acts), Table("Success by step limit", "", steps, curve)


def wide_tables(summary: Summary) -> list[Table]:
    """Return a table for each scenario and policy, with a row for each task and condition."""
    tables: list[Table] = []
    for (name, policy), rows in _groups(summary).items():
        late = any(row.onsets for row in rows)  # two more columns
        head = ("task", "condition", "episodes", "success", *_effect_head(late), *_INTERVENTION)
        lines = tuple(
            (
                TableCell(row.task),
                TableCell(row.condition),
                TableCell(str(row.episodes)),
                _success(row),
                *_effect(row, late),
                *_intervention(row),
            )
            for row in rows
        )
        tables.append(Table(f"{policy}, scenario {name}", "", head, lines, names=2))
    return tables


def overview_table(summary: Summary) -> Table | None:
    """Return every scenario, policy and condition, all tasks together; None if there is only one scenario."""
    whole = [row for row in whole_rows(summary) if row.condition != NEVER]
    if len({(row.scenario, row.policy) for row in whole}) < 2:
        return None
    late = any(row.onsets for row in whole)
    rows = tuple(
        (
            TableCell(row.scenario),
            TableCell("perturbation" if row.scenario == PERTURBED else scenario(row.scenario).axis),
            TableCell(row.policy),
            TableCell(row.condition),
            TableCell(str(row.episodes)),
            TableCell(share(row.alone / row.episodes), _between(wilson(row.alone, row.episodes))),
            _success(row),
            *_effect(row, late),
            *_intervention(row),
        )
        for row in whole
    )
    head = ("scenario", "axis", "policy", "condition", "episodes", "alone", "success")
    return Table("All scenarios", "", (*head, *_effect_head(late), *_INTERVENTION), rows, names=4)


def curve_table(summary: Summary) -> Table:
    """Return the success rate by step limit of every condition, all tasks together."""
    head = ("scenario", "policy", "condition", "episodes", *(f"{limit} steps" for limit in STEP_LIMITS))
    rows = tuple(
        (
            TableCell(row.scenario),
            TableCell(row.policy),
            TableCell(row.condition),
            TableCell(str(row.episodes)),
            *_curve(row),
        )
        for row in whole_rows(summary)
    )
    return Table("Success by step limit", "", head, rows, names=3)


def effort_table(summary: Summary) -> Table:
    """Return what each condition did and what it cost, all tasks together; per episode unless stated."""
    head = (
        "scenario",
        "policy",
        "condition",
        "alarms",
        "takeovers",
        "first alarm at step",
        "steps",
        "seconds",
    )
    head += ("waiting", "no assessment", "asked for help")
    rows: list[tuple[TableCell, ...]] = []
    for row in whole_rows(summary):
        alone = row.condition == NEVER
        did = (
            _number(None if alone else row.alarms, ".2f"),
            _number(None if alone else row.take_overs, ".2f"),
            _number(row.first_alarm, ".0f"),
            _number(row.steps, ".0f"),
            _number(row.seconds, ".1f"),
            TableCell("–" if alone else share(row.overhead)),
            _number(None if alone else row.faults, ".2f"),
            TableCell("–" if alone else f"{row.asked_for_help} of {row.episodes}"),
        )
        rows.append((TableCell(row.scenario), TableCell(row.policy), TableCell(row.condition), *did))
    return Table("What it took", "", head, tuple(rows), names=3)


def confusion_table(pairs: Sequence[Pair]) -> Table:
    """Return the mode named at the first alarm against the outcome; descriptions are shares of rows."""
    counts: Counter[tuple[str, Change]] = Counter()
    for pair in pairs:
        if alarm := pair.first_alarm:
            counts[alarm.mode.replace("_", " ") or NO_MODE, pair.change] += 1
    totals: Counter[str] = Counter()
    for (mode, _), number in counts.items():
        totals[mode] += number
    rows: list[tuple[TableCell, ...]] = []
    for mode, total in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        cells = [
            TableCell(
                str(number) if (number := counts[mode, change]) else "",
                tone="right" if change is Change.RESCUED else "",
                description=f"{number / total:.3f}" if number else "",
            )
            for change in ALARMED
        ]
        rows.append((TableCell(mode), *cells))
    return Table("", "", ("mode named", *ALARMED.values()), tuple(rows))


def share(value: float | None) -> str:
    """Return a share in per cent."""
    return "–" if value is None else f"{100 * value:.1f}%"


def probability(value: float) -> str:
    """Return a p-value with two digits."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _whole(summary: Summary, condition: str) -> list[Row]:
    """Return, for each scenario and policy, the row of all tasks, or of the only one."""
    rows: dict[tuple[str, str], Row] = {}
    for row in summary.rows:
        if row.condition == condition and (row.task == ALL_TASKS or (row.scenario, row.policy) not in rows):
            rows[row.scenario, row.policy] = row
    return list(rows.values())


def whole_rows(summary: Summary) -> list[Row]:
    """Return the rows of all tasks together, or of the only one: scenario, policy, condition."""
    conditions = CONDITIONS.in_order({row.condition for row in summary.rows})
    rows = [row for condition in conditions for row in _whole(summary, condition)]
    return sorted(
        rows, key=lambda row: (row.scenario != NOMINAL, row.scenario == PERTURBED, row.scenario, row.policy)
    )


def _headline(row: Row) -> Headline:
    alone = TableCell(share(row.alone / row.episodes), _between(wilson(row.alone, row.episodes)))
    figures = {
        "success alone": alone,
        "with the monitor": _success(row),
        "gain, points": _gain(row),
        f"{_test(row)} p": _p(row),
        "harm rate": _harm(row),
        "false alarms": _false(row),
        "the monitor acts": _intervention(row)[0],
        "rescued, ends under policy": _intervention(row)[2],
    }
    return Headline(row, figures, (_difference(row), _care(row), _part(row)))


def _difference(row: Row) -> str:
    states = "pairs" if row.scenario == PERTURBED else "initial states"
    pairs = (
        f"of {row.episodes} {states} {row.rescued} fail alone and succeed with the monitor, "
        f"{row.harmed} succeed alone and fail with it (exact {_test(row)} p {_equals(row.p)})"
    )
    if row.p >= CHANCE:
        return f"No difference beyond chance: {pairs}."
    better = "More" if row.gain > 0 else "Fewer"
    return f"{better} episodes succeed with the monitor: {pairs}."


def _test(row: Row) -> str:
    """Return the name of the test behind the p-value of a row."""
    return "sign-flip" if row.scenario == PERTURBED else "McNemar"


def _care(row: Row) -> str:
    if not row.alone:
        return "The policy alone never succeeds, so nothing can be said of harm and of false alarms."
    broken = f"{row.harmed} fail with the monitor ({share(row.harm_rate)}, {_between(row.harm_interval)})"
    if row.false_alarm_rate is None:
        return f"Of the {row.alone} episodes in which the policy alone succeeds {broken}."
    alarm = f"in {share(row.false_alarm_rate)} ({_between(row.false_alarm_interval)}) there is an alarm"
    return f"Of the {row.alone} episodes in which the policy alone succeeds {broken}; {alarm}."


def _part(row: Row) -> str:
    part = row.intervention
    acts = f"The monitor acts in {share(part.share)} of all control steps"
    if not row.rescued:
        return f"{acts}."
    return (
        f"{acts}, and in {share(part.rescued_share)} ({_between(part.rescued_interval)}) of those of rescued "
        f"episodes; {part.policy_ends} of {part.rescued} rescued episodes end under the base policy "
        f"({_between(part.policy_ends_interval)})."
    )


def _equals(p: float) -> str:
    text = probability(p)
    return text if text.startswith("<") else f"= {text}"


def _groups(summary: Summary) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in summary.rows:
        groups.setdefault((row.scenario, row.policy), []).append(row)
    return groups


def _names(row: Row) -> tuple[TableCell, ...]:
    return tuple(TableCell(name) for name in (row.task, row.scenario, row.policy, row.condition))


def _cells(row: Row) -> tuple[TableCell, ...]:
    """What follows the names, in the order of the heading."""
    others = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in row.endings.items())
    counts = (TableCell(f"{row.episodes}"), _success(row), TableCell(share(row.alone / row.episodes)))
    lengths = (_number(row.steps, ".0f"), _number(row.seconds, ".1f"))
    if row.condition == NEVER:
        return (*counts, *(TableCell(""),) * 14, *lengths, *(TableCell(""),) * 3, TableCell(others))
    return (
        *counts,
        _gain(row),
        _p(row),
        TableCell(str(row.rescued)),
        TableCell(str(row.harmed)),
        _harm(row),
        _false(row),
        _survived(row),
        *_intervention(row),
        _number(row.alarms, ".2f"),
        _number(row.take_overs, ".2f"),
        _number(row.first_alarm, ".0f"),
        _delay(row),
        *lengths,
        TableCell(share(row.overhead), value=row.overhead),
        _number(row.faults, ".2f"),
        TableCell(str(row.asked_for_help)),
        TableCell(others),
    )


_INTERVENTION = ("monitor acts", "in rescued", "ends under policy")
"""Headings of `_intervention`."""


def _intervention(row: Row) -> tuple[TableCell, ...]:
    """Return the intervention shares, and the rescued episodes that end under the base policy."""
    part = row.intervention
    if row.condition == NEVER:
        return (TableCell("–"),) * 3
    ends = TableCell("–")
    if part.rescued:
        text = f"{part.policy_ends} of {part.rescued}"
        ends = TableCell(text, _between(part.policy_ends_interval), value=part.policy_ends_share)
    return (
        TableCell(share(part.share), _between(part.share_interval), value=part.share),
        TableCell(share(part.rescued_share), _between(part.rescued_interval), value=part.rescued_share),
        ends,
    )


def _curve(row: Row) -> tuple[TableCell, ...]:
    return tuple(
        TableCell(share(point.successes / row.episodes), _between(point.interval)) for point in row.curve
    )


def _effect_head(late: bool) -> tuple[str, ...]:
    """Return the headings of `_effect`."""
    head = ("gain", "p", "rescued", "harm rate", "false alarms")
    return (*head, "alarms, policy survives", "delay") if late else head


def _effect(row: Row, late: bool) -> tuple[TableCell, ...]:
    """Return the comparison with the policy alone; with the columns of perturbations if `late`."""
    if row.condition == NEVER:
        return (TableCell("–"),) * (7 if late else 5)
    cells = (_gain(row), _p(row), TableCell(str(row.rescued)), _harm(row), _false(row))
    return (*cells, _survived(row), _delay(row)) if late else cells


def _survived(row: Row) -> TableCell:
    """Return the alarms in perturbed episodes that the policy alone survives."""
    if row.condition == NEVER or not row.survived:
        return TableCell("–")
    interval = _between(wilson(row.survived_alarms, row.survived))
    return TableCell(
        f"{row.survived_alarms} of {row.survived}", interval, value=row.survived_alarms / row.survived
    )


def _plain(cell: TableCell) -> TableCell:
    """Return a cell with its interval as text."""
    return TableCell(f"{cell.text} ({cell.interval})" if cell.interval else cell.text)


def _success(row: Row) -> TableCell:
    description = f"{row.successes} of {row.episodes}"
    return TableCell(share(row.rate), _between(row.interval), description=description, value=row.rate)


def _gain(row: Row) -> TableCell:
    points = 100 * row.gain
    tone = "" if row.p >= CHANCE else "good" if points > 0 else "bad"
    text = f"{points:+.1f}".replace("-", "−") if round(points, 1) else "0.0"
    description = f"{row.rescued} rescued, {row.harmed} harmed"
    return TableCell(text, _points(row.gain_interval), tone, description, points)


def _p(row: Row) -> TableCell:
    return TableCell(probability(row.p), value=row.p)


def _harm(row: Row) -> TableCell:
    description = f"{row.harmed} of {row.alone}"
    return TableCell(
        share(row.harm_rate), _between(row.harm_interval), description=description, value=row.harm_rate
    )


def _false(row: Row) -> TableCell:
    interval = _between(row.false_alarm_interval)
    return TableCell(share(row.false_alarm_rate), interval, value=row.false_alarm_rate)


def _delay(row: Row) -> TableCell:
    """Return the steps from a runtime disturbance to the alarm, and the number of disturbances detected."""
    if not row.onsets:
        return TableCell("–")
    steps = "–" if row.delay is None else f"{row.delay:.0f}"
    return TableCell(f"{steps} ({row.detected} of {row.onsets})", value=row.delay)


def _number(value: float | None, form: str) -> TableCell:
    return TableCell("–" if value is None else f"{value:{form}}", value=value)


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f}%"


def _points(bounds: tuple[float, float] | None) -> str:
    if bounds is None:
        return ""
    return " to ".join(f"{100 * bound:+.0f}".replace("-", "−") for bound in bounds)
