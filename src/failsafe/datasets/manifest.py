"""The manifest: the configuration that regenerates a dataset, and where the dataset comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from failsafe.datasets.files import write_atomically
from failsafe.errors import RecordError, UserError
from failsafe.generation.config import GenerationConfig, config_from_plain
from failsafe.records import codec
from failsafe.records.provenance import Provenance

FORMAT = "Manifest/1"


@dataclass(frozen=True)
class Manifest:
    """What a dataset is.

    Attributes:
        config: The configuration.
        provenance: Commit, versions and platform of the run that began it.
        shard: "i/n" for a part of it, empty for the whole.
        complete: Whether the run that makes it has come to its end.
    """

    config: GenerationConfig
    provenance: Provenance
    shard: str = ""
    complete: bool = False

    @property
    def command(self) -> str:
        """The command that makes this dataset again where the modes have their default settings."""
        config = self.config
        parts = [
            "failsafe generate",
            *config.tasks,
            f"--failures {config.failures}",
            f"--seeds {config.first_seed}:{config.last_seed}",
            f"--labels {config.labels}",
            f"--verify-rollouts {config.verify_rollouts}",
            f"--compound {config.compound}",
            "--modes",
            ",".join(sorted(config.modes)),
        ]
        return " ".join(parts + ([f"--shard {self.shard}"] if self.shard else []))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Store a manifest; errors as for `write_atomically`."""
    plain = {
        "format": FORMAT,
        "config": manifest.config.to_plain(),
        "provenance": codec.to_plain(manifest.provenance),
        "shard": manifest.shard,
        "complete": manifest.complete,
    }
    text = json.dumps(plain, indent=1, sort_keys=True) + "\n"
    write_atomically(folder / "manifest.json", text.encode())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a dataset.

    Raises:
        UserError: If the folder has none.
        RecordError: If it is damaged or of another version.
    """
    path = folder / "manifest.json"
    try:
        plain: Any = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"expected a dataset made by `failsafe generate`, got {folder}, which has no manifest.json"
        ) from error
    except ValueError as error:
        raise RecordError(f"{path}: expected JSON, got something that does not parse ({error})") from error
    if not isinstance(plain, Mapping) or cast(Mapping[str, Any], plain).get("format") != FORMAT:
        raise RecordError(f"{path}: expected format '{FORMAT}'; read it with the version that wrote it")
    fields = cast(dict[str, Any], plain)
    keys = {"format", "config", "provenance", "shard", "complete"}
    if fields.keys() != keys:
        wrong = sorted(fields.keys() ^ keys)
        raise RecordError(f"{path}: expected the keys {', '.join(sorted(keys))}; missing or unknown: {wrong}")
    return Manifest(
        config=config_from_plain(fields["config"], str(path)),
        provenance=codec.from_plain(Provenance, fields["provenance"], str(path)),
        shard=str(fields["shard"]),
        complete=bool(fields["complete"]),
    )


def differing_keys(a: GenerationConfig, b: GenerationConfig) -> list[str]:
    """Names of the settings in which two configurations differ."""
    first, second = a.to_plain(), b.to_plain()
    return [key for key in first if first[key] != second[key]]
