"""The manifest of a dataset: the configuration that makes it again, and the origin of the data."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from failsafe.datasets.files import write_atomically
from failsafe.errors import FailSafeError, PluginError, RecordError, UserError
from failsafe.experts.tasks import Task, task_code
from failsafe.generation.config import PARTITIONS, GenerationConfig, config_from_plain
from failsafe.imports import may_import
from failsafe.perturbations import MODES
from failsafe.records import codec
from failsafe.records.files import read_text
from failsafe.records.perturbation import VERSION_1_SCALES
from failsafe.records.provenance import Provenance, missing_plugins
from failsafe.sources import changed_code

FORMAT = "Manifest/3"
_VERSION_1, _VERSION_2 = "Manifest/1", "Manifest/2"
GENERATOR = 3
"""Version of generation: raised when equal configurations no longer give equal datasets."""


@dataclass(frozen=True)
class Manifest:
    """Configuration and origin of a dataset.

    Attributes:
        config: The configuration.
        provenance: Commit, versions and platform of the run that started it.
        shard: "i/n" for a shard, empty for a whole dataset.
        complete: Whether the run has finished.
        generator: Version of generation that started it, see `GENERATOR`.
        code: Fingerprints of tasks and modes that are not FailSafe's own, see `dataset_code`.
    """

    config: GenerationConfig
    provenance: Provenance
    shard: str = ""
    complete: bool = False
    generator: int = GENERATOR
    code: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def command(self) -> str:
        """The command that makes this dataset again, if its modes have their default settings."""
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
        if config.partitions != PARTITIONS:
            parts.append(f"--partitions {config.partitions}")
        if config.needed:
            parts.append("--needed")
        return " ".join(parts + ([f"--shard {self.shard}"] if self.shard else []))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a dataset.

    Args:
        folder: Folder of the dataset.
        manifest: Its manifest.

    Raises:
        StoreError: If the file cannot be written.
    """
    plain = {
        "format": FORMAT,
        "config": manifest.config.to_plain(),
        "provenance": codec.to_plain(manifest.provenance),
        "shard": manifest.shard,
        "complete": manifest.complete,
        "generator": manifest.generator,
        "code": dict(manifest.code),
    }
    text = json.dumps(plain, indent=1, sort_keys=True) + "\n"
    write_atomically(folder / "manifest.json", text.encode())


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a dataset.

    Raises:
        UserError: If the folder has none.
        RecordError: If it is damaged or of an unknown version.
        PluginError: If the configuration needs a plugin that is not installed.
    """
    path = folder / "manifest.json"
    absent = f"expected a dataset made by `failsafe generate`, got {folder}, which has no manifest.json"
    fields = codec.parse_object(read_text(path, absent, within=folder), str(path))
    if fields.get("format") == _VERSION_1:
        fields |= {"format": _VERSION_2, "generator": 1}
        try:
            _convert_modes(fields["config"])
        except (AttributeError, KeyError, TypeError) as error:
            raise RecordError(
                f"{path}.config: expected modes with magnitudes, got others ({error})"
            ) from error
    if fields.get("format") == _VERSION_2:
        fields |= {"format": FORMAT, "code": {}}
    if str(fields.get("format")).startswith("MinedManifest/"):
        raise UserError(
            f"expected a dataset made by `failsafe generate`, got {folder} with failures mined "
            "from a policy: its page is report.html, and `failsafe samples` takes it as it is"
        )
    if fields.get("format") != FORMAT:
        raise RecordError(
            f"{path}: expected format '{FORMAT}', got '{fields.get('format', 'no format')}': read it with "
            "the version of FailSafe that wrote it"
        )
    keys = {"format", "config", "provenance", "shard", "complete", "generator", "code"}
    if fields.keys() != keys:
        wrong = sorted(fields.keys() ^ keys)
        raise RecordError(f"{path}: expected the keys {', '.join(sorted(keys))}; missing or unknown: {wrong}")
    _check_types(fields, str(path))
    with explain_missing_plugins(folder):
        config = config_from_plain(fields["config"], str(path))
    return Manifest(
        config=config,
        provenance=codec.from_plain(Provenance, fields["provenance"], str(path)),
        shard=str(fields["shard"]),
        complete=bool(fields["complete"]),
        generator=int(fields["generator"]),
        code=_read_code(fields["code"], f"{path}.code"),
    )


def _check_types(fields: Mapping[str, Any], where: str) -> None:
    types = {"config": dict, "shard": str, "complete": bool, "generator": int}
    for name, cls in types.items():
        if not isinstance(fields.get(name), cls):
            raise RecordError(f"{where}.{name}: expected {cls.__name__}, got {fields.get(name)!r:.80}")
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", fields["shard"])
    if fields["shard"] and not (found and int(found[1]) < int(found[2])):
        raise RecordError(f"{where}.shard: expected i/n with i < n, got {fields['shard']!r:.80}")


@contextlib.contextmanager
def explain_missing_plugins(folder: Path) -> Generator[None, None, None]:
    """Name the plugins that a dataset was made with, if a name is unknown because they are not installed.

    Args:
        folder: Folder of the dataset.

    Raises:
        PluginError: In place of a `UserError` in the context, if such a plugin is not installed.
    """
    try:
        yield
    except UserError as error:
        path = folder / "manifest.json"
        try:
            provenance = codec.parse_object(read_text(path, within=folder), str(path)).get("provenance", {})
            missing = missing_plugins(_read_code(provenance.get("plugins", {}), "plugins"))
        except (FailSafeError, AttributeError):
            missing = []  # no manifest that says so: the error stays as it is
        if not missing:
            raise
        raise PluginError(
            f"{path} was made with plugins that are not installed ({', '.join(missing)}); install them, "
            f"then try again: {error}"
        ) from error


def _read_code(plain: Any, where: str) -> dict[str, str]:
    if not isinstance(plain, Mapping):
        raise RecordError(f"{where}: expected an object, got {type(plain).__name__}")
    return {str(name): str(found) for name, found in cast(Mapping[Any, Any], plain).items()}


def _convert_modes(config: Any) -> None:
    """Convert, in place, the magnitudes that version 1 counted in control steps."""
    for name, (_, factor) in VERSION_1_SCALES.items():
        magnitude = config.get("modes", {}).get(name, {}).get("magnitude", {})
        for kind, numbers in magnitude.items():
            magnitude[kind] = [number * factor for number in numbers]


def dataset_code(config: GenerationConfig, tasks: Mapping[str, Task]) -> dict[str, str]:
    """Return the fingerprint of every task and mode of a dataset that is not FailSafe's own.

    A user's function, class or plugin is known by its sources, see `failsafe.sources`. FailSafe's own code
    counts by `GENERATOR`.

    Args:
        config: The configuration of the dataset.
        tasks: Tasks that were given as objects, by name.
    """
    code = {f"task {name}": task_code(tasks.get(name, name)) for name in config.tasks}
    code |= {f"mode {name}": MODES.version_of(name) for name in config.modes}
    return {name: found for name, found in code.items() if found}


def check_task_code(folder: Path) -> None:
    """Check that the tasks of a dataset, generated or mined, still have the code that it was made with.

    What was recorded of a task that was given as an object says nothing about one that is loaded by its name.

    Args:
        folder: Folder of the dataset. One without a manifest states no code.

    Raises:
        UserError: If the code of a task has changed.
        RecordError: If the manifest is damaged.
    """
    path = folder / "manifest.json"
    if not path.exists():
        return
    recorded = _read_code(
        codec.parse_object(read_text(path, within=folder), str(path)).get("code", {}), f"{path}.code"
    )
    before = {name: found for name, found in recorded.items() if not found.startswith("python:")}
    now: dict[str, str] = {}
    for name in before:
        kind, _, task = name.partition(" ")
        if kind == "task" and (":" not in task or may_import(task)) and (found := task_code(task)):
            now[name] = found
    if changed := changed_code({name: before[name] for name in now}, now):
        raise UserError(
            f"{folder} was made by other code ({', '.join(changed)}), whose scenes may be others: make it "
            "again, or restore that code"
        )


def differing_keys(a: GenerationConfig, b: GenerationConfig) -> list[str]:
    """Return the names of the settings in which two configurations differ.

    Args:
        a: A configuration.
        b: The configuration to compare with.
    """
    first, second = a.to_plain(), b.to_plain()
    return [key for key in first if first[key] != second[key]]
