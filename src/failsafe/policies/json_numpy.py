"""JSON with arrays in it, as the package json-numpy writes and reads it, which OpenVLA's servers use.

An array is `{"__numpy__": base64 of its bytes, "dtype": "<f4", "shape": [2, 7]}`. The package reads any dtype
that NumPy can build; here only plain numbers are read, and nothing is patched.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from failsafe.policies.raw_arrays import dtype_of, read_array


def dumps(value: object) -> str:
    """A value as JSON; arrays and NumPy's scalars may be anywhere in it.

    Raises:
        ValueError: If an array is none of plain numbers.
        TypeError: If something in it is neither JSON nor NumPy.
    """
    return json.dumps(value, default=_to_plain)


def loads(text: str | bytes) -> Any:
    """The value that JSON stands for; scalars of NumPy come back as arrays without axes.

    Raises:
        ValueError: If it is no JSON, or an array in it cannot be read.
    """
    try:
        return json.loads(text, object_hook=_from_plain)
    except RecursionError:
        raise ValueError("expected JSON, got brackets too deep to be any") from None


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
