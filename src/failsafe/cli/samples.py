"""`failsafe samples`: training windows from datasets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import tyro

from failsafe.cli.execution import DEFAULT, ExecutionOptions
from failsafe.cli.output import ProgressReporter, print_json
from failsafe.cli.parsing import parse_names, parse_pair
from failsafe.errors import UserError
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
    execution: ExecutionOptions = DEFAULT,
    json: bool = False,
) -> int:
    """Cut training windows out of datasets: rendered once, split by seed.

    Interrupted at any time, the same command resumes.

    Args:
        data: Folders of datasets.
        out: Folder of the samples.
        views: Cameras, separated by commas.
        history: Control steps that a window reaches back.
        frames: Images of each view in a window, evenly spaced in time, the last one of the present step.
        size: Height and width of an image, pixels.
        source: Height and width to render at, pixels, before images are resampled to --size; 0 renders at
            --size.
        jitter: METRES,DEGREES: largest random displacement of each camera, drawn for every window.
        shift: METRES,DEGREES: fixed size of the displacement instead, to test with displaced cameras.
        splits: Splits to make, separated by commas.
        only_split: Put every seed into this split: "test" for a task that is left out of training.
        failing_share: Share of failing samples in every task and split; 0 keeps all samples.
        per_cell: Largest number of failing samples of one task, split, mode and stage; 0 for no limit.
        every: Control steps from one sample of a rollout to the next; 0 for a few samples of each rollout.
        explore: Take so many samples of one random-exploration rollout per initial state, and no others, to
            train the object localizer of the compact model. With --splits train.
        images: Render the windows; the compact model learns from image-free samples, too, which are cheap.
        execution: Where it runs.
        json: Print the result as JSON.

    Raises:
        UserError: If a value is not valid.
    """
    if not data:
        raise UserError("expected at least one dataset made by `failsafe generate`, got none")
    metres, degrees = parse_pair("--shift" if shift else "--jitter", shift or jitter)
    config = SampleConfig(
        window=WindowSpec(parse_names(views), history, frames, size, source),
        splits=parse_names(splits),
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
    with ProgressReporter("samples", quiet=json) as reporter:
        count = build_samples(data, out, config, execution.load(), reporter.update)
    made = SampleSet(out)
    by_split = Counter(sample.split for sample in made.samples)
    failing = sum(sample.failing for sample in made.samples)
    if json:
        print_json({"samples": count, "failing": failing, "splits": dict(by_split), "folder": str(out)})
    else:
        shares = ", ".join(f"{by_split[s]} {s}" for s in SPLITS if by_split[s])
        print(f"{out}: {count} samples, {failing} failing; {shares}; after {reporter.seconds:.0f} s")
    return 0
