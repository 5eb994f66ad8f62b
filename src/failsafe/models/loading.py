"""Recovery models by name: one that ships, a checkpoint, a server, a plugin, or a class of one's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from failsafe import registry
from failsafe.errors import UserError
from failsafe.models.contract import RecoveryModel
from failsafe.registry import Registry
from failsafe.sources import fingerprint_of

COMPACT = "compact"
"""The default: the compact model of ManiSkill's tasks."""
COMPACT_METAWORLD = "compact-metaworld"
CHECKPOINTS = Path(__file__).parent / "checkpoints"
SHIPPED = {name: CHECKPOINTS / f"{name}.safetensors" for name in (COMPACT, COMPACT_METAWORLD)}
"""The compact models that come with the package, by name."""
_IN_RUNS = "compact.safetensors"
"""Name of the checkpoint in the folder of a training run."""

MODELS: Registry[Callable[..., RecoveryModel]] = registry.models
"""Recovery models by name: a class or a function that returns a `RecoveryModel`.

An entry is called with the text behind "NAME:" where there is some, and with the keyword `any_instruction`
where it has a parameter of that name. An attribute `fingerprint` of the entry, a function of the same text,
identifies the weights that it reads.
"""
MODELS.result = RecoveryModel


def load_model(name: str | RecoveryModel, any_instruction: bool = False) -> RecoveryModel:
    """Load a recovery model.

    Args:
        name: One of

            - "compact" or "compact-metaworld", the models that ship;
            - a compact checkpoint, the folder of a training run, or the folder of a FailSafe-VLM;
            - "openai+http://HOST:PORT/v1?model=NAME" (or "openai+https://..."), a FailSafe-VLM behind an
              OpenAI-compatible server, with the settings of `failsafe.models.endpoints.EndpointModels`;
            - the name of a plugin's model, or "MODULE:CLASS";
            - a model, which is returned as it is.
        any_instruction: Let the model assess instructions that it was not trained on.

    Raises:
        UserError: If there is no such model, something that it needs is not installed, or a server does not
            answer.
        RecordError: If a checkpoint is damaged, or of another version or architecture.
    """
    if not isinstance(name, str):
        return name
    if _is_registered(name):
        return MODELS.make(name, any_instruction=any_instruction)
    return _load_checkpoint(checkpoint_path(name), any_instruction)


def checkpoint_path(name: str) -> Path:
    """Return the file or folder of a checkpoint, whether or not it exists."""
    path = SHIPPED.get(name) or Path(name)
    inside = path / _IN_RUNS
    return inside if inside.is_file() else path


def fingerprint(name: str | RecoveryModel) -> str:
    """Identify a model's weights, so that results and thresholds are not mixed with those of other weights.

    Args:
        name: As for `load_model`.

    Returns:
        The SHA-256 of a checkpoint, name and URL of a served model; package, version and sources of a
        plugin's model, the SHA-256 of the sources of "MODULE:CLASS" (`Registry.identify`); class and sources
        of an object.
    """
    if not isinstance(name, str):
        return fingerprint_of(name)
    if _is_registered(name) and name not in SHIPPED:
        return MODELS.identify(name)
    path = checkpoint_path(name)
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(f for f in path.glob("*.safetensors") if f.is_file())
    for file in files:
        with file.open("rb") as stream:
            while part := stream.read(1 << 22):
                digest.update(part)
    return digest.hexdigest() if files else ""


def _is_registered(name: str) -> bool:
    return name in MODELS or (":" in name and not Path(name).exists())


def _load_checkpoint(path: Path, any_instruction: bool) -> RecoveryModel:
    # Imported on demand: each kind of model has requirements that the other kinds do not have.
    if path.suffix == ".safetensors":
        from failsafe.models.compact import load_compact

        return load_compact(path, any_instruction)
    if not path.is_dir():
        raise UserError(
            f"expected {', '.join(MODELS)}, MODULE:CLASS, a checkpoint made by `failsafe train` or its "
            f"folder as a recovery model, got '{path}'"
        )
    from failsafe.models.llava.model import LlavaModel

    return LlavaModel(path, any_instruction=any_instruction)


@MODELS.register(COMPACT)
def _compact(any_instruction: bool = False) -> RecoveryModel:
    return _load_checkpoint(SHIPPED[COMPACT], any_instruction)


@MODELS.register(COMPACT_METAWORLD)
def _compact_metaworld(any_instruction: bool = False) -> RecoveryModel:
    return _load_checkpoint(SHIPPED[COMPACT_METAWORLD], any_instruction)
