"""Folders of failures that were mined from a policy: settings and manifest.

A mined folder is a dataset of cases and nominal rollouts like a generated one, with a manifest of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from failsafe.datasets.files import write_atomically
from failsafe.datasets.manifest import read_manifest
from failsafe.errors import UserError
from failsafe.perturbations.runtime import parse_runtime
from failsafe.records import codec
from failsafe.records.files import read_text
from failsafe.records.names import LAST_SEED, LAST_STEP
from failsafe.records.provenance import Provenance
from failsafe.records.seeds import check_trainable


@dataclass(frozen=True)
class MiningConfig:
    """Everything that determines what is mined from a policy.

    Attributes:
        policy: Name of the policy.
        weights: Identifies its weights or code; empty where nothing is known.
        tasks: Names of the tasks.
        episodes: Episodes of each task.
        first_seed: Seed of the first initial state of each task; the others follow.
        perturbations: Run-time perturbations, each "MODE" or "MODE:MAGNITUDE". Episodes take them in turn;
            without any, the policy acts undisturbed.
        max_steps: Control steps after which an episode is over.
        labels: Steps of each failed episode to find corrections for.
        verify_rollouts: Rollouts with each correction: one exact, the others with noise and delay.
        samples: Rollouts of each branch without a correction, where the policy is not deterministic.

    Raises:
        UserError: If a value is out of range, or a seed is kept for calibration or proof.
        UnknownNameError: If there is no mode of a name.
    """

    policy: str
    weights: str
    tasks: tuple[str, ...]
    episodes: int = 100
    first_seed: int = 0
    perturbations: tuple[str, ...] = ()
    max_steps: int = 200
    labels: int = 2
    verify_rollouts: int = 1
    samples: int = 4

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.tasks:
            raise UserError("expected at least one task, got none")
        if len(set(self.tasks)) != len(self.tasks):
            raise UserError(f"expected each task once, got {', '.join(self.tasks)}")
        for name, value, least in (
            ("episodes", self.episodes, 1),
            ("first_seed", self.first_seed, 0),
            ("max_steps", self.max_steps, 1),
            ("labels", self.labels, 1),
            ("verify_rollouts", self.verify_rollouts, 1),
            ("samples", self.samples, 1),
        ):
            most = LAST_SEED if name == "first_seed" else LAST_STEP
            if not least <= value <= most:
                raise UserError(f"expected {name} to be at least {least} and at most {most}, got {value}")
        check_trainable(range(self.first_seed, self.first_seed + self.episodes))
        for text in self.perturbations:
            parse_runtime(text)

    @property
    def items(self) -> list[tuple[str, int]]:
        """Task and seed of every episode, in order."""
        seeds = range(self.first_seed, self.first_seed + self.episodes)
        return [(task, seed) for seed in seeds for task in self.tasks]

    def scenario(self, seed: int) -> str:
        """Return the name of the scenario of an episode: its perturbation, or "nominal"."""
        if not self.perturbations:
            return "nominal"
        return self.perturbations[(seed - self.first_seed) % len(self.perturbations)]


@dataclass(frozen=True)
class MinedManifest:
    """Settings and origin of a mined folder.

    Attributes:
        config: What is mined.
        provenance: Commit, versions and platform of the run that started it.
        complete: Whether the run has finished.
        code: Fingerprints of tasks and perturbations that are not FailSafe's own, as in `Manifest.code`;
            empty in folders of earlier versions.
    """

    FORMAT: ClassVar[int] = 1

    config: MiningConfig
    provenance: Provenance
    complete: bool = False
    code: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def command(self) -> str:
        """The command that makes this folder again."""
        config = self.config
        words = ["failsafe", "mine", "--policy", config.policy, "--tasks", ",".join(config.tasks)]
        words += ["--episodes", str(config.episodes), "--first-seed", str(config.first_seed)]
        if config.perturbations:
            words += ["--perturb", ",".join(config.perturbations)]
        words += ["--max-steps", str(config.max_steps), "--labels", str(config.labels)]
        words += ["--verify-rollouts", str(config.verify_rollouts), "--samples", str(config.samples)]
        return shlex.join(words)


def write_mined_manifest(folder: Path, manifest: MinedManifest) -> None:
    """Write the manifest of a mined folder.

    Args:
        folder: The folder.
        manifest: Its manifest.

    Raises:
        StoreError: If the file cannot be written.
    """
    write_atomically(folder / "manifest.json", codec.dumps(manifest).encode())


def read_mined_manifest(folder: Path) -> MinedManifest:
    """Read the manifest of a mined folder.

    Raises:
        UserError: If the folder has none.
        RecordError: If the folder holds something else, or its manifest is damaged.
    """
    absent = f"expected a folder made by `failsafe mine`, got {folder}, which has no manifest.json"
    return codec.read(MinedManifest, folder / "manifest.json", absent, within=folder)


def read_source(folder: Path) -> tuple[str, range]:
    """Return the command that makes a dataset again, generated or mined, and the seeds of its initial states.

    Args:
        folder: The dataset.

    Raises:
        UserError: If the folder has no manifest.
        RecordError: If its manifest is damaged or of an unknown version.
    """
    path = folder / "manifest.json"
    absent = f"expected a dataset made by `failsafe generate`, got {folder}, which has no manifest.json"
    form = codec.parse_object(read_text(path, absent, within=folder), str(path)).get("format")
    if not str(form).startswith("MinedManifest/"):
        made = read_manifest(folder)
        return made.command, range(made.config.first_seed, made.config.last_seed)
    mined = read_mined_manifest(folder)
    first = mined.config.first_seed
    return mined.command, range(first, first + mined.config.episodes)
