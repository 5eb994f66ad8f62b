"""Coverage of a dataset: as rows, as text for a terminal, and as one page that opens from disk."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from failsafe.datasets.files import write_atomically
from failsafe.datasets.manifest import Manifest, read_manifest
from failsafe.datasets.store import Dataset
from failsafe.evaluation.statistics import wilson
from failsafe.records.case import FailureCase
from failsafe.records.names import short_names
from failsafe.reports.coverage_charts import mode_charts
from failsafe.reports.coverage_rows import (
    SEVERAL,
    STATES,
    CoverageRow,
    count_rows,
    make_rows,
    name_cell,
    note,
)
from failsafe.reports.pages import inline, render


def coverage_table(dataset: Dataset, skip_damaged: bool = False) -> list[CoverageRow]:
    """Return one row for each task and mode, each followed by the rows of its cells.

    Args:
        dataset: The dataset.
        skip_damaged: Skip damaged files instead of stopping at the first.

    Raises:
        UserError: If the folder is not a dataset.
        RecordError: On a damaged file.
    """
    return make_rows(list(dataset.cases(skip_damaged)), read_manifest(dataset.path).config)


def format_coverage(dataset: Dataset, skip_damaged: bool = False, width: int | None = None) -> str:
    """Return the table of tasks and modes as text for a terminal, followed by the empty cells.

    Args:
        dataset: The dataset.
        skip_damaged: Skip damaged files instead of stopping at the first.
        width: Characters per line; by default the width of the terminal.
    """
    rows = _with_short_names(coverage_table(dataset, skip_damaged))
    table = Table(box=None, pad_edge=False)
    table.add_column("task", no_wrap=True)
    table.add_column("mode", no_wrap=True)
    for name in ("targeted", "attempts", "failures", "verified", "needed", "harmless", "yield (95 %)"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note", overflow="fold", min_width=20)
    for row in rows:
        if row.kind == "mode":
            needed = f"{row.needed} of {row.corrections}"
            counts = (row.asked, row.tried, row.failures, row.got, needed, row.harmless)
            table.add_row(row.task, row.mode, *map(str, counts), _percent(row), note(row))
    buffer = io.StringIO()
    width = width or shutil.get_terminal_size((120, 24)).columns
    console = Console(file=buffer, width=width, color_system=None)
    # Prefer long lines to truncated names.
    console.width = max(width, Measurement.get(console, console.options.update(width=1000), table).minimum)
    console.print(table)
    counts, empty = count_rows(rows), [r for r in rows if r.kind == "cell" and r.state == "empty"]
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    lines += ["", ", ".join(f"{number} {name}" for name, number in counts.items())]
    if empty:
        lines += ["", f"never failed in {SEVERAL} or more attempts:"]
        lines += [f"  {name_cell(row)} ({row.tried} attempts)" for row in empty]
    return "\n".join(lines)


def write_coverage(dataset: Dataset, out: Path | None = None, skip_damaged: bool = False) -> Path:
    """Write the coverage of a dataset as one self-contained page; equal datasets give equal pages.

    Args:
        dataset: The dataset.
        out: The file; by default `coverage.html` in the dataset.
        skip_damaged: Skip damaged files instead of stopping at the first.

    Returns:
        Path of the page.

    Raises:
        UserError: If the folder is not a dataset.
        RecordError: On a damaged file.
        StoreError: If the file cannot be written.
    """
    manifest = read_manifest(dataset.path)
    cases = list(dataset.cases(skip_damaged))
    out = out or dataset.path / "coverage.html"
    write_atomically(out, render_page(cases, make_rows(cases, manifest.config), manifest).encode())
    return out


def render_page(cases: Sequence[FailureCase], rows: Sequence[CoverageRow], manifest: Manifest) -> str:
    """Return the page as HTML.

    Args:
        cases: The cases of the dataset.
        rows: Its coverage table.
        manifest: Its manifest.
    """
    rows = _with_short_names(rows)
    modes = [row for row in rows if row.kind == "mode"]
    tasks = list(short_names(manifest.config.tasks).values())
    grid: dict[str, dict[str, CoverageRow]] = {}
    for row in modes:
        grid.setdefault(row.mode, {})[row.task] = row
    cells = [row for row in rows if row.kind == "cell"]
    counts = count_rows(rows)
    return render(
        "coverage.html.jinja",
        {"percent": _percent, "spoken": _spoken, "note": note},
        style=inline("gallery.css", "coverage.css"),
        script=inline("coverage.js"),
        figures=_figures(counts, len({(case.task, case.seed) for case in cases})),
        command=manifest.command,
        shard=manifest.shard,
        tasks=tasks,
        grid=grid,
        modes=modes,
        cells=cells,
        states=STATES,
        empty=[(name_cell(row), row.tried) for row in cells if row.state == "empty"],
        never=[row for row in modes if row.state in ("empty", "thin", "untried", "no stage")],
        charts=mode_charts(cases, manifest.config),
        several=SEVERAL,
        possible=_share(0, SEVERAL),
        filters=_filters(cells),
    )


def _with_short_names(rows: Sequence[CoverageRow]) -> list[CoverageRow]:
    names = short_names(row.task for row in rows)
    return [replace(row, task=names[row.task]) for row in rows]


def _figures(counts: Mapping[str, int], states: int) -> dict[str, str]:
    """Return the figures at the top of the page by name."""
    got, tried, failures = counts["verified failures"], counts["tried"], counts["failures"]
    return {
        "verified failures": str(got),
        "failures": str(failures),
        "share verified": _share(got, failures),
        "needed corrections": f"{counts['needed corrections']} of {counts['proven corrections']}",
        "harmless": str(counts["harmless"]),
        "not judged": str(counts["other"]),
        "attempts": str(tried),
        "yield": _share(got, tried),
        "cells with verified failures": f"{counts['cells filled']} of {counts['cells tried']}",
        "initial states": str(states),
    }


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _share(number: int, of: int) -> str:
    interval = wilson(number, of)
    if interval is None:
        return "none"
    return f"{number / of:.1%} ({interval[0]:.0%}–{interval[1]:.0%})"


def _filters(cells: Sequence[CoverageRow]) -> dict[str, list[str]]:
    """Return the values of each filter, in the order of the rows."""
    keys = ("task", "mode", "stage", "moment", "magnitude", "state")
    return {key: list(dict.fromkeys(str(getattr(row, key)) for row in cells)) for key in keys}


def _percent(row: CoverageRow) -> str:
    if row.yield_rate is None or row.yield_low is None or row.yield_high is None:
        return ""
    return f"{row.yield_rate:.0%} ({row.yield_low:.0%}-{row.yield_high:.0%})"
