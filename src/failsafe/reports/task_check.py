"""The check of a task as text for a terminal, and as one page that opens from disk."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from rich.console import Console
from rich.table import Table

from failsafe.datasets.files import write_atomically
from failsafe.generation.task_check import TaskCheck
from failsafe.records.case import FailureCase
from failsafe.reports.pages import inline, render
from failsafe.simulators.contract import ObjectSpec

PAGE = "index.html"
"""File name of the page."""


def check_rows(check: TaskCheck) -> dict[str, str]:
    """Return what was found, in words, by what was checked.

    Args:
        check: The check of a task.
    """
    solved = len(check.seeds) - len(check.failed)
    rows = {
        "instruction": check.instruction,
        "robot": f"{check.robot} at {check.control_hz:g} Hz",
        "objects": "; ".join(_describe(thing) for thing in check.objects) or "none",
        "expert": f"solves {solved} of {len(check.seeds)} initial states",
        "cameras": ", ".join(check.pictures) or check.no_pictures or "none",
        "own step": _compared(check),
        "failure": _failure(check),
    }
    return rows | {f"  seed {seed}": reason for seed, reason in check.failed.items()}


def format_check(check: TaskCheck, width: int | None = None) -> str:
    """Return the check as a table for a terminal, followed by its problems.

    Args:
        check: The check of a task.
        width: Characters per line; by default the width of the terminal.
    """
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, found in check_rows(check).items():
        table.add_row(name, found)
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None, markup=False).print(table)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
    return "\n".join([*lines, *(f"problem: {problem}" for problem in check.problems)])


def write_check(check: TaskCheck, out: Path) -> Path:
    """Write the check as one self-contained page with the pictures of every camera.

    Args:
        check: The check of a task.
        out: Folder of the page.

    Returns:
        The page.
    """
    page = render(
        "task_check.html.jinja",
        check=check,
        rows=check_rows(check),
        pictures={name: _data(picture) for name, picture in check.pictures.items()},
        endings={name: _data(picture) for name, picture in check.endings.items()},
        style=inline("gallery.css"),
    )
    write_atomically(out / PAGE, page.encode())
    return out / PAGE


def _describe(thing: ObjectSpec) -> str:
    size = " x ".join(f"{2000 * half:.0f}" for half in thing.half_extents)
    return f"{thing.name} ({thing.role.value}, {size} mm)"


def _compared(check: TaskCheck) -> str:
    if check.comparison is None:
        return "the adapter is the simulator's only step"
    if check.comparison.difference:
        return "differs, see below"
    return f"equal over {check.comparison.steps} control steps"


def _failure(check: TaskCheck) -> str:
    if check.case is None:
        return f"none with a proven correction in {check.attempts} perturbed rollouts"
    return f"{_cause(check.case)} in rollout {check.attempts}; recovered by {_recovery(check.case)}"


def _cause(case: FailureCase) -> str:
    cause = case.perturbations[0]
    return f"{cause.mode} of {cause.object}" if cause.object else cause.mode


def _recovery(case: FailureCase) -> str:
    correction = next(label.correction for label in case.labels if label.correction is not None)
    count = len(correction.actions)
    return f"{count} action{'s' if count > 1 else ''} ({correction.strategy.value})"


def _data(picture: UInt8[np.ndarray, "H W 3"]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
