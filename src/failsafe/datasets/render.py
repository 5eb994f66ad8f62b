"""Render a whole dataset: the cases of one initial state are one item of the job."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from failsafe.datasets.cameras import parse_cameras
from failsafe.datasets.files import remove_abandoned
from failsafe.datasets.frames import (
    count_case_images,
    count_nominal_images,
    render_case,
    render_nominal,
)
from failsafe.datasets.manifest import check_task_code, explain_missing_plugins
from failsafe.datasets.store import Dataset
from failsafe.errors import UnknownNameError
from failsafe.execution.contract import SILENT, Executor, Reporter, ignore
from failsafe.experts.tasks import Task, load_task
from failsafe.imports import names_from_files
from failsafe.records.case import FailureCase
from failsafe.records.files import check_inside

CATEGORIES = ("recoverable", "unrecoverable", "harmless", "diverged", "plan_failed", "crashed")


@dataclass(frozen=True)
class Purpose:
    """What frames are for, and which frames that needs.

    Attributes:
        cameras: Names of the cameras, separated by commas.
        size: Height and width of a frame, pixels.
        every: A frame of every so many control steps; the marked moments and the end are always there.
    """

    cameras: str
    size: int
    every: int


PURPOSES = {
    "gallery": Purpose("front,hand", 160, 10),
    "video": Purpose("front,side,hand", 224, 1),
}
"""Frames by purpose: pages and filmstrips show a few moments, a video shows every control step."""
_COUNTED = 100
"""Cases of which the images are counted exactly; more are estimated from so many."""


@dataclass(frozen=True)
class RenderOptions:
    """How to render a dataset.

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

    @property
    def look(self) -> str:
        """What else the images depend on, as the index of the frames states it."""
        return "full meshes" if self.full_meshes else ""


def choose_cases(dataset: Dataset, categories: Collection[str], skip_damaged: bool) -> list[FailureCase]:
    """Return the cases of some categories, in the order of task and seed.

    Args:
        dataset: The dataset.
        categories: Categories of the cases.
        skip_damaged: Skip damaged files instead of raising.

    Raises:
        UnknownNameError: If there is no such result.
    """
    for category in categories:
        if category not in CATEGORIES:
            raise UnknownNameError("category", category, CATEGORIES)
    return [case for case in dataset.cases(skip_damaged) if case.category in categories]


def estimate_images(dataset: Dataset, cases: Sequence[FailureCase], view: RenderOptions) -> int:
    """Return about how many images `render_dataset` would render, without a simulator.

    Args:
        dataset: The dataset.
        cases: The cases to render.
        view: Cameras, size and rate of the frames.

    Raises:
        UserError: If the images of a rollout do not fit into one grid.
        RecordError: If a file is damaged.
    """
    cameras = {item.strip().partition("@")[0] for item in view.cameras.split(",") if item.strip()}
    settings = (cameras, view.size, view.every, view.look)
    step = max(len(cases) // _COUNTED, 1)
    counted = cases[::step]
    images = sum(count_case_images(dataset, case, *settings) for case in counted)
    states = {(case.task, case.seed) for case in cases}
    seen = {(case.task, case.seed) for case in counted}
    nominal = sum(count_nominal_images(dataset, task, seed, *settings) for task, seed in seen)
    return round(images * len(cases) / max(len(counted), 1) + nominal * len(states) / max(len(seen), 1))


@dataclass(frozen=True)
class RenderSummary:
    """What `render_dataset` made.

    Attributes:
        images: Number of images rendered.
        lost: Names of the cases, and of the nominal rollouts as TASK/SEED, that killed their worker twice.
    """

    images: int
    lost: tuple[str, ...]


def render_dataset(
    dataset: Dataset,
    cases: Sequence[FailureCase],
    view: RenderOptions,
    executor: Executor,
    on_progress: Callable[[int, int], None] = ignore,
) -> RenderSummary:
    """Render cases and their nominal rollouts, except those that are rendered with the same settings.

    Args:
        dataset: Where the traces are and the frames go.
        cases: The cases to render.
        view: Cameras, size and rate of the frames.
        executor: Runs the rendering.
        on_progress: Called with the numbers of cases and of images that have just been done.

    Raises:
        UserError: If the code of a task has changed since the dataset was made.
        FailSafeError: What `render_case` raises.
    """
    key = lambda case: (case.task, case.seed)  # noqa: E731
    items = [
        RenderItem(task, seed, tuple(case.case_id for case in group))
        for (task, seed), group in itertools.groupby(sorted(cases, key=key), key=key)
    ]
    job = RenderJob(dataset.path, view)
    total = 0

    def count(progress: tuple[int, int]) -> None:
        nonlocal total
        total += progress[1]
        on_progress(*progress)

    with explain_missing_plugins(dataset.path), names_from_files():
        check_task_code(dataset.path)
        executor.run(job, items, on_message=count)
    frames = dataset.path / "frames"
    check_inside(dataset.path, frames)
    remove_abandoned(frames.rglob(".*.partial"))
    return RenderSummary(total, tuple(sorted(job.lost)))


@dataclass(frozen=True)
class RenderItem:
    """The cases of one initial state, which share the nominal rollout and the reset of the simulator.

    Attributes:
        task: Name of the task.
        seed: Seed of the initial state.
        case_ids: The cases.
    """

    task: str
    seed: int
    case_ids: tuple[str, ...]


class RenderJob:
    """Renders the cases of one initial state after the other.

    Args:
        folder: Folder of the dataset.
        view: Cameras, size and rate of the frames.

    Attributes:
        lost: Names of the cases and nominal rollouts that were given up.
    """

    def __init__(self, folder: Path, view: RenderOptions) -> None:
        self._folder, self._view = folder, view
        self.folders = (folder,)
        self._tasks: dict[str, Task] = {}
        self.lost: set[str] = set()

    def run(self, item: RenderItem, reporter: Reporter = SILENT) -> None:
        """Render the nominal rollout and the cases; report the numbers of cases and of images of each.

        See `Job.run`.
        """
        dataset, view = Dataset(self._folder), self._view
        if item.task not in self._tasks:
            self._tasks[item.task] = load_task(item.task, view.full_meshes)
        simulator = self._tasks[item.task].simulator
        cameras = parse_cameras(simulator, view.cameras)
        images = 0

        def count(made: int) -> None:
            nonlocal images
            images += made

        for part in (_nominal_name(item), *item.case_ids):
            if part in self.lost:
                continue
            reporter.begin(part)
            images, is_case = 0, part in item.case_ids
            if is_case:
                case = dataset.case(item.task, part)
                render_case(dataset, simulator, case, cameras, view.size, view.every, count, view.look)
            else:
                render_nominal(
                    dataset, simulator, item.task, item.seed, cameras, view.size, view.every, count, view.look
                )
            reporter.report((int(is_case), images))

    def give_up(self, item: RenderItem, part: str = "") -> bool:
        """Skip a case that killed its worker twice, or the whole item if none had begun.

        See `Job.give_up`.
        """
        self.lost.update([part] if part else item.case_ids)
        return bool(part)


def _nominal_name(item: RenderItem) -> str:
    return f"{item.task}/{item.seed}"
