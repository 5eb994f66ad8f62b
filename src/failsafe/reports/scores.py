"""Offline scores: text for a terminal, Markdown for the docs, and a self-contained page."""

from __future__ import annotations

from pathlib import Path

from failsafe.datasets.files import write_atomically
from failsafe.evaluation.metrics import BINS, METRICS
from failsafe.evaluation.offline import HEADLINE_LEAVES_OUT, ScoreTable
from failsafe.reports.pages import inline, render
from failsafe.reports.scores_tables import (
    confusion_table,
    heading,
    headline_table,
    model_tables,
    part_tables,
    spoken,
)
from failsafe.reports.tables import Table, table_markdown, table_text

HEADLINE_NOTE = (
    f"The headline and the tables of models, tasks and modes exclude samples of the kind "
    f"'{', '.join(spoken(kind.value) for kind in HEADLINE_LEAVES_OUT)}': by then a monitor has queried three "
    "times. These samples have their own row in the table by kind."
)
UNUSABLE_NOTE = (
    "An unreadable answer or a refusal counts as the opposite of the ground truth with probability 1, "
    "without mode, stage and actions. No sample is left out."
)
_TOP = ("accuracy", "balanced", "auroc", "mode", "stage", "cosine", "millimetres", "ece", "latency")
"""The figures at the top of the page."""
_NARROW = (
    *_TOP[:2],
    "precision",
    "recall",
    *_TOP[2:7],
    "degrees",
    "help",
    "ece",
    "unreadable",
    "refused",
    "latency",
)
"""The columns of the text tables; the first table and the page have all figures."""


def format_scores(table: ScoreTable, width: int | None = None) -> str:
    """Return the scores as text: the first model, all models, and the first model by kind of sample.

    Args:
        table: The scores.
        width: Characters per line; by default the width of the terminal. Nothing is truncated.
    """
    lines = [table_text(headline_table(table), width, intervals=True)]
    lines += [table_text(table, width) for table in _narrow_tables(table)]
    return "\n\n".join([*lines, HEADLINE_NOTE, UNUSABLE_NOTE])


def scores_markdown(table: ScoreTable) -> str:
    """Return the same tables as Markdown, with the commands that make them again."""
    tables = [table_markdown(headline_table(table), intervals=True)]
    tables += [table_markdown(table) for table in _narrow_tables(table)]
    again = "\n".join(_commands(table))
    notes = [HEADLINE_NOTE, UNUSABLE_NOTE, f"Made by:\n\n```\n{again}\n```"]
    return "\n\n".join([*tables, *notes]) + "\n"


def write_scores(table: ScoreTable, out: Path) -> Path:
    """Write the scores as a self-contained page; equal scores give equal pages.

    Args:
        table: The scores.
        out: The file.

    Returns:
        Path of the page.

    Raises:
        StoreError: If the file cannot be written.
    """
    write_atomically(out, render_scores(table).encode())
    return out


def render_scores(table: ScoreTable) -> str:
    """Return the page as HTML."""
    first, *others = table.scores
    parts = [(found.name, first, found) for found in first.sets]
    # The other models are detailed on the first set only; the tables of all models cover every set.
    parts += [(f"{score.model}: {score.sets[0].name}", score, score.sets[0]) for score in others]
    cells = {row[0].text: row[2] for row in headline_table(table).rows}
    return render(
        "scores.html.jinja",
        style=inline("gallery.css", "coverage.css", "scores.css"),
        table=table,
        commands=_commands(table),
        top=[(heading(m), cells[heading(m)]) for m in METRICS if m.name in _TOP],
        headline=headline_table(table),
        models=model_tables(table),
        details=[(name, part_tables(score, found), confusion_table(found)) for name, score, found in parts],
        charts=[
            (score.model, score.sets[0].roc, score.sets[0].reliability, score.sets[0].headline.figures)
            for score in table.scores
        ],
        metrics=[(heading(m), m.meaning) for m in METRICS],
        notes=(HEADLINE_NOTE, UNUSABLE_NOTE),
        bins=BINS,
    )


def _commands(table: ScoreTable) -> list[str]:
    """Return the commands that make the scores again, in order."""
    names = [found.name for found in table.scores[0].sets if found.name in table.sources]
    return [*(f"{table.sources[name]}  # {name}" for name in names), table.command]


def _narrow_tables(table: ScoreTable) -> list[Table]:
    first, metrics = table.scores[0], [metric for metric in METRICS if metric.name in _NARROW]
    return [*model_tables(table, metrics), *part_tables(first, first.sets[0], metrics)]
