"""Weights on disk: one safetensors file in half precision, with its description in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from failsafe.datasets.files import write_atomically
from failsafe.errors import RecordError
from failsafe.records import codec
from failsafe.records.files import read_bytes

KEY = "failsafe"
"""Key of the description in the file's metadata."""
_LARGEST_HEADER = 1 << 24
Net = TypeVar("Net", bound=nn.Module)
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
        RecordError: If the file is damaged, too large, or of another format.
    """
    data = read_bytes(path, f"expected a checkpoint file, got {path}, which does not exist")
    accepted: dict[str, Renames] = {form: {}, **(older or {})}
    try:
        facts = codec.parse_object(_read_metadata(data).get(KEY, "{}"), KEY)
        got, about = facts.get("format", "none"), facts.get("meta", "")
        found = load(data) if got in accepted else {}
        if got in accepted and not (about and isinstance(about, str)):
            raise ValueError("it describes no network")
    except (SafetensorError, RecordError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise RecordError(
            f"{path}: expected a safetensors file, got a damaged one ({error!s:.200})"
        ) from error
    if got not in accepted:
        raise RecordError(
            f"{path}: expected a checkpoint of format '{form}', got '{got!s:.80}'; train it again with this "
            "version"
        )
    return about, {_rename(name, accepted[got]): tensor for name, tensor in found.items()}


def fill(make: Callable[[], Net], weights: Mapping[str, Tensor], path: Path) -> Net:
    """Return a network with given weights.

    The network is made without memory at first: a description that asks for more than there are weights of
    costs nothing.

    Args:
        make: Makes the network.
        weights: The weights by name.
        path: The file that they come from, for the error message.

    Raises:
        RecordError: If the weights do not fit the network, or there is no such network.
    """
    try:
        with torch.device("meta"):
            net = make()
        own = net.state_dict()
        if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in weights.items()}:
            raise RecordError(f"{path}: the weights are not those of the network that it describes")
        converted = {name: tensor.to(own[name].dtype, copy=True) for name, tensor in weights.items()}
        net.load_state_dict(converted, assign=True)
    except (RuntimeError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise RecordError(
            f"{path}: expected the description of a network, got another ({error!s:.200})"
        ) from error
    return net


def _read_metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file: a JSON object behind its own length of eight bytes.

    Raises:
        ValueError: If there is none.
        RecordError: If it is not a JSON object.
    """
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= min(len(data) - 8, _LARGEST_HEADER):
        raise ValueError("its header has no valid length")
    found = codec.parse_object(data[8 : 8 + size].decode(), "its header").get("__metadata__")
    return cast(dict[str, str], found) if isinstance(found, dict) else {}


def _rename(name: str, renames: Renames) -> str:
    return ".".join(renames.get(part, part) for part in name.split("."))
