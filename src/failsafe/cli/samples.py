"""`failsafe samples`: cut windows for learning out of datasets."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import tyro

from failsafe.cli.output import ProgressReporter, print_json
from failsafe.errors import UserError
from failsafe.execution.loading import load_executor
from failsafe.records.assessment import WindowSpec
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.render import build_samples
from failsafe.samples.sample_set import SampleSet
from failsafe.samples.splits import SPLITS


def samples(
    data: tyro.conf.Positional[tuple[Path, ...]],
    /,
    out: Path,
    views: str = "front,side,hand",
    history: int = 10,
    frames: int = 3,
    size: int = 96,
    source: int = 0,
    jitter: str = "0.07,7",
    shift: str = "",
    splits: str = ",".join(SPLITS),
    only_split: str = "",
    failing_share: float = 0.5,
    per_cell: int = 0,
    every: int = 0,
    explore: int = 0,
    images: bool = True,
    workers: int | None = None,
    executor: str = "processes",
    json: bool = False,
) -> int:
    """Cut training windows out of datasets: rendered once, split by seed.

    Interrupted at any moment, the same command goes on where it was.

    Args:
        data: Folders of datasets.
        out: Folder of the samples.
        views: Cameras, separated by commas.
        history: Control steps that a window reaches back.
        frames: Moments of a window with pictures, evenly spread, the present one the last.
        size: Height and width of a picture in pixels.
        source: Height and width to render at, in pixels, before images are resampled to --size; 0 renders at
            --size.
        jitter: METRES,DEGREES by up to which each camera is moved, anew for every window.
        shift: METRES,DEGREES by just which each camera is moved, instead: to test with cameras elsewhere.
        splits: Which of the splits to make, separated by commas.
        only_split: Put every seed into this split: "test" for a task that is left out of training.
        failing_share: Share of failing moments in every task and split; 0 to take them as they come.
        per_cell: The most failing moments of one task, split, mode and stage; 0 for no limit.
        every: Take a moment every so many control steps of each rollout; 0 for a few of each.
        explore: Take so many samples of one random-exploration rollout per initial state, and no others, to
            train the object localizer of the compact model. With --splits train.
        images: Render the windows; the compact model learns from image-free samples, too, which are cheap.
        workers: Processes; as many as there are cores by default.
        executor: Where it runs: processes, serial (this process, for debugging), or MODULE:ATTRIBUTE.
        json: Print the result as JSON.
    """
    if not data:
        raise UserError("expected at least one dataset made by `failsafe generate`, got none")
    metres, degrees = _pair("--shift" if shift else "--jitter", shift or jitter)
    config = SampleConfig(
        window=WindowSpec(_names(views), history, frames, size, source),
        splits=_names(splits),
        failing_share=failing_share,
        per_cell=per_cell,
        jitter_metres=metres,
        jitter_degrees=degrees,
        shifted=bool(shift),
        only_split=only_split,
        every=every,
        explore=explore,
        images=images,
    )
    begun = time.monotonic()
    reporter: ProgressReporter | None = None
    last = 0

    def tell(done: int, total: int) -> None:
        nonlocal reporter, last
        if reporter is None:
            reporter = ProgressReporter("samples", total, quiet=json)
            reporter.__enter__()
        reporter.advance(done - last)
        last = done

    try:
        count = build_samples(data, out, config, load_executor(executor, workers), tell)
    finally:
        if reporter is not None:
            reporter.__exit__(None, None, None)
    made = SampleSet(out)
    by_split = Counter(sample.split for sample in made.samples)
    failing = sum(sample.failing for sample in made.samples)
    if json:
        print_json({"samples": count, "failing": failing, "splits": dict(by_split), "folder": str(out)})
    else:
        shares = ", ".join(f"{by_split[s]} {s}" for s in SPLITS if by_split[s])
        print(f"{out}: {count} samples, {failing} failing; {shares}; after {time.monotonic() - begun:.0f} s")
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _pair(flag: str, text: str) -> tuple[float, float]:
    number = r"\s*([0-9]*\.?[0-9]+)\s*"
    found = re.fullmatch(f"{number},{number}", text)
    if not found:
        raise UserError(f"expected {flag} METRES,DEGREES such as 0.05,5, got '{text}'")
    return float(found[1]), float(found[2])
