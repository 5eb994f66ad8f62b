"""A rollout as data: commands, and what the simulator's state was at every control step.

Frames are not part of it: they are rendered from it, whenever and from wherever they are needed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16

from failsafe.errors import RecordError


@dataclass(frozen=True)
class Disturbance:
    """What the world does to one object for the length of one control step.

    Attributes:
        object: Name of the object.
        velocity: `[vx, vy, vz, wx, wy, wz]` (m/s, rad/s, robot base frame) that the object is forced to move
            with, or None to leave it to the physics.
        friction: Friction coefficient between this object and the gripper, or None to leave it as it is.
        with_tool: Whether the velocity comes on top of the tool's own motion, which carries the object along.
    """

    object: str
    velocity: tuple[float, ...] | None = None
    friction: float | None = None
    with_tool: bool = False


@dataclass(frozen=True)
class Trace:
    """One rollout of T control steps.

    Attributes:
        commands: The simulator's native command of every step, from which a replay is exact. [T, D]
        targets: Commanded tool pose of every step, robot base frame (m, quaternion wxyz). [T, 7]
        gripper_commands: Commanded gripper of every step, -1 closed to +1 open. [T]
        stages: Index of the stage of the plan being executed in every step. [T]
        tcp_poses: Tool pose before every step and after the last, robot base frame. [T+1, 7]
        gripper_widths: Opening of the gripper in metres. [T+1]
        objects: Poses of the objects that the simulator's spec names, robot base frame. [T+1, N, 7]
        states: The simulator's whole state, in its own layout. [T+1, S]
        disturbances: What the world did, as (step, disturbance), in the order of the steps.
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
        """Number of control steps."""
        return len(self.commands)

    def disturbances_at(self, step: int) -> list[Disturbance]:
        """What the world did in one step."""
        return [d for at, d in self.disturbances if at == step]

    def same_states(self, other: Trace) -> bool:
        """Whether both went through the same states, bit for bit."""
        return self.states.shape == other.states.shape and self.states.tobytes() == other.states.tobytes()


_DISTURBANCE_COLUMNS = 9
"""Step, six velocities, friction, whether they are the tool's."""
_ARRAYS = (
    "commands",
    "targets",
    "gripper_commands",
    "stages",
    "tcp_poses",
    "gripper_widths",
    "objects",
    "states",
)


def trace_to_arrays(trace: Trace, prefix: str = "") -> dict[str, np.ndarray]:
    """A trace as named arrays for an `.npz` file; disturbances become numbers and names."""
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
    """Read what `trace_to_arrays` made.

    Raises:
        RecordError: If an array is missing.
    """
    missing = [n for n in (*_ARRAYS, "disturbances", "disturbed") if prefix + n not in arrays]
    if missing:
        raise RecordError(f"expected a trace, but these arrays are missing: {', '.join(missing)}")
    rows, names = arrays[prefix + "disturbances"], arrays[prefix + "disturbed"]
    if rows.ndim != 2 or rows.shape[1] != _DISTURBANCE_COLUMNS or len(rows) != len(names):
        raise RecordError(
            f"expected disturbances of {_DISTURBANCE_COLUMNS} numbers each, got an array of shape "
            f"{rows.shape}; generate the dataset again with this version"
        )
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


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """Named arrays as the bytes of a compressed `.npz`; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def unpack(data: bytes, where: str) -> dict[str, np.ndarray]:
    """Read what `pack` wrote; never unpickles.

    Raises:
        RecordError: If the bytes are no such archive.
    """
    try:
        if not data.startswith(b"PK"):
            raise RecordError(f"{where}: expected an .npz archive of arrays, got another kind of file")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError) as error:
        raise RecordError(
            f"{where}: expected an .npz archive of arrays, got a damaged file ({error})"
        ) from error
    except Exception as error:
        if type(error).__name__ in ("BadZipFile", "error"):  # zipfile's and zlib's own
            raise RecordError(f"{where}: expected an .npz archive, got a damaged file ({error})") from error
        raise
