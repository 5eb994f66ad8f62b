"""Render traces to frames: any step of any rollout, from any camera.

Each case has its own folder, so that several processes may render one dataset; see `frame_grids` for what is
in it. An index is written last and taken away first: where there is one, what it names is whole.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from failsafe.datasets.files import remove, write_atomically
from failsafe.datasets.frame_grids import (
    FrameIndex,
    TraceFrames,
    case_folder,
    columns_for,
    encode_grid,
    grid_path,
    nominal_folder,
    read_index,
)
from failsafe.datasets.store import Dataset
from failsafe.errors import UnknownNameError, UserError
from failsafe.records import codec
from failsafe.records.case import NOMINAL, FailureCase
from failsafe.records.files import exists
from failsafe.records.forwarding import forwarded
from failsafe.records.trace import Trace
from failsafe.simulators.contract import Camera, Simulator

SIZE = 224
"""Default height and width of a frame, pixels: the input size of common vision-language-action policies."""
EVERY = 4
"""By default there is a frame of every so many control steps: five a second at 20 Hz."""

Progress = Callable[[int], None]
"""Called with the number of images that have just been rendered."""


@dataclass(frozen=True)
class _Rollout:
    """A rollout to be rendered: its name, its states, and the moments of which a frame is wanted."""

    name: str
    states: np.ndarray
    steps: tuple[int, ...]

    @classmethod
    def of(cls, name: str, trace: Trace, first: int, every: int, marked: Iterable[int] = ()) -> _Rollout:
        finite = np.isfinite(trace.states).all(axis=1)
        # Where the physics diverged there is nothing to see any more.
        last = len(trace.states) - 1 if finite.all() else int(np.argmin(finite)) - 1
        steps = {*range(first, last, every), last, *marked}
        return cls(name, trace.states, tuple(sorted(s for s in steps if first <= s <= last)))

    def frames(self, size: int) -> TraceFrames:
        digest = hashlib.sha256(np.ascontiguousarray(self.states).tobytes()).hexdigest()[:16]
        return TraceFrames(self.name, digest, self.steps, columns_for(len(self.steps), size))


def render_case(
    dataset: Dataset,
    simulator: Simulator,
    case: FailureCase,
    cameras: Sequence[Camera],
    size: int = SIZE,
    every: int = EVERY,
    progress: Progress | None = None,
    look: str = "",
) -> list[Path]:
    """Render the rollouts of a case, unless that has been done with the same settings.

    Args:
        dataset: Where its traces are, and where the frames go.
        simulator: Of the case's task.
        case: The case.
        cameras: The cameras.
        size: Height and width of a frame, pixels.
        every: A frame of every so many control steps; the marked moments and the end are always there.
        progress: Called with the number of images after each rendered step.
        look: What else the images depend on, for example "full meshes".

    Returns:
        Paths of the grids that were made.

    Raises:
        UserError: If the size, the step or the cameras make no sense.
        MissingRendererError: If nothing can render on this machine.
        StoreError: If the folder cannot be written.
    """
    _check(cameras, size, every)
    rollouts = _case_rollouts(dataset, case, every)
    folder = case_folder(dataset, case.task, case.case_id)
    return _render(folder, simulator, case.seed, rollouts, cameras, size, every, progress, look)


def render_nominal(
    dataset: Dataset,
    simulator: Simulator,
    task: str,
    seed: int,
    cameras: Sequence[Camera],
    size: int = SIZE,
    every: int = EVERY,
    progress: Progress | None = None,
    look: str = "",
) -> list[Path]:
    """Render the nominal rollout of a task and seed. Arguments and errors: see `render_case`."""
    _check(cameras, size, every)
    _, trace = dataset.nominal(task, seed)
    folder = nominal_folder(dataset, task, seed)
    rollouts = [_Rollout.of(NOMINAL, trace, 0, every)]
    return _render(folder, simulator, seed, rollouts, cameras, size, every, progress, look)


def render_step(
    simulator: Simulator, seed: int, trace: Trace, step: int, cameras: Sequence[Camera], size: int
) -> UInt8[np.ndarray, "V size size 3"]:
    """Images of one moment of a rollout.

    Args:
        simulator: A simulator of the task.
        seed: Seed of the initial state.
        trace: The rollout.
        step: Control step, from 0 for the initial state.
        cameras: The cameras V.
        size: Height and width of an image, pixels.

    Raises:
        UserError: If the rollout has no such step.
    """
    if not 0 <= step < len(trace.states):
        raise UserError(f"expected a step from 0 to {len(trace)}, got {step}")
    simulator.reset(seed)
    simulator.restore(trace.states[step])
    return simulator.render(cameras, size)


def write_steps(
    dataset: Dataset,
    simulator: Simulator,
    case: FailureCase,
    trace: str,
    steps: Sequence[int],
    cameras: Sequence[Camera],
    size: int,
    out: Path,
) -> list[Path]:
    """Write single moments of a rollout of a case as PNG files, `CASE-TRACE-STEP-CAMERA.png`.

    Args:
        dataset: Where its traces are.
        simulator: Of the case's task.
        case: The case.
        trace: Name of the rollout: "nominal", "failing", or the name of a recovery.
        steps: The moments.
        cameras: The cameras.
        size: Height and width, pixels.
        out: The folder.

    Raises:
        UnknownNameError: If the case has no such rollout.
        UserError: If the rollout has no such step.
    """
    _check(cameras, size, every=1)
    traces = dataset.traces(case.task, case.case_id)
    if trace == NOMINAL:
        traces[NOMINAL] = dataset.nominal(case.task, case.seed)[1]
    if trace not in traces:
        raise UnknownNameError(f"rollout of {case.case_id}", trace, [*traces, NOMINAL])
    paths: list[Path] = []
    for step in steps:
        images = render_step(simulator, case.seed, traces[trace], step, cameras, size)
        for camera, image in zip(cameras, images, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            path = out / f"{case.case_id}-{trace}-{step:04d}-{camera.name}.png"
            write_atomically(path, buffer.getvalue())
            paths.append(path)
    return paths


def count_case_images(
    dataset: Dataset, case: FailureCase, cameras: Collection[str], size: int, every: int, look: str = ""
) -> int:
    """Return how many images `render_case` would render, without a simulator.

    Args:
        dataset: The dataset.
        case: The case.
        cameras: Names of the cameras.
        size: Height and width of a frame, pixels.
        every: A frame of every so many control steps.
        look: What else the images depend on.
    """
    folder = case_folder(dataset, case.task, case.case_id)
    return _count(folder, _case_rollouts(dataset, case, every), cameras, size, every, look)


def count_nominal_images(
    dataset: Dataset, task: str, seed: int, cameras: Collection[str], size: int, every: int, look: str = ""
) -> int:
    """Return how many images `render_nominal` would render. Other arguments: see `count_case_images`.

    Args:
        dataset: The dataset.
        task: Name of the task.
        seed: Seed of the initial state.
        cameras: Names of the cameras.
        size: Height and width of a frame, pixels.
        every: A frame of every so many control steps.
        look: What else the images depend on.
    """
    rollouts = [_Rollout.of(NOMINAL, dataset.nominal(task, seed)[1], 0, every)]
    return _count(nominal_folder(dataset, task, seed), rollouts, cameras, size, every, look)


def _count(
    folder: Path, rollouts: Sequence[_Rollout], cameras: Collection[str], size: int, every: int, look: str
) -> int:
    before = read_index(folder)
    traces = tuple(rollout.frames(size) for rollout in rollouts)
    same = before and (before.size, before.every, before.look, before.traces) == (size, every, look, traces)
    kept = {camera.name for camera in before.cameras} if before and same else set[str]()
    return len({*cameras} - kept) * sum(len(rollout.steps) for rollout in rollouts)


def _case_rollouts(dataset: Dataset, case: FailureCase, every: int) -> list[_Rollout]:
    starts = {label.recovery: label.step for label in case.labels if label.recovery}
    times = case.times
    moments = (times.injection_step, times.onset_step, times.failure_step, times.detection_step)
    marked = {step for step in moments if step is not None} | {label.step for label in case.labels}
    return [
        _Rollout.of(name, trace, starts.get(name, 0), every, marked)
        for name, trace in dataset.traces(case.task, case.case_id).items()
    ]


def _check(cameras: Sequence[Camera], size: int, every: int) -> None:
    names = [camera.name for camera in cameras]
    if not names:
        raise UserError("expected at least one camera, got none")
    if len(set(names)) < len(names):
        raise UserError(f"expected every camera once, got {', '.join(names)}")
    for name in names:
        # The name becomes that of a file.
        if not name or not all(c.isalnum() or c in "_-" for c in name):
            raise UserError(f"expected a camera's name of letters, digits, '_' and '-', got '{name}'")
    if not 8 <= size <= 4096:
        raise UserError(f"expected a size from 8 to 4096 pixels, got {size}")
    if every < 1:
        raise UserError(f"expected a frame of every 1 or more steps, got every {every}")


def _render(
    folder: Path,
    simulator: Simulator,
    seed: int,
    rollouts: Sequence[_Rollout],
    cameras: Sequence[Camera],
    size: int,
    every: int,
    progress: Progress | None,
    look: str,
) -> list[Path]:
    """Render the missing grids, then write the index."""
    traces = tuple(rollout.frames(size) for rollout in rollouts)
    before = read_index(folder)
    kept: dict[str, Camera] = {}
    if before and (before.size, before.every, before.look, before.traces) == (size, every, look, traces):
        kept = {
            c.name: c
            for c in before.cameras
            if all(exists(grid_path(folder, t.trace, c.name)) for t in traces)
        }
    missing = [camera for camera in cameras if kept.get(camera.name) != camera]
    if not missing:
        return []
    kept |= {camera.name: camera for camera in missing}
    remove(folder / "index.json")
    written: list[Path] = []
    if rollouts:
        simulator.reset(seed)
    for rollout, frames in zip(rollouts, traces, strict=True):
        images = np.empty((len(missing), len(rollout.steps), size, size, 3), dtype=np.uint8)
        for i, step in enumerate(rollout.steps):
            simulator.restore(rollout.states[step])
            images[:, i] = simulator.render(missing, size)
            if progress is not None:
                progress(len(missing))
        for camera, grid in zip(missing, images, strict=True):
            path = grid_path(folder, rollout.name, camera.name)
            write_atomically(path, encode_grid(grid, frames.columns), folder)
            written.append(path)
    control_hz = simulator.spec.embodiment.control_hz
    index = FrameIndex(size, every, look, control_hz, tuple(kept[name] for name in sorted(kept)), traces)
    _remove_stale(folder, index)
    write_atomically(folder / "index.json", codec.dumps(index).encode(), folder)
    return written


@forwarded
def _remove_stale(folder: Path, index: FrameIndex) -> None:
    """Delete grids of cameras and rollouts that were rendered with other settings."""
    current = {grid_path(folder, t.trace, c.name) for t in index.traces for c in index.cameras}
    for path in folder.glob("*/*.webp"):
        if path not in current and not path.parent.is_symlink():
            path.unlink()
