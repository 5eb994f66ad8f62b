"""`failsafe render`: frames of the rollouts of a dataset."""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from failsafe.cli.execution import DEFAULT, ExecutionOptions
from failsafe.cli.output import ProgressReporter, print_json
from failsafe.cli.parsing import parse_names
from failsafe.datasets.cameras import parse_cameras
from failsafe.datasets.frames import SIZE, write_steps
from failsafe.datasets.manifest import check_task_code
from failsafe.datasets.render import PURPOSES, RenderOptions, choose_cases, estimate_images, render_dataset
from failsafe.datasets.store import open_dataset
from failsafe.errors import UnknownNameError, UserError
from failsafe.experts.tasks import load_task


def render(
    data: tyro.conf.Positional[Path],
    /,
    purpose: str = "gallery",
    cameras: str = "",
    size: int = 0,
    every: int = 0,
    categories: str = "recoverable,unrecoverable",
    execution: ExecutionOptions = DEFAULT,
    full_meshes: bool = False,
    skip_damaged: bool = False,
    episode: str = "",
    rollout: str = "failing",
    steps: tuple[int, ...] = (),
    out: Path = Path(),
    json: bool = False,
) -> int:
    """Render the rollouts of a dataset; frames that exist already are skipped.

    Args:
        data: Folder of the dataset.
        purpose: What the frames are for: "gallery" (pages and filmstrips: front,hand; 160 pixels; every tenth
            control step) or "video" (front,side,hand; 224 pixels; every control step).
        cameras: Names, or poses as NAME@X:Y:Z@X:Y:Z (from, to) in metres, separated by commas, in place of
            the purpose's.
        size: Height and width of a frame, pixels, in place of the purpose's.
        every: Control steps from one frame to the next, in place of the purpose's; labelled steps and the end
            are always rendered.
        categories: Categories of the cases to render, separated by commas.
        execution: Where it runs.
        full_meshes: Render the robot's full meshes instead of the decimated ones; on MuJoCo
            shadows, reflections and antialiasing.
        skip_damaged: Skip damaged files instead of stopping at the first.
        episode: With --steps: the case of which to write single frames as PNG files.
        rollout: With --steps: "nominal", "failing", or "recovery_0" and so on.
        steps: Control steps to write as PNG files into the folder --out.
        out: With --steps: the folder to write to.
        json: Print the result as JSON.

    Raises:
        UserError: If only one of --episode and --steps is given, or a value is not valid.
    """
    dataset = open_dataset(data)
    if purpose not in PURPOSES:
        raise UnknownNameError("purpose", purpose, PURPOSES)
    needed = PURPOSES[purpose]
    if episode or steps:
        if not (episode and steps):
            raise UserError("expected --episode and --steps together, got one of them")
        case = dataset.find(episode)
        check_task_code(dataset.path)
        simulator = load_task(case.task, full_meshes).simulator
        wanted = parse_cameras(simulator, cameras or PURPOSES["video"].cameras)
        paths = write_steps(dataset, simulator, case, rollout, steps, wanted, size or SIZE, out)
        print_json([str(p) for p in paths]) if json else print(*paths, sep="\n")
        return 0
    names = parse_names(categories)
    cases = choose_cases(dataset, names, skip_damaged)
    if not cases:
        raise UserError(f"expected cases in {data} of the category {' or '.join(names)}")
    view = RenderOptions(cameras or needed.cameras, size or needed.size, every or needed.every, full_meshes)
    expected = estimate_images(dataset, cases, view)
    if not json:
        print(f"about {expected} images: {_describe(view, len(cases))}", file=sys.stderr)
    with ProgressReporter("images", expected, quiet=json) as reporter:
        images = 0

        def show(episodes: int, new: int) -> None:
            nonlocal images
            images += new
            left = max(expected - images, 0) * reporter.seconds / max(images, 1)
            reporter.advance(new, f"about {left:.0f} s left" if images and left else "")

        made = render_dataset(dataset, cases, view, execution.load(), show)
    seconds = reporter.seconds
    if json:
        result = {"episodes": len(cases), "images": made.images, "seconds": round(seconds, 1)}
        print_json(result | {"lost": list(made.lost)})
    else:
        print(f"{data}: {made.images} images of {len(cases)} episodes, after {seconds:.0f} s")
        if made.lost:
            print(f"not rendered, because rendering killed two processes each: {', '.join(made.lost)}")
    return 0


def _describe(view: RenderOptions, cases: int) -> str:
    steps = "every control step" if view.every == 1 else f"one of every {view.every} control steps"
    return f"{cases} episodes, {view.size} x {view.size} pixels, cameras {view.cameras}, {steps}"
