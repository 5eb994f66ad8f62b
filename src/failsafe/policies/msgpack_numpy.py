"""MessagePack with arrays, compatible with `openpi_client.msgpack_numpy`. Needs msgpack.

An array is a map with bytes as keys:
`{b"__ndarray__": True, b"data": ..., b"dtype": "<f4", b"shape": [2, 7]}`;
a scalar of NumPy is `{b"__npgeneric__": True, b"data": 0.5, b"dtype": "<f4"}`. (The package msgpack-numpy has
other keys: the two formats are not compatible.) Only plain numbers are read.
"""

from __future__ import annotations

from typing import Any, cast

import msgpack
import numpy as np

from failsafe.policies.raw_arrays import dtype_of, read_array, read_dtype

MAX_ITEMS = 100_000
"""Largest number of items in all lists and maps of a message together. An array of NumPy counts as four."""
_MAX_LENGTH = 20_000
"""Largest number of items of one list or map."""


def packb(value: object) -> bytes:
    """Write a value with arrays and NumPy scalars as bytes.

    Raises:
        ValueError: If an array is not of plain numbers.
        TypeError: If a part of it is neither MessagePack nor NumPy.
    """
    return cast(bytes, msgpack.packb(value, default=_to_plain))


def unpackb(data: bytes) -> Any:
    """Read a value from bytes. Its size in memory is bounded by that of the bytes and `MAX_ITEMS`.

    Raises:
        ValueError: If they are not MessagePack, hold too many lists and maps, or an array in them is invalid.
    """
    items = 0

    def count(found: Any) -> Any:
        # One byte can be a whole map, which takes 64 bytes in memory and more.
        nonlocal items
        items += len(found) + 1
        if items > MAX_ITEMS:
            raise ValueError(f"expected at most {MAX_ITEMS} items in lists and maps, got more")
        return found

    try:
        return msgpack.unpackb(
            data,
            object_hook=lambda found: _from_plain(count(found)),
            list_hook=count,
            max_array_len=_MAX_LENGTH,
            max_map_len=_MAX_LENGTH,
        )
    except (
        ValueError,
        msgpack.exceptions.UnpackException,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ValueError(str(error) or f"expected MessagePack, got {type(error).__name__}") from None


def _to_plain(value: object) -> dict[bytes, object]:
    if isinstance(value, np.ndarray):
        # Keys are in openpi's order, so that messages are equal byte by byte.
        dtype = dtype_of(value)
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": dtype, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": dtype_of(value)}
    raise TypeError(f"expected MessagePack or arrays, got {type(value).__name__}")


def _from_plain(found: dict[Any, Any]) -> Any:
    if b"__ndarray__" in found:
        data = found.get(b"data")
        if not isinstance(data, bytes):
            raise ValueError(f"expected bytes for an array, got {type(data).__name__}")
        return read_array(data, found.get(b"dtype"), found.get(b"shape"))
    if b"__npgeneric__" in found:
        number = found.get(b"data")
        if not isinstance(number, (bool, int, float)):
            raise ValueError(f"expected a number for a scalar, got {type(number).__name__}")
        return np.array(number).astype(read_dtype(found.get(b"dtype")))[()]
    return found
