"""Tables as sheets of cells, which a page, a terminal and the docs all show."""

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
        text: What stands there.
        interval: Its 95 % interval, empty where there is none.
        tone: "good", "bad" for a difference beyond chance, "theirs" for a published figure, else empty.
        description: What else there is to know, for a tooltip.
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
        names: How many columns name the row.
    """

    title: str
    hint: str
    head: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    names: int = 1


def table_text(table: Table, width: int | None, intervals: bool = False) -> str:
    """A sheet for a terminal.

    Args:
        table: The table.
        width: Characters in a line; by default what the terminal has. No number or name is ever cut short.
        intervals: Put the interval behind each figure.
    """
    shown = RichTable(box=None, pad_edge=False)
    for i, name in enumerate(table.head):
        # Long headings stand on several lines: it is the numbers that need the width.
        shown.add_column(
            Text(name if i == 0 or intervals else name.replace(" ", "\n")),
            justify="right" if i >= table.names else "left",
            no_wrap=True,
            vertical="bottom",
        )
    for row in table.rows:
        shown.add_row(*(Text(_worded(cell, intervals)) for cell in row))
    buffer = io.StringIO()
    width = width or shutil.get_terminal_size((120, 24)).columns
    console = Console(file=buffer, width=width, color_system=None)
    # A number cut short is worth less than a line too long.
    console.width = max(width, Measurement.get(console, console.options.update(width=1000), shown).maximum)
    console.print(shown)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    return "\n".join([table.title, *([table.hint] if table.hint else []), *lines])


def table_markdown(table: Table, intervals: bool = False) -> str:
    """A sheet for the docs, its title as a heading of the third level."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    numbers = len(table.head) - table.names
    rule = "|" + "|".join([":---"] * table.names + ["---:"] * numbers) + "|"
    rows = [line([_worded(cell, intervals) for cell in row]) for row in table.rows]
    hint = [table.hint, ""] if table.hint else []
    return "\n".join([f"### {table.title}", "", *hint, line(table.head), rule, *rows])


def _worded(cell: TableCell, intervals: bool) -> str:
    return f"{cell.text} ({cell.interval})" if intervals and cell.interval else cell.text
