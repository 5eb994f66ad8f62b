"""Sets of demonstrations: successful episodes of the expert, rendered, for imitation learning.

```
demonstrations/
  manifest.json             configuration and origin
  TASK/SEED.npy             images [N, V, S, S, 3], read by memory map
  TASK/SEED.npz             tool poses and action chunks; written last: if it exists, both files are whole
  TASK/SEED-NAME-STEP.npz   the same of a proven recovery, from its correction on
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from failsafe.errors import RecordError, UserError
from failsafe.records import codec
from failsafe.records.arrays import check_array, map_images
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.files import read_bytes
from failsafe.records.names import task_folder
from failsafe.records.provenance import Provenance
from failsafe.records.seeds import check_trainable
from failsafe.records.trace import unpack
from failsafe.samples.targets import KeyframeIndex, find_keyframes
from failsafe.simulators.contract import Camera

_MOST_KEYFRAMES = 256
_ARRAYS = ("tcp_poses", "gripper_widths", "actions")


@dataclass(frozen=True)
class DemonstrationConfig:
    """What a set of demonstrations contains.

    Attributes:
        tasks: Names of the tasks.
        episodes: Successful episodes of each task. Of recoveries: the most of each task, 0 for all.
        first_seed: Seed of the first episode; seeds that the expert fails on are skipped.
        views: Names of the cameras.
        size: Height and width of the images, pixels.
        stride: Control steps from one row to the next.
        chunk: Number H of future commands in an action chunk.
        dataset: Command that makes the dataset whose proven recoveries, and nominal rollouts from the same
            initial states, are the demonstrations; empty: nominal rollouts from new seeds.
    """

    tasks: tuple[str, ...]
    episodes: int
    first_seed: int = 300_000
    views: tuple[str, ...] = ("front", "hand")
    size: int = 96
    stride: int = 3
    chunk: int = 8
    dataset: str = ""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if (not self.dataset and not self.tasks) or self.episodes < (0 if self.dataset else 1):
            raise UserError("expected at least one task and one episode to demonstrate")
        check_trainable(range(self.first_seed, self.first_seed + self.episodes))
        if self.stride < 1 or not 1 <= self.chunk <= 1024 or not 16 <= self.size <= 1024:
            raise UserError(
                "expected a stride of at least 1, a chunk of 1 to 1024 and images of 16 to 1024 pixels"
            )


@dataclass(frozen=True)
class DemonstrationManifest:
    """Configuration and origin of a set of demonstrations.

    Attributes:
        config: Its configuration.
        control_hz: Control steps per second.
        instructions: Instruction of each task.
        cameras: Cameras of each task, in the order of the views.
        provenance: Commit and versions of the run that started it.
        embodiment: The robot; None in sets of version 1.
        found: Number of episodes of each task, recoveries and nominal rollouts, in sets from a dataset.
    """

    config: DemonstrationConfig
    control_hz: float
    instructions: dict[str, str]
    cameras: dict[str, tuple[Camera, ...]]
    provenance: Provenance
    embodiment: EmbodimentSpec | None = None
    found: dict[str, int] = field(default_factory=dict[str, int])


class DemonstrationSet:
    """A folder of demonstrations, opened for reading.

    Args:
        path: The folder.
        episodes: Read so many episodes of each task only; 0 reads all.
        views: Cameras to read, in this order; empty for all.
        keyframes: Smallest number K of keyframes, to which shorter episodes are padded.

    Attributes:
        views: Cameras of the images.
        tasks: Task of each row.
        seeds: Seed of each row.
        tcp_poses: Measured tool poses, base frame. [N, 7]
        gripper_widths: Gripper openings, metres. [N]
        actions: Where the next H commands lead, see `chunk_targets`. [N, H, 7]
        keyframes: Tool poses at the keyframes of the episode, padded with the last one. Of a recovery: its
            last keyframes, as many as a nominal rollout of the task has, in front padded with the first.
            [N, K, 7]
        following: Index of the next keyframe, see `KeyframeIndex`. [N]
        at_keyframe: Whether the gripper command of the next keyframe has been given. [N]

    Raises:
        UserError: If there are no demonstrations, fewer than asked for, or none of a view.
        RecordError: If a file is damaged or of an unknown version.
    """

    def __init__(self, path: Path, episodes: int = 0, views: Sequence[str] = (), keyframes: int = 0) -> None:
        self.manifest = read_demonstration_manifest(path)
        self.path = path
        present = self.manifest.config.views
        if missing := sorted({*views} - {*present}):
            raise UserError(
                f"expected demonstrations with the views {', '.join(views)}, got {path} without "
                f"{', '.join(missing)}: make them with `failsafe demonstrate --views {','.join(views)}`"
            )
        self.views = tuple(views) or present
        self._columns = [present.index(view) for view in self.views]
        self.tasks: list[str] = []
        self.seeds: list[int] = []
        self._maps: list[np.ndarray] = []
        self._places: list[tuple[int, int]] = []
        parts: list[dict[str, np.ndarray]] = []
        recovered: list[bool] = []
        for task in self.manifest.config.tasks:
            files = sorted(task_folder(path, task).glob("*.npz"))
            wanted = episodes or self.manifest.found.get(task, self.manifest.config.episodes)
            if len(files) < wanted:
                raise UserError(f"expected {wanted} demonstrations of {task} in {path}, got {len(files)}")
            for file in files[:wanted]:
                arrays = unpack(read_bytes(file, within=path), str(file))
                rows = self._check(arrays, file)
                parts.append(arrays)
                recovered.append("-" in file.stem)
                made = self.manifest.config
                shape = (rows, len(made.views), made.size, made.size, 3)
                self._maps.append(map_images(file.with_suffix(".npy"), shape, path))
                self._places += [(len(self._maps) - 1, row) for row in range(rows)]
                self.tasks += [task] * rows
                self.seeds += [_seed_of(file)] * rows
        self.tcp_poses: Float32[np.ndarray, "N 7"] = np.concatenate([p["tcp_poses"] for p in parts])
        self.gripper_widths: Float32[np.ndarray, "N"] = np.concatenate([p["gripper_widths"] for p in parts])
        self.actions: Float32[np.ndarray, "N H 7"] = np.concatenate([p["actions"] for p in parts])
        found = [find_keyframes(p["actions"][:, 0, 6], p["gripper_widths"]) for p in parts]
        names = [self.tasks[i] for i in np.cumsum([0, *(len(p["tcp_poses"]) for p in parts)])[:-1].tolist()]
        usual: dict[str, int] = {}
        for task, of, later in zip(names, found, recovered, strict=True):
            if not later:
                usual[task] = max(usual.get(task, 0), len(of.rows))
        found = [
            _last_keyframes(of, usual.get(task, len(of.rows))) if later else of
            for task, of, later in zip(names, found, recovered, strict=True)
        ]
        most = max(keyframes, *(len(of.rows) for of in found))
        if most > _MOST_KEYFRAMES:
            raise RecordError(f"{path}: expected at most {_MOST_KEYFRAMES} keyframes an episode, got {most}")
        rows = [np.pad(of.rows, (0, most - len(of.rows)), mode="edge") for of in found]
        self.keyframes: Float32[np.ndarray, "N K 7"] = np.concatenate(
            [
                np.broadcast_to(p["tcp_poses"][at], (len(p["tcp_poses"]), most, 7))
                for p, at in zip(parts, rows, strict=True)
            ]
        )
        self.following: Int64[np.ndarray, "N"] = np.concatenate([of.following for of in found])
        self.at_keyframe: Bool[np.ndarray, "N"] = np.concatenate([k.commanded for k in found])

    def _check(self, arrays: Mapping[str, np.ndarray], file: Path) -> int:
        """Check that arrays are those of an episode, and return their number of rows."""
        check_array(arrays, "gripper_widths", (None,), np.float32, file)
        rows = len(arrays["gripper_widths"])
        check_array(arrays, "tcp_poses", (rows, 7), np.float32, file)
        check_array(arrays, "actions", (rows, self.manifest.config.chunk, 7), np.float32, file)
        if not rows or not all(np.isfinite(arrays[name]).all() for name in _ARRAYS):
            raise RecordError(f"{file}: expected at least one row of finite numbers, got others")
        return rows

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.tasks)

    def cameras(self, task: str) -> tuple[Camera, ...]:
        """Return the cameras of a task, in the order of `views`."""
        return tuple(self.manifest.cameras[task][column] for column in self._columns)

    def frames(self, index: int) -> UInt8[np.ndarray, "V S S 3"]:
        """Return the images of a row, mapped from disk."""
        episode, row = self._places[index]
        return self._maps[episode][row][self._columns]


def _last_keyframes(found: KeyframeIndex, count: int) -> KeyframeIndex:
    """Return the last keyframes of a recovery, numbered as in a nominal rollout, which ends alike.

    A recovery may open the gripper before it grasps again; that is a part of the way to its first keyframe.
    One that begins with the object in the grip has passed its first keyframes, whose pose is not used.

    Args:
        found: All keyframes of the recovery.
        count: Number of keyframes of a nominal rollout.
    """
    ahead = count - len(found.rows)
    rows = np.pad(found.rows, (max(ahead, 0), 0), mode="edge")[-count:]
    return found._replace(rows=rows, following=np.maximum(found.following + ahead, 0))


def _seed_of(file: Path) -> int:
    seed = file.stem.partition("-")[0]
    if not seed.isdecimal() or len(seed) > 19:
        raise RecordError(f"{file}: expected a file named by its seed, got another")
    return int(seed)


def read_demonstration_manifest(path: Path) -> DemonstrationManifest:
    """Read the manifest of a set of demonstrations.

    Raises:
        UserError: If the folder has none.
        RecordError: If it is damaged or of an unknown version.
    """
    absent = f"expected demonstrations made by `failsafe demonstrate`, got {path}"
    return codec.read(DemonstrationManifest, path / "manifest.json", absent, within=path)
