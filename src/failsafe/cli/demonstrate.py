"""`failsafe demonstrate`: successful episodes of the experts, for imitation learning."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.execution import DEFAULT, ExecutionOptions
from failsafe.cli.output import ProgressReporter, print_json
from failsafe.cli.parsing import parse_names
from failsafe.errors import UserError
from failsafe.experts.tasks import expand_tasks, task_name
from failsafe.samples.demonstrate import build_demonstrations
from failsafe.samples.demonstrations import DemonstrationConfig
from failsafe.samples.recoveries import build_recovery_demonstrations


def demonstrate(
    tasks: tyro.conf.Positional[tuple[str, ...]],
    /,
    out: Path,
    dataset: Path | None = None,
    episodes: int | None = None,
    first_seed: int | None = None,
    views: str = "front,hand",
    size: int = 96,
    stride: int = 3,
    chunk: int = 8,
    execution: ExecutionOptions = DEFAULT,
    json: bool = False,
) -> int:
    """Record and render successful episodes of the experts.

    With --dataset: the proven recoveries of a dataset, each from its correction on, and the nominal rollouts
    of the same initial states. Interrupted at any time, the same command resumes.

    Args:
        tasks: Names of tasks and of whole suites, or MODULE:FUNCTION that returns a failsafe.Task. With
            --dataset: none for all tasks of the dataset.
        out: Folder of the demonstrations.
        dataset: Dataset made by `failsafe generate` or `failsafe mine`, whose recoveries to demonstrate.
        episodes: Successful episodes of each task (300 by default). With --dataset: the most recoveries of
            each task, all by default.
        first_seed: Seed of the first episode (300000 by default); not with --dataset, which has its own.
        views: Cameras, separated by commas.
        size: Height and width of an image, pixels.
        stride: Control steps from one image to the next.
        chunk: Control steps of an action chunk.
        execution: Where it runs.
        json: Print the result as JSON.

    Raises:
        UserError: If no task is given, or a value is not valid.
    """
    names, run_on = parse_names(views), execution.load()
    count, first = 300 if episodes is None else episodes, 300_000 if first_seed is None else first_seed
    if dataset is not None:
        if first_seed is not None:
            raise UserError("expected --dataset without --first-seed: the dataset has seeds of its own")
        count = episodes or 0
    elif not tasks:
        raise UserError("expected at least one task to demonstrate, or --dataset, got none")
    source = "" if dataset is None else str(dataset)
    tasks = tuple(task_name(task) for task in expand_tasks(tasks))
    config = DemonstrationConfig(tasks, count, first, names, size, stride, chunk, source)
    with ProgressReporter("episodes", quiet=json) as reporter:
        if dataset is None:
            made = build_demonstrations(config, out, run_on, reporter.update)
        else:
            made = build_recovery_demonstrations(dataset, config, out, run_on, reporter.update)
    if json:
        print_json({"folder": str(out), "episodes": made})
    else:
        print(f"{out}: {made} episodes after {reporter.seconds:.0f} s")
        further = " --base reference:strong" if dataset is not None else ""
        print(f"next: failsafe imitate {out}{further} --out policy.safetensors")
    return 0
