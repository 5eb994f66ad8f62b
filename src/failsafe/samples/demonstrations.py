"""Sets of demonstrations: successful episodes of the expert, rendered, for imitation learning.

```
demonstrations/
  manifest.json             configuration and origin
  TASK/SEED.npy             images [N, V, S, S, 3], read by memory map
  TASK/SEED.npz             tool poses and action chunks; written last: if it exists, both files are whole
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from failsafe.errors import UserError
from failsafe.records import codec
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.names import task_folder
from failsafe.records.provenance import Provenance
from failsafe.records.seeds import check_trainable
from failsafe.records.trace import unpack
from failsafe.samples.targets import find_keyframes
from failsafe.simulators.contract import Camera


@dataclass(frozen=True)
class DemonstrationConfig:
    """What a set of demonstrations contains.

    Attributes:
        tasks: Names of the tasks.
        episodes: Successful episodes of each task.
        first_seed: Seed of the first episode; seeds that the expert fails on are skipped.
        views: Names of the cameras.
        size: Height and width of the images, pixels.
        stride: Control steps from one row to the next.
        chunk: Number H of future commands in an action chunk.
    """

    tasks: tuple[str, ...]
    episodes: int
    first_seed: int = 300_000
    views: tuple[str, ...] = ("front", "hand")
    size: int = 96
    stride: int = 3
    chunk: int = 8

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not self.tasks or self.episodes < 1:
            raise UserError("expected at least one task and one episode to demonstrate")
        check_trainable(range(self.first_seed, self.first_seed + self.episodes))
        if self.stride < 1 or self.chunk < 1 or not 16 <= self.size <= 1024:
            raise UserError("expected a stride and a chunk of at least 1 and images of 16 to 1024 pixels")


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
    """

    config: DemonstrationConfig
    control_hz: float
    instructions: dict[str, str]
    cameras: dict[str, tuple[Camera, ...]]
    provenance: Provenance
    embodiment: EmbodimentSpec | None = None


class DemonstrationSet:
    """A folder of demonstrations, opened for reading.

    Args:
        path: The folder.
        episodes: Read so many episodes of each task only; 0 reads all.

    Attributes:
        tasks: Task of each row.
        seeds: Seed of each row.
        tcp_poses: Measured tool poses, base frame. [N, 7]
        gripper_widths: Gripper openings, metres. [N]
        actions: Where the next H commands lead, see `chunk_targets`. [N, H, 7]
        keyframes: Tool poses at the keyframes of the episode, padded with the last one. [N, K, 7]
        following: Index of the next keyframe, see `KeyframeIndex`. [N]
        at_keyframe: Whether the gripper command of the next keyframe has been given. [N]

    Raises:
        UserError: If there are no demonstrations, or fewer than asked for.
        RecordError: If a file is damaged or of an unknown version.
    """

    def __init__(self, path: Path, episodes: int = 0) -> None:
        self.manifest = read_demonstration_manifest(path)
        self.path = path
        self.tasks: list[str] = []
        self.seeds: list[int] = []
        self._maps: list[np.ndarray] = []
        self._places: list[tuple[int, int]] = []
        parts: list[dict[str, np.ndarray]] = []
        for task in self.manifest.config.tasks:
            files = sorted(task_folder(path, task).glob("*.npz"))
            wanted = episodes or self.manifest.config.episodes
            if len(files) < wanted:
                raise UserError(f"expected {wanted} demonstrations of {task} in {path}, got {len(files)}")
            for file in files[:wanted]:
                arrays = unpack(file.read_bytes(), str(file))
                parts.append(arrays)
                self._maps.append(np.load(file.with_suffix(".npy"), mmap_mode="r", allow_pickle=False))
                rows = len(arrays["tcp_poses"])
                self._places += [(len(self._maps) - 1, row) for row in range(rows)]
                self.tasks += [task] * rows
                self.seeds += [int(file.stem)] * rows
        self.tcp_poses: Float32[np.ndarray, "N 7"] = np.concatenate([p["tcp_poses"] for p in parts])
        self.gripper_widths: Float32[np.ndarray, "N"] = np.concatenate([p["gripper_widths"] for p in parts])
        self.actions: Float32[np.ndarray, "N H 7"] = np.concatenate([p["actions"] for p in parts])
        found = [find_keyframes(p["actions"][:, 0, 6], p["gripper_widths"]) for p in parts]
        most = max(len(k.rows) for k in found)
        rows = [np.pad(k.rows, (0, most - len(k.rows)), mode="edge") for k in found]
        self.keyframes: Float32[np.ndarray, "N K 7"] = np.concatenate(
            [
                np.broadcast_to(p["tcp_poses"][at], (len(p["tcp_poses"]), most, 7))
                for p, at in zip(parts, rows, strict=True)
            ]
        )
        self.following: Int64[np.ndarray, "N"] = np.concatenate([k.following for k in found])
        self.at_keyframe: Bool[np.ndarray, "N"] = np.concatenate([k.commanded for k in found])

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.tasks)

    def frames(self, index: int) -> UInt8[np.ndarray, "V S S 3"]:
        """Return the images of a row, mapped from disk."""
        episode, row = self._places[index]
        return self._maps[episode][row]


def read_demonstration_manifest(path: Path) -> DemonstrationManifest:
    """Read the manifest of a set of demonstrations.

    Raises:
        UserError: If the folder has none.
        RecordError: If it is damaged or of an unknown version.
    """
    absent = f"expected demonstrations made by `failsafe demonstrate`, got {path}"
    return codec.read(DemonstrationManifest, path / "manifest.json", absent)
