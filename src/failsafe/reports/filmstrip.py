"""Draw a filmstrip of a case for documents: nominal rollout, failure and recovery at the marked steps."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from failsafe.datasets.files import write_atomically
from failsafe.datasets.frame_grids import FrameGrid, case_folder, nominal_folder, open_grids
from failsafe.datasets.store import Dataset
from failsafe.errors import UserError
from failsafe.records.case import FAILING, NOMINAL, FailureCase, Label, Outcome
from failsafe.records.names import short_names

MOMENTS = 6
"""Frames per row."""
_NEAR = 3
"""Control steps within which frames look the same."""
_GAP, _EDGE, _MARGIN = 8, 4, 12
_INK, _SOFT, _PAPER = (27, 31, 36), (90, 100, 114), (255, 255, 255)
_GREY, _AMBER, _RED, _GREEN, _BLUE = (
    (217, 221, 227),
    (173, 87, 0),
    (198, 42, 47),
    (24, 121, 78),
    (11, 98, 196),
)
_FADED = 0.45
"""Opacity of the frames that the recovery shares with the failure."""


def write_filmstrip(
    dataset: Dataset, case: FailureCase, out: Path, camera: str, moment: int | None = None
) -> Path:
    """Write a PNG with three rows (nominal rollout, failure, recovery) of six frames, key steps marked.

    Args:
        dataset: A dataset with frames of the case from the camera.
        case: A failure with a proven correction.
        out: The file.
        camera: Name of the camera.
        moment: Index of the label to show; by default the first proven one.

    Returns:
        The file.

    Raises:
        UserError: If the case has no recovery to show, or no frames from that camera.
    """
    labels = case.labels if moment is None else case.labels[moment : moment + 1]
    label = next((x for x in labels if x.recovery and x.correction and x.verification.proven), None)
    if label is None:
        where = "" if moment is None else f" at label {moment}"
        raise UserError(
            f"expected a case with a proven recovery{where}, got '{case.case_id}' ({case.category}, "
            f"{len(case.labels)} labels)"
        )
    grids = open_grids(case_folder(dataset, case.task, case.case_id), camera)
    nominal = open_grids(nominal_folder(dataset, case.task, case.seed), camera)[NOMINAL]
    rows = {"Nominal rollout": nominal, "Failure": grids[FAILING], "Recovery": grids[label.recovery]}
    last = max(grid.frames.steps[-1] for grid in rows.values())
    moments = choose_moments(_marks(case, label), last)
    buffer = io.BytesIO()
    _draw(case, label, rows, moments).save(buffer, "PNG", optimize=True)
    write_atomically(out, buffer.getvalue())
    return out


def choose_moments(marks: Mapping[str, int], last: int, count: int = MOMENTS) -> list[tuple[int, str]]:
    """Return steps with their names, ascending: the marked steps, the end, and steps that fill the gaps.

    Args:
        marks: Steps by name, the most important first. Marks on one step share a frame; marks within
            `_NEAR` steps of a chosen one, or beyond `count`, are left out.
        last: The last step.
        count: Number of steps to choose.
    """
    named: dict[int, list[str]] = {last: ["end"]}
    for name, step in marks.items():
        if step in named:
            named[step].append(name)
        elif len(named) < count and min(abs(step - chosen) for chosen in named) >= _NEAR:
            named[step] = [name]
    steps = sorted(named)
    while len(steps) < count:
        gaps = [(b - a, -a) for a, b in itertools.pairwise(steps)]
        widest, start = max(gaps, default=(0, 0))
        if widest < 2:
            break
        steps = sorted([*steps, -start + widest // 2])
    return [(step, ", ".join(named.get(step, []))) for step in steps]


def _marks(case: FailureCase, label: Label) -> dict[str, int]:
    times = case.times
    marks = {
        "injection": times.injection_step,
        "correction": label.step,
        "failure": times.failure_step,
        "onset": times.onset_step,
    }
    return {name: step for name, step in marks.items() if step is not None}


def _draw(
    case: FailureCase, label: Label, rows: Mapping[str, FrameGrid], moments: list[tuple[int, str]]
) -> Image.Image:
    size = next(iter(rows.values())).size
    cell = size + 2 * _EDGE
    text = max(size // 14, 11)
    description, small = ImageFont.load_default(text), ImageFont.load_default(max(text - 2, 10))
    head, caption, left = 2 * text + 14, text + 8, int(6.2 * text)
    width = 2 * _MARGIN + left + len(moments) * (cell + _GAP) - _GAP
    height = 2 * _MARGIN + head + caption + len(rows) * (cell + _GAP) - _GAP
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    cause = " and ".join(p.description for p in case.perturbations)
    draw.text(
        (_MARGIN, _MARGIN), f"{short_names([case.task])[case.task]}: {case.instruction}", _INK, description
    )
    draw.text((_MARGIN, _MARGIN + text + 4), cause, _SOFT, small)
    for j, (step, name) in enumerate(moments):
        x = _MARGIN + left + j * (cell + _GAP)
        draw.text((x, _MARGIN + head), f"step {step}" + (f": {name}" if name else ""), _INK, small)
    for i, (title, grid) in enumerate(rows.items()):
        y = _MARGIN + head + caption + i * (cell + _GAP)
        draw.text((_MARGIN, y + cell // 2 - text), title.replace(" ", "\n"), _INK, description)
        for j, (step, _) in enumerate(moments):
            x = _MARGIN + left + j * (cell + _GAP)
            shared = title == "Recovery" and step < label.step
            frame = (rows["Failure"] if shared else grid).frame(step)
            if shared:
                frame = np.round(_FADED * frame + (1 - _FADED) * 255).astype(np.uint8)
            draw.rectangle((x, y, x + cell - 1, y + cell - 1), _edge(title, step, grid, case, label))
            image.paste(Image.fromarray(np.ascontiguousarray(frame)), (x + _EDGE, y + _EDGE))
    return image


def _edge(title: str, step: int, grid: FrameGrid, case: FailureCase, label: Label) -> tuple[int, int, int]:
    """Return the colour of a frame's edge, as in the gallery."""
    times, ended = case.times, step >= grid.frames.steps[-1]
    if title == "Failure":
        if ended or (times.failure_step is not None and step >= times.failure_step):
            return _RED if case.outcome is Outcome.FAILURE else _AMBER
        return _AMBER if times.injection_step is not None and step >= times.injection_step else _GREY
    if title == "Recovery":
        actions = len(label.correction.actions) if label.correction else 0
        if label.step <= step < label.step + actions:
            return _BLUE
        return _GREEN if step >= label.step else _GREY
    return _GREEN if ended else _GREY
