"""A set of samples on disk, opened for reading: pictures and proprioception of every window.

```
samples/
  manifest.json             settings, and where the samples come from
  TASK/SEED-SOURCE.npy      pictures of one initial state's samples [N, V, F, S, S, 3], read by memory map
  TASK/SEED-SOURCE.npz      their records and proprioception; written last: where it is, both are whole
```
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from failsafe.errors import RecordError, UserError
from failsafe.records import codec
from failsafe.records.assessment import Window, WindowSpec
from failsafe.records.provenance import Provenance
from failsafe.records.trace import unpack
from failsafe.samples.plan import SPLITS, Kind, Sample, check_leaks

MAX_OBJECTS = 4
"""Objects whose poses are kept beside a window, for a network to learn to find them."""


@dataclass(frozen=True)
class SampleConfig:
    """What a set of samples is to hold.

    Attributes:
        window: Views, history, number and size of the pictures.
        splits: The splits that are wanted.
        failing_share: Share of failing moments in every task and split.
        per_cell: The most failing moments of one task, split, mode and stage; 0 for no limit.
        jitter_metres: The most by which each camera is shifted, anew for every window.
        jitter_degrees: The most by which it is turned.
        shifted: Move the cameras by just as much, not by up to as much.
        only_split: Put every seed into this split; empty to go by the seed.
        every: Take a moment every so many control steps of each rollout; 0 for a few of each.
        wander: Take so many moments of a tool that wanders about from each initial state, and no others, to
            learn to find objects by; 0 for moments of the dataset's rollouts.
        pictures: Render them. Windows without pictures cost next to nothing, and a network that is told where
            the objects are learns from them what that means.
    """

    window: WindowSpec = field(default_factory=WindowSpec)
    splits: tuple[str, ...] = SPLITS
    failing_share: float = 0.5
    per_cell: int = 0
    jitter_metres: float = 0.0
    jitter_degrees: float = 0.0
    shifted: bool = False
    only_split: str = ""
    every: int = 0
    wander: int = 0
    pictures: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense, in one sentence."""
        window = self.window
        if not window.views or len(set(window.views)) < len(window.views):
            raise UserError(f"expected every view once and at least one, got {', '.join(window.views)}")
        if window.history < 1 or not 1 <= window.frames <= window.history + 1:
            raise UserError(
                "expected a history of at least 1 step and from 1 to history + 1 frames, got "
                f"{window.history} and {window.frames}"
            )
        if not 16 <= window.size <= 1024:
            raise UserError(f"expected pictures of 16 to 1024 pixels, got {window.size}")
        for split in (*self.splits, *([self.only_split] if self.only_split else [])):
            if split not in SPLITS:
                raise UserError(f"unknown split '{split}'. There are: {', '.join(SPLITS)}")
        if self.wander < 0:
            raise UserError(f"expected 0 or more moments of a tool that wanders about, got {self.wander}")
        if self.wander and (self.splits != ("train",) or not self.pictures):
            raise UserError(
                "moments of a tool that wanders about are to learn from: expected --splits train and pictures"
            )
        if self.per_cell < 0:
            raise UserError(
                f"expected at most 1 or more failing moments of a sort, or 0 for all, got {self.per_cell}"
            )
        if self.jitter_metres < 0 or self.jitter_degrees < 0:
            raise UserError("expected cameras to be moved by 0 or more metres and degrees")


@dataclass(frozen=True)
class SampleManifest:
    """What a set of samples is, and where it comes from.

    Attributes:
        config: Its settings.
        sources: The command that makes each dataset again, in the order of `Sample.source`.
        provenance: Commit and versions of the run that began it.
        complete: Whether all of it is there.
    """

    config: SampleConfig
    sources: tuple[str, ...]
    provenance: Provenance
    complete: bool = False

    def made_by(self, folder: Path) -> str:
        """The commands that make it again in a folder, its datasets first, beside it."""
        config, window = self.config, self.config.window
        data = [shlex.quote(f"{folder}-data{i + 1}") for i in range(len(self.sources))]
        made = [f"{command} --out {name}" for command, name in zip(self.sources, data, strict=True)]
        options = {
            "--views": ",".join(window.views),
            "--history": window.history,
            "--frames": window.frames,
            "--size": window.size,
            "--splits": ",".join(config.splits),
            "--failing-share": config.failing_share,
            "--per-cell": config.per_cell,
            "--shift" if config.shifted else "--jitter": f"{config.jitter_metres},{config.jitter_degrees}",
            "--only-split": config.only_split,
            "--every": config.every,
            "--wander": config.wander,
        }
        words = [f"{flag} {value}" for flag, value in options.items() if value != ""]
        words += [] if config.pictures else ["--no-pictures"]
        words.append(f"--out {shlex.quote(str(folder))}")
        return " && ".join([*made, " ".join(["failsafe samples", *data, *words])])


