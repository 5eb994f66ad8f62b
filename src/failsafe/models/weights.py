"""Weights on disk: one safetensors file, in half precision, with what they are beside them."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from failsafe.datasets.files import write_atomically
from failsafe.errors import RecordError, UserError

KEY = "failsafe"
"""Of the file's metadata."""


def save_weights(path: Path, form: str, net: nn.Module, about: str) -> None:
    """Write weights.

    Args:
        path: The file.
        form: Name and version of what they are.
        net: Where they come from.
        about: What stands beside them, as JSON.
    """
    weights = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in net.state_dict().items()
    }
    # One key, for the library writes several in an order of its own: equal checkpoints are to be equal bytes.
    facts = json.dumps({"format": form, "meta": about}, sort_keys=True)
    write_atomically(path, save(weights, {KEY: facts}))


def read_weights(path: Path, form: str) -> tuple[str, dict[str, Tensor]]:
    """What stands beside the weights, and the weights; nothing is unpickled.

    Raises:
        UserError: If there is no such file.
        RecordError: If it is damaged, or of another format than `form`.
    """
    if not path.is_file():
        raise UserError(f"expected a checkpoint file, got {path}, which does not exist")
    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, str] = json.loads((file.metadata() or {}).get(KEY, "{}"))
            if facts.get("format") != form:
                got = facts.get("format", "none")
                raise RecordError(
                    f"{path}: expected a checkpoint of format '{form}', got '{got}'; train it again with "
                    "this version"
                )
            return facts["meta"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError, KeyError, AttributeError) as error:
        raise RecordError(f"{path}: expected a safetensors file, got a damaged one ({error})") from error


def fill(net: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Put weights into a network.

    Raises:
        RecordError: If they are not those of such a network.
    """
    own = net.state_dict()
    try:
        net.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in weights.items()})
    except (KeyError, RuntimeError) as error:
        raise RecordError(f"{path}: the weights are not those of the network that it describes") from error
