"""A rollout as data: the commands and the simulator state of every control step.

A trace holds no frames. Frames are rendered from its states, from any camera.
"""

from __future__ import annotations

import functools
import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int16

from failsafe.errors import RecordError
from failsafe.records.arrays import check_array


@dataclass(frozen=True)
class Disturbance:
    """An external influence on one object during one control step.

    Attributes:
        object: Name of the object.
        velocity: `[vx, vy, vz, wx, wy, wz]` imposed on the object (m/s, rad/s, robot base frame); None: not
            imposed.
        friction: Friction coefficient between the object and the gripper; None: unchanged.
        with_tool: Whether the velocity is relative to the tool, which carries the object along.
    """

    object: str
    velocity: tuple[float, ...] | None = None
    friction: float | None = None
    with_tool: bool = False


@dataclass(frozen=True)
class Trace:
    """One rollout of T control steps.

    Attributes:
        commands: Native command of every step. Replaying them is exact. [T, D]
        targets: Commanded tool pose of every step, robot base frame (m, quaternion wxyz). [T, 7]
        gripper_commands: Commanded gripper of every step, -1 closed to +1 open. [T]
        stages: Index of the stage executed in every step. [T]
        tcp_poses: Tool pose before every step and after the last, robot base frame. [T+1, 7]
        gripper_widths: Measured gripper opening, metres. [T+1]
        objects: Poses of the episode's objects, robot base frame. [T+1, N, 7]
        states: Complete simulator state, in the simulator's own layout. [T+1, S]
        disturbances: External influences as (step, disturbance), in the order of the steps.
    """

    commands: Float32[np.ndarray, "T D"]
    targets: Float32[np.ndarray, "T 7"]
    gripper_commands: Float32[np.ndarray, "T"]
    stages: Int16[np.ndarray, "T"]
    tcp_poses: Float32[np.ndarray, "T1 7"]
    gripper_widths: Float32[np.ndarray, "T1"]
    objects: Float32[np.ndarray, "T1 N 7"]
    states: Float32[np.ndarray, "T1 S"]
    disturbances: tuple[tuple[int, Disturbance], ...] = ()

    def __len__(self) -> int:
        """Return the number of control steps."""
        return len(self.commands)

    def disturbances_at(self, step: int) -> list[Disturbance]:
        """Return the disturbances of one step."""
        return [d for at, d in self.disturbances if at == step]

    def same_states(self, other: Trace) -> bool:
        """Return whether both traces have the same states, bit for bit."""
        return self.states.shape == other.states.shape and self.states.tobytes() == other.states.tobytes()


LARGEST_EXPANDED = 1 << 27
"""Largest size of all arrays of a file, bytes (128 MiB). A case of 500 steps has some megabytes."""
MOST_ARRAYS = 4096
_SIZES_OF_LENGTH = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
"""Bytes in which an array's file states the length of its header, by the format's version."""
_DISTURBANCE_COLUMNS = 9
"""Step, six velocities, friction, `with_tool`."""
_ARRAYS: Mapping[str, tuple[int | None, ...]] = {
    "commands": (None,),
    "targets": (7,),
    "gripper_commands": (),
    "stages": (),
    "tcp_poses": (7,),
    "gripper_widths": (),
    "objects": (None, 7),
    "states": (None,),
}
"""The arrays of a trace, and their axes after the first one; None: of any length."""
_STATES = ("tcp_poses", "gripper_widths", "objects", "states")
"""Those with a row before every step and after the last one."""


def trace_to_arrays(trace: Trace, prefix: str = "") -> dict[str, np.ndarray]:
    """Convert a trace to named arrays for an `.npz` file.

    Args:
        trace: The trace.
        prefix: Prefix of the names of the arrays.
    """
    arrays: dict[str, np.ndarray] = {prefix + name: getattr(trace, name) for name in _ARRAYS}
    rows = [
        [step, *(d.velocity or [np.nan] * 6), np.nan if d.friction is None else d.friction, d.with_tool]
        for step, d in trace.disturbances
    ]
    arrays[prefix + "disturbances"] = np.array(rows, dtype=np.float64).reshape(
        len(rows), _DISTURBANCE_COLUMNS
    )
    arrays[prefix + "disturbed"] = np.array([d.object for _, d in trace.disturbances], dtype="U64")
    return arrays


