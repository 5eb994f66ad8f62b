"""Frames on disk: one image grid for each rollout and camera, and an index of their contents.

```
frames/TASK/CASE/index.json             what is here, and the settings that it was rendered with
frames/TASK/CASE/TRACE/CAMERA.webp      the frames of one rollout from one camera, row by row
frames/TASK/nominal-SEED/...            the same for the nominal rollout of a seed's cases
```
A grid instead of a video: a page can open it from disk, show any frame at once, and needs no codec. The
frames of a recovered rollout begin where it leaves the failing rollout.
"""

from __future__ import annotations

import io
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from failsafe.datasets.store import Dataset
from failsafe.errors import RecordError, UserError
from failsafe.records import codec
from failsafe.records.case import NOMINAL
from failsafe.records.files import check_inside, exists, read_bytes
from failsafe.records.names import check_id, check_steps, task_folder
from failsafe.simulators.contract import Camera

MAX_SIDE = 16383
"""Longest side that WebP allows, pixels."""
_MOST_PIXELS = 1 << 26
"""Largest grid that is decoded, in pixels: 192 MiB."""
_QUALITY, _METHOD = 75, 2
"""WebP's quality, and its effort: a higher one takes longer than the rendering and saves a few percent."""


@dataclass(frozen=True)
class TraceFrames:
    """The rendered steps of one rollout.

    Attributes:
        trace: Name of the rollout.
        digest: Digest of its states: frames of another rollout are rendered anew.
        steps: Control step of every frame, ascending.
        columns: Frames per row of the grid.
    """

    trace: str
    digest: str
    steps: tuple[int, ...]
    columns: int

    def __post_init__(self) -> None:
        """Refuse names that are not those of files, and numbers that no grid has.

        Raises:
            RecordError: On such a name or number.
        """
        check_id("a name of a rollout", self.trace)
        check_steps(*self.steps)
        if not 1 <= self.columns <= MAX_SIDE:
            raise RecordError(f"expected 1 to {MAX_SIDE} frames per row of a grid, got {self.columns}")


@dataclass(frozen=True)
class FrameIndex:
    """The index of a folder of frames.

    Attributes:
        size: Height and width of a frame, pixels.
        every: There is a frame of every so many control steps, and of the moments that are marked.
        look: What else the images depend on, for example "full meshes".
        control_hz: Control steps per second, for playing them.
        cameras: The cameras; every rollout was rendered from each.
        traces: The rollouts.
    """

    size: int
    every: int
    look: str
    control_hz: float
    cameras: tuple[Camera, ...]
    traces: tuple[TraceFrames, ...]

    def __post_init__(self) -> None:
        """Refuse names that are not those of files, and sizes that no frame has.

        Raises:
            RecordError: On such a name or size.
        """
        for camera in self.cameras:
            check_id("a name of a camera", camera.name)
        if not 1 <= self.size <= MAX_SIDE:
            raise RecordError(f"expected frames of 1 to {MAX_SIDE} pixels, got {self.size}")


@dataclass(frozen=True)
class FrameGrid:
    """The frames of one rollout from one camera.

    Attributes:
        path: The image.
        size: Height and width of a frame, pixels.
        frames: Which moments it shows.
    """

    path: Path
    size: int
    frames: TraceFrames

    @cached_property
    def _pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        data = read_bytes(self.path, f"{self.path} is missing: run `failsafe render` again")
        try:
            with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels are too many")
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise RecordError(
                f"{self.path}: expected a grid of frames, got an unreadable file ({error}); "
                "delete its folder and run `failsafe render` again"
            ) from error

    def frame(self, step: int) -> UInt8[np.ndarray, "size size 3"]:
        """Return the last frame at or before a control step, else the first frame.

        Raises:
            RecordError: If the image is missing or damaged.
        """
        i = max(bisect_right(self.frames.steps, step) - 1, 0)
        y, x = i // self.frames.columns * self.size, i % self.frames.columns * self.size
        return self._pixels[y : y + self.size, x : x + self.size]


def case_folder(dataset: Dataset, task: str, case_id: str) -> Path:
    """Return the folder of a case's frames.

    Args:
        dataset: The dataset.
        task: Name of the task.
        case_id: Name of the case.
    """
    return _folder(dataset, task, case_id)


def nominal_folder(dataset: Dataset, task: str, seed: int) -> Path:
    """Return the folder of the nominal rollout's frames.

    Args:
        dataset: The dataset.
        task: Name of the task.
        seed: Seed of the initial state.
    """
    return _folder(dataset, task, f"{NOMINAL}-{seed:08d}")


def _folder(dataset: Dataset, task: str, name: str) -> Path:
    folder = task_folder(dataset.path / "frames", task) / name
    check_inside(dataset.path, folder)
    return folder


def grid_path(folder: Path, trace: str, camera: str) -> Path:
    """Return the path of the grid of one rollout and camera.

    Args:
        folder: Folder of the frames of a case or a nominal rollout.
        trace: Name of the rollout.
        camera: Name of the camera.
    """
    return folder / trace / f"{camera}.webp"


def read_index(folder: Path) -> FrameIndex | None:
    """Return the index of a folder of frames, or None if nothing was rendered.

    Raises:
        RecordError: If its index is damaged or of another version.
    """
    path = folder / "index.json"
    if not exists(path):
        return None
    return codec.read(FrameIndex, path, within=folder)


def open_grids(folder: Path, camera: str) -> Mapping[str, FrameGrid]:
    """Return the grids of a folder from one camera, by rollout name.

    Args:
        folder: Folder of the frames of a case or a nominal rollout.
        camera: Name of the camera.

    Raises:
        UserError: If nothing was rendered from that camera.
    """
    index = read_index(folder)
    names = [c.name for c in index.cameras] if index else []
    if index is None or camera not in names:
        raise UserError(
            f"expected frames from the camera '{camera}' in {folder}, got {', '.join(names) or 'none'}: "
            f"render the dataset with the cameras {', '.join([*names, camera])}"
        )
    return {
        frames.trace: FrameGrid(grid_path(folder, frames.trace, camera), index.size, frames)
        for frames in index.traces
    }


def columns_for(frames: int, size: int) -> int:
    """Return the number of frames per row, about equal to the number of rows.

    Args:
        frames: Number of frames.
        size: Height and width of a frame, pixels.

    Raises:
        UserError: If an image cannot be that large.
    """
    columns = max(math.ceil(math.sqrt(frames)), 1)
    if columns * size > MAX_SIDE:
        most = (MAX_SIDE // size) ** 2
        raise UserError(
            f"expected at most {most} frames of {size} pixels a rollout, got {frames}: "
            "render fewer frames (a larger every), or smaller ones (size)"
        )
    return columns


def encode_grid(frames: UInt8[np.ndarray, "n size size 3"], columns: int) -> bytes:
    """Return a grid as the bytes of a WebP image.

    Args:
        frames: RGB frames. uint8 [n, size, size, 3]
        columns: Number of frames per row.
    """
    count, size = len(frames), frames.shape[1]
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, size, size, 3), dtype=np.uint8)
    tiles[:count] = frames
    grid = tiles.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)
    buffer = io.BytesIO()
    Image.fromarray(grid).save(buffer, "WEBP", quality=_QUALITY, method=_METHOD)
    return buffer.getvalue()
