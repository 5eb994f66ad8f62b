"""A recovery model by its name: the one that ships, a checkpoint, or a server."""

from __future__ import annotations

import hashlib
from pathlib import Path

from failsafe.errors import UserError
from failsafe.models.contract import RecoveryModel

SHIPPED = Path(__file__).parent / "checkpoints" / "compact.safetensors"
"""The compact model that comes with the package."""
COMPACT = "compact"


def load_model(name: str, any_instruction: bool = False) -> RecoveryModel:
    """Read a model from where its name points to.

    Args:
        name: "compact" for the one that ships, the file of a compact checkpoint, the folder of a run, or the
            folder of a FailSafe-VLM.
        any_instruction: Let it assess instructions that it was not trained on.

    Raises:
        UserError: If there is no such checkpoint.
        RecordError: If it is damaged, or of another version or architecture.
    """
    path = checkpoint_path(name)
    if path.suffix == ".safetensors":
        # Imported only now: who asks for one kind of model need not have what the other kind needs.
        from failsafe.models.compact import load_compact

        return load_compact(path, any_instruction)
    if not path.is_dir():
        raise UserError(
            f"expected 'compact', a checkpoint made by `failsafe train`, or its folder, got '{name}'"
        )
    from failsafe.models.llava.model import LlavaModel

    return LlavaModel(path, any_instruction=any_instruction)


def checkpoint_path(name: str) -> Path:
    """The file or folder that a model's name points to, whether or not it is there."""
    path = SHIPPED if name == COMPACT else Path(name)
    inside = path / SHIPPED.name
    return inside if inside.is_file() else path


def fingerprint(name: str) -> str:
    """SHA-256 of a model's weights, by which thresholds and results know it; empty where there are none.

    Args:
        name: As for `load_model`.
    """
    path = checkpoint_path(name)
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    for file in files:
        with file.open("rb") as stream:
            while part := stream.read(1 << 22):
                digest.update(part)
    return digest.hexdigest() if files else ""
