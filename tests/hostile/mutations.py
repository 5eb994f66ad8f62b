"""Mutations of valid data: JSON values, arrays by name, and bytes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from hypothesis import strategies as st


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 10**9, -(10**9), 2**63, 10**400, 0.0, -0.5, 0.5, 1e-300, 1e9, 1e149),
    *(1e308, -1e308, float("nan"), float("inf"), -float("inf")),
    *("", "x", "..", "../../outside/x", "/tmp/x", "a\0b", "\x1b[2J", "\ud800", "\u2028", "x" * 300, "é", "1"),
    *("evil:make", "</script><script>", "%s%n{0}", "nan"),
    *([], {}, [[]], [{}], {"a": 1}, {"": None}, [1, 2], [0.0] * 7, ["x"] * 3, [None] * 50, _nested(60)),
)
"""What takes the place of a part of a JSON value."""
Path = tuple[Any, ...]


def _paths(value: Any, at: Path = (), most: int = 400) -> list[Path]:
    """Return the ways to the parts of a JSON value, the value itself included; few of long lists."""
    found = [at]
    if isinstance(value, dict):
        parts = list(cast(dict[str, Any], value).items())
    else:
        parts = list(enumerate(cast(list[Any], value)))[:3] if isinstance(value, list) else []
    for key, part in parts:
        if len(found) < most:
            found += _paths(part, (*at, key), most - len(found))
    return found


@st.composite
def plain_values(draw: st.DrawFn, valid: Any) -> Any:
    """A JSON value in which up to three parts were replaced, removed, doubled, or given another name."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        paths = _paths(value)
        *before, last = paths[draw(st.integers(0, len(paths) - 1))] or (None,)
        if last is None:
            return draw(st.sampled_from(VALUES)) if draw(st.integers(0, 9)) == 0 else value
        part = value
        for key in before:
            part = part[key]
        match draw(st.integers(0, 7)):
            case 0:
                del part[last]
            case 1 if isinstance(part, dict):
                part[draw(st.sampled_from(["", "../x", "x" * 300, "\x1b", "other"]))] = part.pop(last)
            case 1 | 2 if isinstance(part, list):
                part += copy.deepcopy(part[-1:] * draw(st.sampled_from([1, 5, 200])))
            case 3 if isinstance(part[last], (int, float)) and not isinstance(part[last], bool):
                part[last] = part[last] * draw(st.sampled_from([-1, 1000, 10**6, 0.5])) + 1
            case _:
                part[last] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return value


_TYPES = (
    "float64",
    "float32",
    "float16",
    "int64",
    "uint8",
    "int16",
    "bool",
    "complex64",
    ">f4",
    "U4",
    "S3",
    "M8[s]",
)


@st.composite
def array_maps(draw: st.DrawFn, valid: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by name of which up to two have another shape, type, name or other numbers, or are missing."""
    arrays = dict(valid)
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(arrays) or ["none"]))
        array = arrays.get(name, np.zeros(3))
        match draw(st.integers(0, 9)):
            case 0:
                arrays.pop(name, None)
            case 1:
                arrays[f"{name}x"] = array
            case 2:
                arrays[name] = array[: draw(st.sampled_from([0, 1, -1]))] if array.ndim else array
            case 3:
                arrays[name] = array[..., None] if draw(st.booleans()) else array.reshape(-1)
            case 4:
                arrays[name] = np.zeros(
                    draw(st.sampled_from([(), (0,), (0, 7), (3, 0, 7), (10**6,)])), array.dtype
                )
            case 5:
                with np.errstate(all="ignore"):
                    wanted = np.dtype(draw(st.sampled_from(_TYPES)))
                    arrays[name] = (
                        np.zeros(array.shape, wanted) if wanted.kind in "USM" else array.astype(wanted)
                    )
            case 6:
                arrays[name] = np.concatenate([array, array]) if array.ndim else array
            case _:
                changed = array.copy()
                if changed.size and changed.dtype.kind in "fiu":
                    numbers = (
                        [np.nan, np.inf, -np.inf, 1e30, -1.0, 1e9]
                        if changed.dtype.kind == "f"
                        else [0, 1, 100]
                    )
                    at = draw(st.integers(0, changed.size - 1)) if draw(st.booleans()) else slice(None)
                    changed.reshape(-1)[at] = draw(st.sampled_from(numbers))
                arrays[name] = changed
    return arrays


@st.composite
def byte_strings(draw: st.DrawFn, valid: bytes) -> bytes:
    """Bytes of which some were changed, cut off, doubled or put in."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        # Headers are at the beginning or at the end.
        near = draw(st.integers(0, min(300, len(data))))
        at = draw(st.sampled_from([near, len(data) - near, draw(st.integers(0, len(data)))]))
        match draw(st.integers(0, 5)):
            case 0:
                del data[at:]
            case 1:
                data[at:at] = draw(st.binary(max_size=12))
            case 2:
                data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"]))
            case 3:
                data += data[-at:]
            case _:
                if at < len(data):
                    data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)
