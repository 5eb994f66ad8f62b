"""The configuration of a sample set, and its manifest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from failsafe.errors import UnknownNameError, UserError
from failsafe.records import codec
from failsafe.records.assessment import WindowSpec
from failsafe.records.codec import Migration
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.provenance import Provenance
from failsafe.samples.splits import SPLITS


@dataclass(frozen=True)
class SampleConfig:
    """What a sample set contains.

    Attributes:
        window: Views, history, number and size of the images.
        splits: The splits to make.
        failing_share: Share of failing samples in every task and split; 0 keeps all samples.
        per_cell: The most failing samples per task, split, mode and stage; 0 for no limit.
        jitter_metres: The most by which each camera is moved, drawn anew for every window.
        jitter_degrees: The most by which each camera is rotated.
        shifted: Move the cameras by exactly these amounts instead of up to them.
        only_split: Put every seed into this split; empty to split by seed.
        every: Take a sample every so many control steps of each rollout; 0 for a few per rollout.
        explore: Take so many samples of one random-exploration rollout per initial state, and no others, to
            train the object localizer; 0 for samples of the dataset's own rollouts.
        images: Render the windows. Image-free samples are cheap; the failure classifier learns from them with
            ground-truth object poses.
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
    explore: int = 0
    images: bool = True

    def __post_init__(self) -> None:
        """Refuse contradictions and values out of range."""
        window = self.window
        if not window.views or len(set(window.views)) < len(window.views):
            raise UserError(f"expected at least one view and each only once, got {', '.join(window.views)}")
        if window.history < 1 or not 1 <= window.frames <= window.history + 1:
            raise UserError(
                "expected a history of at least 1 step and from 1 to history + 1 frames, got "
                f"{window.history} and {window.frames}"
            )
        for size in (window.size, *([window.source] if window.source else [])):
            if not 16 <= size <= 1024:
                raise UserError(f"expected images of 16 to 1024 pixels, got {size}")
        for split in (*self.splits, *([self.only_split] if self.only_split else [])):
            if split not in SPLITS:
                raise UnknownNameError("split", split, SPLITS)
        if not 0 <= self.failing_share < 1:
            raise UserError(
                f"expected a failing share of at least 0 (keep all) and below 1, got {self.failing_share}"
            )
        for name in ("every", "explore", "per_cell"):
            if getattr(self, name) < 0:
                raise UserError(f"expected '{name}' to be 0 or more, got {getattr(self, name)}")
        if self.explore and (self.splits != ("train",) or not self.images):
            raise UserError(
                "expected the split 'train' alone, and images, for samples of random exploration: they train "
                "the object localizer"
            )
        if self.jitter_metres < 0 or self.jitter_degrees < 0:
            raise UserError(
                "expected cameras to be moved by 0 or more metres and degrees, got "
                f"{self.jitter_metres} and {self.jitter_degrees}"
            )


@dataclass(frozen=True)
class SampleManifest:
    """A sample set's configuration and origin.

    Attributes:
        config: Its configuration.
        sources: The command that makes each source dataset, in the order of `Sample.source`.
        provenance: Commit and versions of the run that started it.
        complete: Whether the run has finished.
        lost: TASK/SEED-SOURCE of every initial state that is left out because it killed its worker twice.
        embodiments: The robot of each task; empty in sets of version 1.
    """

    FORMAT: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[str, Migration]] = {
        "SampleManifest/1": lambda fields: _from_version_1(fields)
    }

    config: SampleConfig
    sources: tuple[str, ...]
    provenance: Provenance
    complete: bool = False
    lost: tuple[str, ...] = ()
    embodiments: dict[str, EmbodimentSpec] = field(default_factory=dict[str, EmbodimentSpec])

    def command(self, folder: Path) -> str:
        """Return the commands that make this set again in a folder, its datasets beside it first."""
        config, window = self.config, self.config.window
        data = [shlex.quote(f"{folder}-data{i + 1}") for i in range(len(self.sources))]
        made = [f"{command} --out {name}" for command, name in zip(self.sources, data, strict=True)]
        options = {
            "--views": ",".join(window.views),
            "--history": window.history,
            "--frames": window.frames,
            "--size": window.size,
            "--source": window.source or "",
            "--splits": ",".join(config.splits),
            "--failing-share": config.failing_share,
            "--per-cell": config.per_cell,
            "--shift" if config.shifted else "--jitter": f"{config.jitter_metres},{config.jitter_degrees}",
            "--only-split": config.only_split,
            "--every": config.every,
            "--explore": config.explore,
        }
        arguments = [f"{flag} {value}" for flag, value in options.items() if value != ""]
        arguments += [] if config.images else ["--no-images"]
        arguments.append(f"--out {shlex.quote(str(folder))}")
        return " && ".join([*made, " ".join(["failsafe samples", *data, *arguments])])


def read_sample_manifest(path: Path) -> SampleManifest:
    """Read the manifest of a sample set.

    Raises:
        UserError: If the folder has none.
        RecordError: If it is damaged or of an unknown version.
    """
    absent = f"expected samples made by `failsafe samples`, got {path}, without them"
    return codec.read(SampleManifest, path / "manifest.json", absent, within=path)


def _from_version_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Rename the fields of version 1."""
    renamed = {"wander": "explore", "pictures": "images"}
    config = {renamed.get(key, key): value for key, value in fields["config"].items()}
    return {**fields, "config": config}
