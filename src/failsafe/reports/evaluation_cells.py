"""The cells of the tables of an evaluation: each figure of a row as text, with its interval."""

from __future__ import annotations

from failsafe.evaluation.conditions import NEVER
from failsafe.evaluation.contrasts import Contrast
from failsafe.evaluation.paired import Row
from failsafe.reports.tables import TableCell

CHANCE = 0.05
"""p-value below which a difference is significant."""


def share(value: float | None) -> str:
    """Return a share in per cent."""
    return "–" if value is None else f"{100 * value:.1f}%"


def probability(value: float) -> str:
    """Return a p-value with two digits."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def name_cells(row: Row) -> tuple[TableCell, ...]:
    """Return the names of a row: task, scenario, policy, condition."""
    return tuple(TableCell(name) for name in (row.task, row.scenario, row.policy, row.condition))


def all_cells(row: Row) -> tuple[TableCell, ...]:
    """What follows the names, in the order of the heading."""
    others = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in row.endings.items())
    counts = (TableCell(f"{row.episodes}"), success_cell(row), TableCell(share(row.alone / row.episodes)))
    lengths = (number_cell(row.steps, ".0f"), number_cell(row.seconds, ".1f"))
    if row.condition == NEVER:
        return (*counts, *(TableCell(""),) * 14, *lengths, *(TableCell(""),) * 3, TableCell(others))
    return (
        *counts,
        gain_cell(row),
        p_cell(row),
        TableCell(str(row.rescued)),
        TableCell(str(row.harmed)),
        harm_cell(row),
        false_alarm_cell(row),
        survived_cell(row),
        *intervention_cells(row),
        number_cell(row.alarms, ".2f"),
        number_cell(row.take_overs, ".2f"),
        number_cell(row.first_alarm, ".0f"),
        delay_cell(row),
        *lengths,
        TableCell(share(row.overhead), value=row.overhead),
        number_cell(row.faults, ".2f"),
        TableCell(str(row.asked_for_help)),
        TableCell(others),
    )


INTERVENTION_HEAD = ("monitor acts", "in rescued", "ends under policy")
"""Headings of `intervention_cells`."""


def intervention_cells(row: Row) -> tuple[TableCell, ...]:
    """Return the intervention shares, and the rescued episodes that end under the base policy."""
    part = row.intervention
    if row.condition == NEVER:
        return (TableCell("–"),) * 3
    ends = TableCell("–")
    if part.rescued:
        text = f"{part.policy_ends} of {part.rescued}"
        ends = TableCell(text, between(part.policy_ends_interval), value=part.policy_ends_share)
    return (
        TableCell(share(part.share), between(part.share_interval), value=part.share),
        TableCell(share(part.rescued_share), between(part.rescued_interval), value=part.rescued_share),
        ends,
    )


def curve_cells(row: Row) -> tuple[TableCell, ...]:
    """Return the success rate within each step limit."""
    return tuple(
        TableCell(share(point.successes / row.episodes), between(point.interval)) for point in row.curve
    )


def effect_head(late: bool) -> tuple[str, ...]:
    """Return the headings of `effect_cells`."""
    head = ("gain", "p", "rescued", "harm rate", "false alarms")
    return (*head, "alarms, policy survives", "delay") if late else head


def effect_cells(row: Row, late: bool) -> tuple[TableCell, ...]:
    """Return the comparison with the policy alone.

    Args:
        row: The row.
        late: Whether to add the columns of perturbations.
    """
    if row.condition == NEVER:
        return (TableCell("–"),) * (7 if late else 5)
    cells = (gain_cell(row), p_cell(row), TableCell(str(row.rescued)), harm_cell(row), false_alarm_cell(row))
    return (*cells, survived_cell(row), delay_cell(row)) if late else cells


def survived_cell(row: Row) -> TableCell:
    """Return the alarms in perturbed episodes that the policy alone survives."""
    if row.condition == NEVER or not row.survived:
        return TableCell("–")
    interval = between(row.survived_interval)
    return TableCell(
        f"{row.survived_alarms} of {row.survived}", interval, value=row.survived_alarms / row.survived
    )


def with_interval(cell: TableCell) -> TableCell:
    """Return a cell with its interval as text."""
    return TableCell(f"{cell.text} ({cell.interval})" if cell.interval else cell.text)


def success_cell(row: Row) -> TableCell:
    """Return the success rate."""
    description = f"{row.successes} of {row.episodes}"
    return TableCell(share(row.rate), between(row.interval), description=description, value=row.rate)


def gain_cell(row: Row) -> TableCell:
    """Return the gain in points over the policy alone."""
    return _gain(row.gain, row.gain_interval, row.p, f"{row.rescued} rescued, {row.harmed} harmed")


def contrast_cells(contrast: Contrast | None) -> tuple[TableCell, ...]:
    """Return the gain over another policy, its p-value, and the pairs that differ; dashes for None."""
    if contrast is None:
        return (TableCell("–"),) * 3
    differ = f"{contrast.better} better, {contrast.worse} worse"
    gain = _gain(contrast.gain, contrast.gain_interval, contrast.p, differ)
    return gain, TableCell(probability(contrast.p), value=contrast.p), TableCell(differ)


def _gain(gain: float, bounds: tuple[float, float] | None, p: float, description: str) -> TableCell:
    points = 100 * gain
    tone = "" if p >= CHANCE else "good" if points > 0 else "bad"
    text = f"{points:+.1f}".replace("-", "−") if round(points, 1) else "0.0"
    return TableCell(text, _points(bounds), tone, description, points)


def p_cell(row: Row) -> TableCell:
    """Return the p-value of the gain."""
    return TableCell(probability(row.p), value=row.p)


def harm_cell(row: Row) -> TableCell:
    """Return the share of the policy's own successes that fail."""
    description = f"{row.harmed} of {row.alone}"
    return TableCell(
        share(row.harm_rate), between(row.harm_interval), description=description, value=row.harm_rate
    )


def false_alarm_cell(row: Row) -> TableCell:
    """Return the share of the policy's own undisturbed successes with an alarm."""
    interval = between(row.false_alarm_interval)
    return TableCell(share(row.false_alarm_rate), interval, value=row.false_alarm_rate)


def delay_cell(row: Row) -> TableCell:
    """Return the steps from a runtime disturbance to the alarm, and the number of disturbances detected."""
    if not row.onsets:
        return TableCell("–")
    steps = "–" if row.delay is None else f"{row.delay:.0f}"
    return TableCell(f"{steps} ({row.detected} of {row.onsets})", value=row.delay)


def number_cell(value: float | None, form: str) -> TableCell:
    """Return a number, or a dash without one.

    Args:
        value: The number.
        form: Its format, for example ".2f".
    """
    return TableCell("–" if value is None else f"{value:{form}}", value=value)


def between(interval: tuple[float, float] | None) -> str:
    """Return an interval of a rate in per cent, empty without one."""
    return "" if interval is None else f"{100 * interval[0]:.0f}–{100 * interval[1]:.0f}%"


def _points(bounds: tuple[float, float] | None) -> str:
    if bounds is None:
        return ""
    return " to ".join(f"{100 * bound:+.0f}".replace("-", "−") for bound in bounds)
