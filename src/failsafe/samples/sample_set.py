"""Read sample sets from disk.

```
samples/
  manifest.json             configuration and origin
  TASK/SEED-SOURCE.npy      images of one initial state's samples [N, V, F, S, S, 3], read by memory map
  TASK/SEED-SOURCE.npz      their records and proprioception; written last: if it exists, both files are whole
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.errors import RecordError, UserError
from failsafe.records import codec
from failsafe.records.arrays import check_array, map_images
from failsafe.records.assessment import Window, WindowSpec
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.files import read_bytes
from failsafe.records.trace import unpack
from failsafe.samples.manifest import read_sample_manifest
from failsafe.samples.robots import common_robot
from failsafe.samples.sample import Kind, Sample, sample_from_plain
from failsafe.samples.splits import check_leaks

_MOST_OBJECTS = 64


class SampleSet:
    """One folder of samples, or several with equal windows, opened for reading.

    Args:
        path: The folder.
        more: Further folders; their windows must be as those of the first.

    Attributes:
        samples: All samples, in a fixed order.
        tcp_poses: Tool poses of the window, the present one last, base frame. [N, H+1, 7]
        gripper_widths: Gripper openings, metres. [N, H+1]
        objects: Present object poses, base frame; O is the most objects of a task, NaN fills the rest.
            [N, O, 7]
        cameras: Camera pose (tool frame if mounted, else base frame), field of view (rad), and whether the
            camera is mounted; NaN for image-free samples. [N, V, 9]
        continuation: Where the next A expert commands lead, relative to the tool pose: displacement (m),
            rotation vector (rad), gripper; NaN where the rollout is perturbed or failing. [N, A, 7]

    Raises:
        UserError: If a folder has no samples, is not complete, or has other windows than the first.
        RecordError: If a file is damaged, its proprioception is not finite, or the splits leak.
    """

    def __init__(self, path: Path, *more: Path) -> None:
        self.paths = (path, *more)
        self.manifests = [read_sample_manifest(folder) for folder in self.paths]
        for folder, manifest in zip(self.paths, self.manifests, strict=True):
            if not manifest.complete:
                raise UserError(f"{folder} is not complete: run the command that made it again to continue")
            if manifest.config.window != self.spec:
                raise UserError(
                    f"expected the windows of {path}, {self.spec}; got others in {folder}: "
                    f"{manifest.config.window}"
                )
        self.samples: list[Sample] = []
        self._groups: list[Path | None] = []
        self._folders: list[int] = []
        self._rows: list[int] = []
        self._places: list[tuple[int, int]] = []
        tcp: list[np.ndarray] = []
        widths: list[np.ndarray] = []
        objects: list[np.ndarray] = []
        cameras: list[np.ndarray] = []
        continuation: list[np.ndarray] = []
        files = [(i, file) for i, folder in enumerate(self.paths) for file in sorted(folder.glob("*/*.npz"))]
        for group, (folder, file) in enumerate(files):
            inside = self.paths[folder]
            arrays = unpack(read_bytes(file, within=inside), str(file))
            records = _read_records(arrays, self.spec, file)
            images = self.manifests[folder].config.images
            self._groups.append(file.with_suffix(".npy") if images else None)
            self._folders.append(folder)
            self._rows.append(len(records))
            for row, record in enumerate(records):
                sample = sample_from_plain(record, f"{file}, row {row}")
                self.samples.append(replace(sample, name=f"{folder}/{sample.name}") if more else sample)
                self._places.append((group, row))
            tcp.append(arrays["tcp_poses"])
            widths.append(arrays["gripper_widths"])
            objects.append(arrays["objects"])
            cameras.append(arrays["cameras"])
            continuation.append(arrays[_name_continuation(arrays)])
        if not self.samples:
            raise UserError(f"expected samples, got none in {', '.join(map(str, self.paths))}")
        if (
            len({part.shape[1] for part in continuation}) > 1
            or max(p.shape[1] for p in objects) > _MOST_OBJECTS
        ):
            raise RecordError(
                f"expected at most {_MOST_OBJECTS} objects and equally long continuations in all files of "
                f"{', '.join(map(str, self.paths))}, got others: make them again with `failsafe samples`"
            )
        self.tcp_poses = np.concatenate(tcp)
        self.gripper_widths = np.concatenate(widths)
        self.objects = _pad(objects)
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
    def objects_by_task(self) -> dict[str, int]:
        """The number of objects of each task."""
        most: dict[str, int] = {}
        counts = np.isfinite(self.objects).all(2).sum(1).tolist()
        for sample, count in zip(self.samples, counts, strict=True):
            most[sample.task] = max(most.get(sample.task, 0), count)
        return most

    @property
    def robots(self) -> dict[str, EmbodimentSpec]:
        """The robot of each task, without those of sets of version 1, which do not state it."""
        return {task: robot for manifest in self.manifests for task, robot in manifest.embodiments.items()}

    @property
    def embodiment(self) -> EmbodimentSpec | None:
        """The robot of all samples; None for sets of version 1, which do not state it.

        Raises:
            UserError: If there are robots with different control rates or step limits.
        """
        robots = self.robots
        return common_robot(robots) if robots else None

    @property
    def spec(self) -> WindowSpec:
        """Views, history, number and size of the images."""
        return self.manifests[0].config.window

    def indices(self, split: str, images: bool = True) -> list[int]:
        """Return the indices of a split's samples, exploration samples excluded.

        Args:
            split: Name of the split.
            images: Return the samples with images; False returns the image-free ones instead.
        """
        rows = [i for i, s in enumerate(self.samples) if s.split == split and s.kind is not Kind.EXPLORATION]
        return [i for i in rows if self.has_images(i) == images]

    @property
    def exploration(self) -> list[int]:
        """Indices of the exploration samples: their object poses are known, failures are not."""
        return [i for i, sample in enumerate(self.samples) if sample.kind is Kind.EXPLORATION]

    def has_images(self, index: int) -> bool:
        """Whether a sample has images."""
        return self._groups[self._places[index][0]] is not None

    def frames(self, index: int) -> UInt8[np.ndarray, "V F S S 3"]:
        """Return the images of a sample, mapped from disk.

        Raises:
            UserError: If the sample is image-free.
        """
        group, row = self._places[index]
        if group not in self._maps:
            path = self._groups[group]
            if path is None:
                raise UserError(
                    f"expected samples with images, got {self.samples[index].name} without: "
                    "image-free samples can only train the compact model"
                )
            spec = self.spec
            shape = (self._rows[group], len(spec.views), spec.frames, spec.size, spec.size, 3)
            self._maps[group] = map_images(path, shape, self.paths[self._folders[group]])
        return self._maps[group][row]

    def window(self, index: int, images: bool = True) -> Window:
        """Return a sample's window.

        Args:
            index: Index of the sample.
            images: Read its images; False leaves `frames` empty, for models that use none.
        """
        sample = self.samples[index]
        return Window(
            instruction=sample.instruction,
            spec=self.spec,
            frames=np.array(self.frames(index)) if images else np.empty((0, 0, 0, 0, 3), dtype=np.uint8),
            tcp_poses=self.tcp_poses[index],
            gripper_widths=self.gripper_widths[index],
            name=sample.name,
        )


def _name_continuation(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the name of an array, which was another in sample sets of version 1."""
    return "continuation" if "continuation" in arrays else "ahead"