def trace_from_arrays(arrays: dict[str, np.ndarray], prefix: str = "") -> Trace:
    """Convert the arrays of `trace_to_arrays` back to a trace.

    Args:
        arrays: The arrays.
        prefix: Prefix of the names of the arrays.

    Raises:
        RecordError: If an array is missing, or has a shape or type that no rollout has.
    """
    missing = [n for n in (*_ARRAYS, "disturbances", "disturbed") if prefix + n not in arrays]
    if missing:
        raise RecordError(f"expected a trace, but these arrays are missing: {', '.join(missing)}")
    _check_shapes(arrays, prefix)
    rows, names = arrays[prefix + "disturbances"], arrays[prefix + "disturbed"]
    plain = rows.ndim == 2 and rows.dtype.kind == "f" and names.ndim == 1 and names.dtype.kind == "U"
    if not plain or rows.shape[1] != _DISTURBANCE_COLUMNS or len(rows) != len(names):
        raise RecordError(
            f"expected disturbances of {_DISTURBANCE_COLUMNS} numbers each, got an array of shape "
            f"{rows.shape}; generate the dataset again with this version"
        )
    last = len(arrays[prefix + "commands"])
    if not ((rows[:, 0] >= 0) & (rows[:, 0] <= last)).all():
        raise RecordError(f"expected disturbances in the control steps 0 to {last}, got others")
    for name in names:
        if not str(name).isprintable():
            raise RecordError(f"expected the names of disturbed objects as text, got {str(name)!r:.80}")
    disturbances = tuple(
        (
            int(row[0]),
            Disturbance(
                object=str(name),
                velocity=None if np.isnan(row[1]) else tuple(float(v) for v in row[1:7]),
                friction=None if np.isnan(row[7]) else float(row[7]),
                with_tool=bool(row[8]),
            ),
        )
        for row, name in zip(rows, names, strict=True)
    )
    return Trace(**{name: arrays[prefix + name] for name in _ARRAYS}, disturbances=disturbances)


def _check_shapes(arrays: dict[str, np.ndarray], prefix: str) -> None:
    """Refuse arrays that do not fit each other: T steps are between T + 1 states."""
    found = {name: arrays[prefix + name] for name in _ARRAYS}
    steps = len(found["commands"]) if found["commands"].ndim else 0
    for name, tail in _ARRAYS.items():
        shape = (steps + (name in _STATES), *tail)
        check_array(found, name, shape, np.int16 if name == "stages" else np.float32, prefix or "rollout")


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """Return named arrays as the bytes of a compressed `.npz`; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def unpack(data: bytes, where: str) -> dict[str, np.ndarray]:
    """Read the bytes that `pack` wrote. Never unpickles.

    Args:
        data: The bytes.
        where: Name of the file, for error messages.

    Raises:
        RecordError: If the bytes are not an archive of arrays.
    """
    try:
        if not data.startswith(b"PK"):
            raise RecordError(f"{where}: expected an .npz archive of arrays, got another kind of file")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _check_sizes(infos, where)
            return {info.filename.removesuffix(".npy"): _read_array(archive, info, where) for info in infos}
    except (ValueError, OSError, EOFError, KeyError, RuntimeError, MemoryError, zlib.error) as error:
        # RuntimeError: an encrypted archive, or a compression that zipfile does not know
        raise RecordError(
            f"{where}: expected an .npz archive of arrays, got a damaged file ({error})"
        ) from error
    except zipfile.BadZipFile as error:
        raise RecordError(f"{where}: expected an .npz archive, got a damaged file ({error})") from error


def _check_sizes(infos: Sequence[zipfile.ZipInfo], where: str) -> None:
    """Refuse an archive that would expand to more than a record ever has, before anything is expanded."""
    expanded = sum(info.file_size for info in infos)
    if len(infos) > MOST_ARRAYS or expanded > LARGEST_EXPANDED:
        raise RecordError(
            f"{where}: expected at most {MOST_ARRAYS} arrays of {LARGEST_EXPANDED >> 20} MiB in all, got "
            f"{len(infos)} of {expanded >> 20} MiB"
        )


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> np.ndarray:
    """Read an array as `np.load` does. That parses each header anew, which takes most of its time."""
    with archive.open(info) as file:
        content = file.read(info.file_size)  # with its limit: without one, all that is there is expanded
    size = _SIZES_OF_LENGTH.get(content[6:8], 2)
    start = 8 + size + int.from_bytes(content[8 : 8 + size], "little")
    try:
        shape, fortran_order, dtype = _read_header(content[:start])
    except ValueError as error:
        raise ValueError(f"{info.filename}: {error}") from error
    count = math.prod(shape)
    if count * max(dtype.itemsize, 1) > info.file_size:
        raise RecordError(
            f"{where}: expected an array of {info.file_size} bytes in {info.filename}, got the shape "
            f"{shape!s:.80} of {dtype}"
        )
    if not count * dtype.itemsize:
        return np.zeros(shape, dtype)
    array = np.frombuffer(content, dtype, count, start).copy()
    return array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)


@functools.lru_cache(maxsize=1024)
def _read_header(start: bytes) -> tuple[tuple[int, ...], bool, Any]:
    """Return shape, order and type of the array whose file starts with these bytes."""
    formats, file = np.lib.format, io.BytesIO(start)
    version = formats.read_magic(file)
    read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
    try:
        shape, fortran_order, dtype = read(file)
    except (SyntaxError, tokenize.TokenError, RecursionError, TypeError) as error:
        raise ValueError("its header is unreadable") from error
    if dtype.hasobject:
        raise ValueError("it holds objects, which are never loaded")
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"expected lengths of at least 0, got the shape {shape!s:.80}")
    return shape, fortran_order, dtype
