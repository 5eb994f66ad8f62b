"""The offline table: text for a terminal, Markdown for the docs, and one page that opens from disk."""

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
    f"The headline, and with it the tables of models, tasks and modes, leaves out moments of the kind "
    f"'{', '.join(spoken(kind.value) for kind in HEADLINE_LEAVES_OUT)}': a monitor has looked three times by "
    "then. They have a row of their own in the table of moments."
)
UNUSABLE_NOTE = (
    "An answer that is unreadable or refused counts as the opposite of the truth, said with certainty; it "
    "names no mode and no stage, and gives no actions. None is left out."
)
_TOP = ("accuracy", "balanced", "auroc", "mode", "stage", "cosine", "millimetres", "ece", "latency")
"""What stands at the top of the page."""
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
"""What the tables of text have room for; the first of them, and the page, hold everything."""


def format_scores(table: ScoreTable, width: int | None = None) -> str:
    """The table as text: the first model on every set, all models on every set, and its moments in detail.

    Args:
        table: What was found.
        width: Characters in a line; by default what the terminal has. No number or name is ever cut short.
    """
    lines = [table_text(headline_table(table), width, intervals=True)]
    lines += [table_text(table, width) for table in _narrow_tables(table)]
    return "\n\n".join([*lines, HEADLINE_NOTE, UNUSABLE_NOTE])


def scores_markdown(table: ScoreTable) -> str:
    """The same tables as Markdown, with what it takes to make them again."""
    tables = [table_markdown(headline_table(table), intervals=True)]
    tables += [table_markdown(table) for table in _narrow_tables(table)]
    again = "\n".join(_commands(table))
    notes = [HEADLINE_NOTE, UNUSABLE_NOTE, f"Made by:\n\n```\n{again}\n```"]
    return "\n\n".join([*tables, *notes]) + "\n"


def write_scores(table: ScoreTable, out: Path) -> Path:
    """Write the table as one page that opens from disk; equal tables give equal pages.

    Args:
        table: What was found.
        out: The file.

    Returns:
        The page to open.

    Raises:
        StoreError: If the file cannot be written.
    """
    write_atomically(out, render_scores(table).encode())
    return out


def render_scores(table: ScoreTable) -> str:
    """The page as HTML."""
    first, *others = table.scores
    parts = [(found.name, first, found) for found in first.sets]
    # Of the others the first set alone: what they are beside it, the tables of all models say.
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
    """What to run, in this order, to make the table again."""
    names = [found.name for found in table.scores[0].sets if found.name in table.sources]
    return [*(f"{table.sources[name]}  # {name}" for name in names), table.command]


def _narrow_tables(table: ScoreTable) -> list[Table]:
    first, metrics = table.scores[0], [metric for metric in METRICS if metric.name in _NARROW]
    return [*model_tables(table, metrics), *part_tables(first, first.sets[0], metrics)]
