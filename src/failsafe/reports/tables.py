"""Tables of cells that pages, terminal and docs share."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text


@dataclass(frozen=True)
class TableCell:
    """One cell.

    Attributes:
        text: Text of the cell.
        interval: Its 95 % interval, may be empty.
        tone: "good" or "bad" for a significant difference, else empty.
        description: Text of the tooltip.
        value: Number that a page sorts by, None to sort by the text.
    """

    text: str
    interval: str = ""
    tone: str = ""
    description: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table with a heading; its first columns name the row.

    Attributes:
        title: The heading.
        hint: A sentence below it, may be empty.
        head: Headings of the columns.
        rows: The cells.
        names: Number of columns that name the row.
    """

    title: str
    hint: str
    head: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    names: int = 1


def table_text(table: Table, width: int | None, intervals: bool = False) -> str:
    """Return a table as text for a terminal.

    Args:
        table: The table.
        width: Characters per line; by default the width of the terminal. Nothing is truncated.
        intervals: Append each interval to its figure.
    """
    shown = RichTable(box=None, pad_edge=False)
    for i, name in enumerate(table.head):
        # Break long headings: the numbers need the width.
        shown.add_column(
            Text(name if i == 0 or intervals else name.replace(" ", "\n")),
            justify="right" if i >= table.names else "left",
            no_wrap=True,
            vertical="bottom",
        )
    for row in table.rows:
        shown.add_row(*(Text(_with_interval(cell, intervals)) for cell in row))
    buffer = io.StringIO()
    width = width or shutil.get_terminal_size((120, 24)).columns
    console = Console(file=buffer, width=width, color_system=None)
    # Prefer long lines to truncated numbers.
    console.width = max(width, Measurement.get(console, console.options.update(width=1000), shown).maximum)
    console.print(shown)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    return "\n".join([table.title, *([table.hint] if table.hint else []), *lines])


def table_markdown(table: Table, intervals: bool = False) -> str:
    """Return a table as Markdown for the docs, its title as a heading of level 3.

    Args:
        table: The table.
        intervals: Whether to add the confidence intervals.
    """

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    numbers = len(table.head) - table.names
    rule = "|" + "|".join([":---"] * table.names + ["---:"] * numbers) + "|"
    rows = [line([_with_interval(cell, intervals) for cell in row]) for row in table.rows]
    hint = [table.hint, ""] if table.hint else []
    return "\n".join([f"### {table.title}", "", *hint, line(table.head), rule, *rows])


def _with_interval(cell: TableCell, intervals: bool) -> str:
    return f"{cell.text} ({cell.interval})" if intervals and cell.interval else cell.text
