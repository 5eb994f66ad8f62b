"""Render a whole dataset: work items grouped by initial state, in several processes."""

from __future__ import annotations

import itertools
import multiprocessing as mp
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from failsafe.datasets.cameras import parse_cameras
from failsafe.datasets.frames import render_case, render_nominal
from failsafe.datasets.store import Dataset
from failsafe.errors import FailSafeError, UnknownNameError
from failsafe.experts.tasks import Task, load_task
from failsafe.records.case import FailureCase

VERDICTS = ("recoverable", "unrecoverable", "harmless", "diverged", "plan_failed", "crashed")


@dataclass(frozen=True)
class RenderOptions:
    """How to look at a dataset.

    Attributes:
        cameras: Names or poses, as `parse_cameras` reads them.
        size: Height and width of a frame, pixels.
        every: A frame of every so many control steps.
        full_meshes: Render the robot's full meshes.
    """

    cameras: str
    size: int
    every: int
    full_meshes: bool


def choose_cases(dataset: Dataset, verdicts: Collection[str], skip_damaged: bool) -> list[FailureCase]:
    """The work items of some verdicts, in the order of task and seed.

    Raises:
        UnknownNameError: If there is no such verdict.
    """
    for verdict in verdicts:
        if verdict not in VERDICTS:
            raise UnknownNameError("verdict", verdict, VERDICTS)
    return [case for case in dataset.cases(skip_damaged) if case.verdict in verdicts]


def render_dataset(
    dataset: Dataset,
    cases: Sequence[FailureCase],
    view: RenderOptions,
    workers: int,
    tell: Callable[[int, int], None],
) -> int:
    """Render work items and their twins, leaving out what has been rendered with the same settings.

    Args:
        dataset: Where the traces are and the frames go.
        cases: The work items.
        view: How to look.
        workers: Number of processes.
        tell: Called with the numbers of work items and of pictures that have just been done.

    Returns:
        Number of pictures made.

    Raises:
        FailSafeError: What `render_case` raises, or that a process died.
    """
    key = lambda case: (case.task, case.seed)  # noqa: E731
    groups = [list(group) for _, group in itertools.groupby(sorted(cases, key=key), key=key)]
    total = 0
    context = mp.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = {pool.submit(_render_group, dataset.path, group, view): len(group) for group in groups}
        try:
            for job in as_completed(jobs):
                pictures = job.result()
                total += pictures
                tell(jobs[job], pictures)
        except BrokenProcessPool as error:
            raise FailSafeError(
                "a rendering process died; what is rendered is kept, so run the same command again, and see "
                "`failsafe doctor` if it happens again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    return total


_tasks: dict[tuple[str, bool], Task] = {}
"""The simulators of a rendering process: making one costs a second."""


def _render_group(folder: Path, cases: list[FailureCase], view: RenderOptions) -> int:
    """Render the work items of one initial state, and their common twin; the number of pictures."""
    dataset = Dataset(folder)
    name = cases[0].task
    key = (name, view.full_meshes)
    if key not in _tasks:
        _tasks[key] = load_task(name, view.full_meshes)
    simulator = _tasks[key].simulator
    cameras = parse_cameras(simulator, view.cameras)
    look = "full meshes" if view.full_meshes else ""
    pictures = 0

    def count(made: int) -> None:
        nonlocal pictures
        pictures += made

    seed = cases[0].seed
    render_nominal(dataset, simulator, name, seed, cameras, view.size, view.every, count, look)
    for case in cases:
        render_case(dataset, simulator, case, cameras, view.size, view.every, count, look)
    return pictures
