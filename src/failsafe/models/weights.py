"""Weights on disk: one safetensors file in half precision, with its description in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from failsafe.datasets.files import write_atomically
from failsafe.errors import RecordError, UserError

KEY = "failsafe"
"""Key of the description in the file's metadata."""
Renames = Mapping[str, str]
"""New names of submodules by their names in an older format."""


def save_weights(path: Path, form: str, net: nn.Module, about: str) -> None:
    """Write the weights of a network.

    Args:
        path: The file.
        form: Name and version of the format.
        net: The network.
        about: Description of the network, as JSON.
    """
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in net.state_dict().items()
    }
    # Safetensors writes several metadata keys in arbitrary order. One key keeps equal checkpoints byte-equal.
    facts = json.dumps({"format": form, "meta": about}, sort_keys=True)
    write_atomically(path, save(weights, {KEY: facts}))


def read_weights(
    path: Path, form: str, older: Mapping[str, Renames] | None = None
) -> tuple[str, dict[str, Tensor]]:
    """Read weights and their description. Nothing is unpickled.

    Args:
        path: The file.
        form: Name and version of the expected format.
        older: Older formats that are accepted, with the submodules that have been renamed since.

    Returns:
        The description as JSON, and the weights by the names that they have in the present format.

    Raises:
        UserError: If there is no such file.
        RecordError: If the file is damaged or of another format.
    """
    if not path.is_file():
        raise UserError(f"expected a checkpoint file, got {path}, which does not exist")
    accepted: dict[str, Renames] = {form: {}, **(older or {})}
    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, str] = json.loads((file.metadata() or {}).get(KEY, "{}"))
            got = facts.get("format", "none")
            if got not in accepted:
                raise RecordError(
                    f"{path}: expected a checkpoint of format '{form}', got '{got}'; train it again with "
                    "this version"
                )
            names = list(file.keys())
            return facts["meta"], {_rename(name, accepted[got]): file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, json.JSONDecodeError, KeyError, AttributeError) as error:
        raise RecordError(f"{path}: expected a safetensors file, got a damaged one ({error})") from error


def fill(net: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights into a network.

    Args:
        net: The network.
        weights: The weights by name.
        path: The file that they come from, for the error message.

    Raises:
        RecordError: If the weights do not fit the network.
    """
    own = net.state_dict()
    try:
        net.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in weights.items()})
    except (KeyError, RuntimeError) as error:
        raise RecordError(f"{path}: the weights are not those of the network that it describes") from error


def _rename(name: str, renames: Renames) -> str:
    return ".".join(renames.get(part, part) for part in name.split("."))
