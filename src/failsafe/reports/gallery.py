"""The gallery: one static folder in which every failure is beside its nominal rollout and its recovery.

It opens from disk, without a server or a network. Browsers do not let such a page read files, only refer to
them: so the cases come as a script, and the frames as images, referred to where they are in the dataset.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from failsafe.datasets.files import remove_abandoned, write_atomically
from failsafe.datasets.store import Dataset
from failsafe.errors import FailSafeError, UserError
from failsafe.records.case import FailureCase, Outcome
from failsafe.records.files import check_inside, read_bytes
from failsafe.records.names import short_names
from failsafe.reports.gallery_cases import CATEGORIES, folders, plain_case, plain_nominal
from failsafe.reports.pages import TEMPLATES, render

_STATIC = ("gallery.css", "dom.js", "player.js", "transport.js", "card.js", "gallery.js")


def write_gallery(
    dataset: Dataset,
    out: Path | None = None,
    limit: int | None = None,
    skip_damaged: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write the gallery of a dataset; equal datasets give equal galleries.

    Args:
        dataset: The dataset; frames are shown if it has been rendered.
        out: The folder to write to; by default `gallery` in the dataset. Inside the dataset the page links
            to its frames; outside, the frames are copied beside the page.
        limit: Show at most so many cases, spread over tasks, categories and modes.
        skip_damaged: Skip damaged files instead of stopping at the first.
        progress: Called with 1 after every case.

    Returns:
        Path of the page.

    Raises:
        UserError: If the folder is not a dataset, or the limit is below 1.
        RecordError: On a damaged file.
        StoreError: If the folder cannot be written.
    """
    if limit is not None and limit < 1:
        raise UserError(f"expected a limit of at least 1 case, got {limit}")
    dataset.require()
    if out is None:
        out = dataset.path / "gallery"
        check_inside(dataset.path, out)
    every_case = list(dataset.cases(skip_damaged=skip_damaged))
    # Proven failures first.
    order = list(CATEGORIES)
    shown = sorted(spread(every_case, limit), key=lambda case: order.index(case.category))
    frames = dataset.path / "frames"
    if out.resolve().is_relative_to(dataset.path.resolve()):
        base = Path(os.path.relpath(frames.resolve(), out.resolve())).as_posix()
    else:
        _copy_frames(dataset, out / "frames", shown)
        base = "frames"
    cases: list[dict[str, Any]] = []
    nominals: dict[str, Any] = {}
    names = short_names(case.task for case in every_case)
    for case in shown:
        try:
            own, nominal = (quote(folder.as_posix()) for folder in folders(dataset, case))
            if nominal not in nominals:
                nominals[nominal] = plain_nominal(dataset, case.task, case.seed)
            cases.append({**plain_case(dataset, case, names[case.task]), "folder": own, "nominal": nominal})
        except FailSafeError:  # its frames: the records were read before
            if not skip_damaged:
                raise
        if progress is not None:
            progress(1)
    data = {"base": quote(base), "categories": CATEGORIES, "nominals": nominals, "cases": cases}
    # ASCII only: JSON strings may contain two line separators that older browsers reject in scripts.
    script = f"window.FAILSAFE = {json.dumps(data, separators=(',', ':'))};\n"
    write_atomically(out / "cases.js", script.encode("ascii"))
    for name in _STATIC:
        write_atomically(out / name, (TEMPLATES / name).read_bytes())
    page = out / "index.html"
    write_atomically(page, _page(every_case, cases, nominals).encode())
    remove_abandoned(out.glob(".*.partial"))
    return page


def figures(cases: Sequence[FailureCase]) -> dict[str, int]:
    """Return the totals of a dataset by name."""
    labels = [label for case in cases for label in case.labels]
    return {
        "cases": len(cases),
        "verified failures": sum(case.verified for case in cases),
        "unrecoverable": sum(case.category == "unrecoverable" for case in cases),
        "harmless": sum(case.outcome is Outcome.HARMLESS for case in cases),
        "proven corrections": sum(label.proven for label in labels),
        "tasks": len({case.task for case in cases}),
    }


def spread(cases: Sequence[FailureCase], limit: int | None) -> list[FailureCase]:
    """Return at most `limit` cases, spread over tasks, categories and modes, in their original order.

    Args:
        cases: The cases.
        limit: The most cases; None returns all.
    """
    if limit is None or len(cases) <= limit:
        return list(cases)
    groups: dict[tuple[str, ...], int] = defaultdict(int)
    turns: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for i, case in enumerate(cases):
        group = (case.task, case.category, *(p.mode for p in case.perturbations))
        turns[case.task].append((groups[group], i))
        groups[group] += 1
    ranked = sorted((rank, i) for task in turns.values() for rank, (_, i) in enumerate(sorted(task)))
    return [cases[i] for i in sorted(i for _, i in ranked[:limit])]


def _page(every_case: Sequence[FailureCase], cases: list[dict[str, Any]], nominals: dict[str, Any]) -> str:
    frames = [c["frames"] for c in cases if c["frames"]] + [
        t["frames"] for t in nominals.values() if t["frames"]
    ]
    cameras = {name: None for index in frames for name in index["cameras"]}
    # The usual views first, then the others by name.
    order = sorted(cameras, key=lambda name: (["front", "side", "hand", name].index(name), name))
    return render(
        "gallery.html.jinja",
        figures=figures(every_case),
        tasks=sorted(short_names(case.task for case in every_case).values()),
        cameras=order,
        shown=len(cases),
        total=len(every_case),
    )


def _copy_frames(dataset: Dataset, target: Path, cases: Sequence[FailureCase]) -> None:
    source = dataset.path / "frames"
    for folder in sorted({folder for case in cases for folder in folders(dataset, case)}):
        for grid in sorted((source / folder).glob("*/*.webp")):
            data = read_bytes(grid, within=dataset.path)
            write_atomically(target / grid.relative_to(source), data, target.parent)
