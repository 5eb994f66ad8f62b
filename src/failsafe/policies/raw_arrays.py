"""Arrays in messages: raw bytes with a dtype and a shape.

Messages are not trusted: only plain numbers are read, and only if bytes, dtype and shape agree.
"""

from __future__ import annotations

import math
import re
from typing import Any, cast

import numpy as np

MAX_BYTES = 64 * 2**20
"""Largest array in bytes: twenty RGB images of 1024x1024."""
_MAX_AXES = 8
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")


def dtype_of(array: np.ndarray | np.generic) -> str:
    """Return the name of a dtype, for example `<f4`.

    Raises:
        ValueError: If the elements are not plain numbers: objects, text, dates, records, complex numbers.
    """
    if not _DTYPE.fullmatch(array.dtype.str):
        raise ValueError(f"expected an array of plain numbers, got one of {array.dtype}")
    return array.dtype.str


def read_dtype(dtype: object) -> np.dtype[Any]:
    """Read a dtype; the inverse of `dtype_of`.

    Raises:
        ValueError: If it is not a dtype of plain numbers.
    """
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise ValueError(f"expected a dtype of plain numbers, such as '<f4', got {dtype!r:.40}")
    return np.dtype(dtype)


def read_array(data: bytes, dtype: object, shape: object) -> np.ndarray:
    """Read an array from raw bytes, as a writable copy.

    Args:
        data: Its elements in C order.
        dtype: Name of the dtype, as from `dtype_of`.
        shape: A list of lengths.

    Raises:
        ValueError: If the three do not agree, or the array is larger than `MAX_BYTES`.
    """
    kind = read_dtype(dtype)
    lengths = cast("list[object]", shape) if isinstance(shape, (list, tuple)) else [None]
    if len(lengths) > _MAX_AXES or not all(type(n) is int and n >= 0 for n in lengths):
        raise ValueError(f"expected a shape of at most {_MAX_AXES} lengths, got {shape!r:.80}")
    sizes = tuple(cast("list[int]", lengths))
    expected = math.prod(sizes) * kind.itemsize
    if len(data) != expected or expected > MAX_BYTES:
        raise ValueError(
            f"expected {expected} bytes, at most {MAX_BYTES}, for {sizes} of {kind.str}, got {len(data)}"
        )
    return np.ndarray(sizes, kind, data).copy()
