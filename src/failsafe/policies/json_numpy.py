"""JSON with arrays, compatible with the package json-numpy, which OpenVLA's servers use.

An array is `{"__numpy__": base64 of its bytes, "dtype": "<f4", "shape": [2, 7]}`. The package reads any dtype
of NumPy; this module reads plain numbers only, and does not patch `json`.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from failsafe.policies.raw_arrays import dtype_of, read_array


def dumps(value: object) -> str:
    """Write a value with arrays and NumPy scalars as JSON.

    Raises:
        ValueError: If an array is not of plain numbers.
        TypeError: If a part of it is neither JSON nor NumPy.
    """
    return json.dumps(value, default=_to_plain)


def loads(text: str | bytes) -> Any:
    """Read a value from JSON; NumPy scalars become arrays without axes.

    Raises:
        ValueError: If it is not JSON, or an array in it is invalid.
    """
    try:
        return json.loads(text, object_hook=_from_plain)
    except RecursionError:
        raise ValueError("expected JSON, got too many nested brackets") from None


def _to_plain(value: object) -> dict[str, object]:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"expected JSON or arrays, got {type(value).__name__}")
    data = base64.b64encode(value.tobytes()).decode()
    return {"__numpy__": data, "dtype": dtype_of(value), "shape": list(value.shape)}


def _from_plain(found: dict[str, Any]) -> Any:
    if "__numpy__" not in found:
        return found
    data = found["__numpy__"]
    if not isinstance(data, str):
        raise ValueError(f"expected base64 for an array, got {type(data).__name__}")
    return read_array(base64.b64decode(data, validate=True), found.get("dtype"), found.get("shape"))
