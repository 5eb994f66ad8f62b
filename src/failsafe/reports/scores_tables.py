"""The tables of offline scores, for the page, the terminal and the docs."""

from __future__ import annotations

from collections.abc import Sequence

from failsafe.evaluation.metrics import METRICS, Metric
from failsafe.evaluation.offline import Estimate, Group, ModelScore, ScoreTable, SetScore
from failsafe.reports.tables import Table, TableCell

PARTS = {"kind": "kind", "task": "task", "mode": "mode"}
"""The groupings of samples and their names."""
_NOISE = 1e-9
"""Tolerance for rounding: a smaller difference is none."""


def headline_table(table: ScoreTable) -> Table:
    """Return every figure of the first model on every sample set, with differences from the first set."""
    sets = table.scores[0].sets
    head = ["figure", "samples"]
    for found in sets:
        head += [found.name] if found is sets[0] else [found.name, "difference"]
    rows: list[tuple[TableCell, ...]] = []
    for metric in METRICS:
        row = [
            TableCell(heading(metric), description=metric.meaning),
            TableCell(f"{_figure(sets[0], metric).rows:,}"),
        ]
        for found in sets:
            row.append(_cell(metric, _figure(found, metric)))
            if found is not sets[0]:
                row.append(_difference(metric, found.differences[metric.name]))
        rows.append(tuple(row))
    hint = f"{_counted(sets[0].headline)} Each figure has its 95 % interval by bootstrap over seeds."
    return Table(table.scores[0].model, hint, tuple(head), tuple(rows))


def model_tables(table: ScoreTable, metrics: Sequence[Metric] = METRICS) -> list[Table]:
    """Return, for each sample set, all models.

    Args:
        table: The scores.
        metrics: The columns.
    """
    tables: list[Table] = []
    for number, found in enumerate(table.scores[0].sets):
        rows = [
            (TableCell(score.model), *_row(score.sets[number].headline, metrics)) for score in table.scores
        ]
        tables.append(Table(f"All models: {found.name}", "", ("model", *map(heading, metrics)), tuple(rows)))
    return tables


def part_tables(score: ModelScore, found: SetScore, metrics: Sequence[Metric] = METRICS) -> list[Table]:
    """Return one model's scores on one sample set, by kind of sample, task and mode.

    Args:
        score: The model's scores.
        found: Its scores on the set.
        metrics: The columns.
    """
    tables: list[Table] = []
    for by, name in PARTS.items():
        groups = [g for g in found.groups if g.by == "all" or g.by == by]
        rows = [
            (
                TableCell(spoken(g.name), description=_counted(g)),
                TableCell(f"{g.counts['moments']:,}"),
                *_row(g, metrics),
            )
            for g in groups
        ]
        head = (name, "samples", *map(heading, metrics))
        tables.append(Table(f"{score.model} by {name}: {found.name}", "", head, tuple(rows)))
    return tables


def confusion_table(found: SetScore) -> Table:
    """Return the confusion matrix of modes: true modes in rows; descriptions are shares of rows."""
    rows: list[tuple[TableCell, ...]] = []
    for name, counts in zip(found.confusion.rows, found.confusion.counts, strict=True):
        total = sum(counts)
        cells = [
            TableCell(
                str(n) if n else "",
                tone="right" if predicted == name else "",
                description=f"{n / total:.3f}" if n else "",
            )
            for predicted, n in zip(found.confusion.columns, counts, strict=True)
        ]
        rows.append((TableCell(spoken(name)), *cells))
    head = ("true mode", *map(spoken, found.confusion.columns))
    return Table(f"Predicted modes: {found.name}", "", head, tuple(rows))


def heading(metric: Metric) -> str:
    """Return a metric's heading with its unit."""
    return f"{metric.title} [{metric.unit}]" if metric.unit else metric.title


def number(metric: Metric, value: float, signed: bool = False) -> str:
    """Return a figure with three decimals, or one if it has a unit.

    Args:
        metric: The metric.
        value: Its value.
        signed: Write a plus sign.
    """
    sign = "+" if signed else ""
    text = f"{value:{sign}.1f}" if metric.unit else f"{value:{sign}.3f}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")


def spoken(name: str) -> str:
    """Return a key with spaces for underscores."""
    return name.replace("_", " ")


def _row(group: Group, metrics: Sequence[Metric]) -> Sequence[TableCell]:
    return [_cell(metric, group.figures[metric.name]) for metric in metrics]


def _cell(metric: Metric, figure: Estimate) -> TableCell:
    if figure.value is None:
        return TableCell("–", description=f"not defined on {figure.rows} samples")
    return TableCell(
        number(metric, figure.value), _interval(metric, figure), description=f"on {figure.rows:,} samples"
    )


def _interval(metric: Metric, figure: Estimate, signed: bool = False) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{number(metric, figure.low, signed)} to {number(metric, figure.high, signed)}"


def _difference(metric: Metric, figure: Estimate) -> TableCell:
    if figure.value is None:
        return TableCell("–")
    tone = ""
    if figure.low is not None and figure.high is not None and (figure.low > _NOISE or figure.high < -_NOISE):
        tone = "good" if (figure.value > 0) == (metric.better == "high") else "bad"
    return TableCell(number(metric, figure.value, True), _interval(metric, figure, True), tone)


def _figure(found: SetScore, metric: Metric) -> Estimate:
    return found.headline.figures[metric.name]


def _counted(group: Group) -> str:
    c = group.counts
    return (
        f"{c['moments']:,} samples of {c['seeds']:,} seeds, {c['failing']:,} of them failing: "
        f"{c['compound']:,} with a compound cause, {c['without correction']:,} without a proven correction, "
        f"{c['without direction']:,} whose correction has no direction."
    )
