"""A recovery model by its name: the one that ships, a checkpoint, or a server."""

from __future__ import annotations

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
        any_instruction: Let a compact model assess instructions that it was not trained on.

    Raises:
        UserError: If there is no such checkpoint.
        RecordError: If it is damaged, or of another version or architecture.
    """
    path = SHIPPED if name == COMPACT else Path(name)
    if path.is_dir() and (path / SHIPPED.name).is_file():
        path = path / SHIPPED.name
    if path.suffix == ".safetensors":
        # Imported only now: who asks for one kind of model need not have what the other kind needs.
        from failsafe.models.compact import load_compact

        return load_compact(path, any_instruction)
    if not path.is_dir():
        raise UserError(
            f"expected 'compact', a checkpoint made by `failsafe train`, or its folder, got '{name}'"
        )
    from failsafe.models.llava.model import LlavaModel

    return LlavaModel(path)