def _read_records(arrays: Mapping[str, np.ndarray], spec: WindowSpec, file: Path) -> list[object]:
    """Return the records of a file as plain JSON types, and check that the other arrays fit them.

    Raises:
        RecordError: If an array is missing, or has a shape or type that does not fit.
    """
    if "cameras" not in arrays:
        raise RecordError(
            f"{file}: expected cameras beside every sample, got none (an earlier version made these "
            "samples): make them again with `failsafe samples`"
        )
    try:
        text = arrays["records"].tobytes().decode()
    except (KeyError, UnicodeDecodeError) as error:
        raise RecordError(f"{file}: expected records of samples in UTF-8, got none") from error
    records: Any = codec.parse_object(f'{{"records":{text}}}', str(file)).get("records")
    if not isinstance(records, list):
        raise RecordError(f"{file}: expected a list of samples, got {type(records).__name__}")
    shapes = {
        "tcp_poses": (spec.history + 1, 7),
        "gripper_widths": (spec.history + 1,),
        "objects": (None, 7),
        "cameras": (len(spec.views), 9),
        _name_continuation(arrays): (None, 7),
    }
    for name, tail in shapes.items():
        check_array(arrays, name, (len(cast(list[object], records)), *tail), np.float32, file)
    return cast(list[object], records)


def _pad(objects: list[np.ndarray]) -> Float32[np.ndarray, "N O 7"]:
    """Concatenate object poses, padded with NaN to the largest number of objects."""
    slots = max(part.shape[1] for part in objects)
    return np.concatenate(
        [
            np.pad(part, ((0, 0), (0, slots - part.shape[1]), (0, 0)), constant_values=np.nan)
            for part in objects
        ]
    )