class SampleSet:
    """One folder of samples, or several that are taken together, opened for reading.

    Args:
        path: The folder.
        more: Further ones, with the same windows.

    Attributes:
        samples: All samples, in a fixed order.
        tcp_poses: Tool poses up to the present moment, base frame. [N, H+1, 7]
        gripper_widths: Opening of the gripper, metres. [N, H+1]
        objects: Poses of the objects now, NaN where there is none, base frame. [N, O, 7]
        cameras: Where the cameras were: pose (in the tool's frame if mounted, else in the base frame), field
            of view, and whether it is mounted; NaN where there are no pictures. [N, V, 9]
        continuation: Targets of the expert's next A commands, relative to the tool: displacement (m),
            rotation vector (rad), gripper; NaN where the rollout was perturbed or failing. [N, A, 7]

    Raises:
        UserError: If a folder holds none, not all that it should, or other windows than the first.
        RecordError: If one is damaged or holds NaN in its proprioception, or if the splits leak.
    """

    def __init__(self, path: Path, *more: Path) -> None:
        self.paths = (path, *more)
        self.manifests = [read_sample_manifest(folder) for folder in self.paths]
        for folder, manifest in zip(self.paths, self.manifests, strict=True):
            if not manifest.complete:
                raise UserError(f"{folder} is not complete: run the command that made it, and it goes on")
            if manifest.config.window != self.spec:
                raise UserError(f"{folder} holds other windows than {path}: {manifest.config.window}")
        self.samples: list[Sample] = []
        self._groups: list[Path | None] = []
        self._places: list[tuple[int, int]] = []
        tcp: list[np.ndarray] = []
        widths: list[np.ndarray] = []
        objects: list[np.ndarray] = []
        cameras: list[np.ndarray] = []
        continuation: list[np.ndarray] = []
        files = [(i, file) for i, folder in enumerate(self.paths) for file in sorted(folder.glob("*/*.npz"))]
        for group, (folder, file) in enumerate(files):
            arrays = unpack(file.read_bytes(), str(file))
            if "cameras" not in arrays:
                raise RecordError(
                    f"expected the cameras beside every sample, got {file} without: "
                    "they were made by an earlier version, so make them again with `failsafe samples`"
                )
            records: Any = json.loads(arrays["records"].tobytes().decode())
            pictures = self.manifests[folder].config.pictures
            self._groups.append(file.with_suffix(".npy") if pictures else None)
            for row, record in enumerate(records):
                sample = codec.from_plain(Sample, record, str(file))
                self.samples.append(replace(sample, name=f"{folder}/{sample.name}") if more else sample)
                self._places.append((group, row))
            tcp.append(arrays["tcp_poses"])
            widths.append(arrays["gripper_widths"])
            objects.append(arrays["objects"])
            cameras.append(arrays["cameras"])
            # The name "ahead" is that of sample sets made by version 1.
            continuation.append(arrays["continuation" if "continuation" in arrays else "ahead"])
        if not self.samples:
            raise UserError(f"there are no samples in {', '.join(map(str, self.paths))}")
        self.tcp_poses = np.concatenate(tcp)
        self.gripper_widths = np.concatenate(widths)
        self.objects = np.concatenate(objects)
        self.cameras = np.concatenate(cameras)
        self.continuation = np.concatenate(continuation)
        self._maps: dict[int, np.ndarray] = {}
        self._check_numbers()
        check_leaks(self.samples)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def _check_numbers(self) -> None:
        broken = ~(np.isfinite(self.tcp_poses).all((1, 2)) & np.isfinite(self.gripper_widths).all(1))
        if broken.any():
            name = self.samples[int(broken.argmax())].name
            raise RecordError(
                f"expected finite tool poses and gripper openings, got NaN or infinity in {broken.sum()} of "
                f"{len(self)} samples, {name} the first: make them again with `failsafe samples`"
            )

    @property
    def spec(self) -> WindowSpec:
        """The windows' views, history, number and size of pictures."""
        return self.manifests[0].config.window

    def indices(self, split: str, pictures: bool = True) -> list[int]:
        """Numbers of a split's samples, of those with pictures or of those without; none that wanders."""
        rows = [i for i, s in enumerate(self.samples) if s.split == split and s.kind is not Kind.WANDERING]
        return [i for i in rows if self.has_pictures(i) == pictures]

    @property
    def wandering(self) -> list[int]:
        """Numbers of the samples of a tool that wanders about: of them only the places are known."""
        return [i for i, sample in enumerate(self.samples) if sample.kind is Kind.WANDERING]

    def has_pictures(self, index: int) -> bool:
        """Whether a sample was made with pictures."""
        return self._groups[self._places[index][0]] is not None

    def frames(self, index: int) -> UInt8[np.ndarray, "V F S S 3"]:
        """The pictures of a sample, mapped from disk.

        Raises:
            UserError: If it was made without.
        """
        group, row = self._places[index]
        if group not in self._maps:
            path = self._groups[group]
            if path is None:
                raise UserError(
                    f"expected windows with pictures, got {self.samples[index].name} without: "
                    "they are for `failsafe train --model compact` alone"
                )
            self._maps[group] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._maps[group][row]

    def window(self, index: int, pictures: bool = True) -> Window:
        """What a model sees of a sample; without pictures, for one that looks at none, `frames` is empty."""
        sample = self.samples[index]
        return Window(
            instruction=sample.instruction,
            spec=self.spec,
            frames=np.array(self.frames(index)) if pictures else np.empty((0, 0, 0, 0, 3), dtype=np.uint8),
            tcp_poses=self.tcp_poses[index],
            gripper_widths=self.gripper_widths[index],
            name=sample.name,
        )


def read_sample_manifest(path: Path) -> SampleManifest:
    """The manifest of a folder of samples.

    Raises:
        UserError: If there is none.
        RecordError: If it is damaged or of another version.
    """
    file = path / "manifest.json"
    try:
        text = file.read_text()
    except OSError as error:
        raise UserError(f"expected samples made by `failsafe samples`, got {path}, without them") from error
    return codec.loads(SampleManifest, text, str(file))
