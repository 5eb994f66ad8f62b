"""`failsafe demonstrate`: successful episodes of the experts, for imitation learning."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.execution import DEFAULT, ExecutionOptions
from failsafe.cli.output import ProgressReporter, print_json
from failsafe.cli.parsing import parse_names
from failsafe.errors import UserError
from failsafe.samples.demonstrate import build_demonstrations
from failsafe.samples.demonstrations import DemonstrationConfig


def demonstrate(
    tasks: tyro.conf.Positional[tuple[str, ...]],
    /,
    out: Path,
    episodes: int = 300,
    first_seed: int = 300_000,
    views: str = "front,hand",
    size: int = 96,
    stride: int = 3,
    chunk: int = 8,
    execution: ExecutionOptions = DEFAULT,
    json: bool = False,
) -> int:
    """Record and render successful episodes of the experts.

    Interrupted at any time, the same command resumes.

    Args:
        tasks: Names of the tasks, or MODULE:FUNCTION that returns a failsafe.Task.
        out: Folder of the demonstrations.
        episodes: Successful episodes of each task.
        first_seed: Seed of the first episode.
        views: Cameras, separated by commas.
        size: Height and width of an image, pixels.
        stride: Control steps from one image to the next.
        chunk: Control steps of an action chunk.
        execution: Where it runs.
        json: Print the result as JSON.

    Raises:
        UserError: If no task is given, or a value is not valid.
    """
    if not tasks:
        raise UserError("expected at least one task to demonstrate, got none")
    names = parse_names(views)
    config = DemonstrationConfig(tuple(tasks), episodes, first_seed, names, size, stride, chunk)
    with ProgressReporter("episodes", quiet=json) as reporter:
        made = build_demonstrations(config, out, execution.load(), reporter.update)
    if json:
        print_json({"folder": str(out), "episodes": made})
    else:
        print(f"{out}: {made} episodes after {reporter.seconds:.0f} s")
        print(f"next: failsafe imitate {out} --out policy.safetensors")
    return 0
