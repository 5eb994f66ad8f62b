"""Encode a correction as a fixed number of values that a network can regress.

A correction has 1 to 24 actions. Its path, with the stops on the way (rise, move across, descend), is encoded
as the pose reached after each quarter of its steps, plus the number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from failsafe.models.contract import MAX_ACTIONS
from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec

QUARTERS = 4
SIZE = QUARTERS * 7 + 1
"""Per quarter: displacement so far (3), rotation vector so far (3), gripper; at the end: number of steps."""
_STEPS_PER_UNIT = 4.0
"""Displacements and rotations are divided by what the robot covers in this many steps at its limits."""
_SECONDS_PER_UNIT = 0.5
"""Durations are divided by this."""


def encode(actions: Sequence[Sequence[float]], embodiment: EmbodimentSpec) -> Float32[np.ndarray, "29"]:
    """Encode a correction.

    Args:
        actions: 1..K rows `[dx, dy, dz, rx, ry, rz, gripper]` (m, rad, base frame).
        embodiment: The robot, whose step limits scale the values to about one.
    """
    path, scale = _path(actions), _scale(embodiment)
    numbers: list[float] = []
    for quarter in range(1, QUARTERS + 1):
        step = math.ceil(quarter * len(actions) / QUARTERS)
        delta = poses.delta_between(poses.IDENTITY, path[step])
        numbers += [*(delta / scale).tolist(), actions[step - 1][6]]
    return np.array([*numbers, len(actions) / _steps(embodiment)], dtype=np.float32)


def encode_continuation(
    targets: Float32[np.ndarray, "N A 7"], embodiment: EmbodimentSpec
) -> Float32[np.ndarray, "N 29"]:
    """Encode what the expert did next, in the form of `encode`.

    The gripper command of a quarter is the one at its beginning: fingers that close a step or two late still
    close on the object; fingers that close too early close above it.

    Args:
        targets: Targets of the next A commands, as in `SampleSet.continuation`.
        embodiment: The robot, whose step limits scale the values to about one.
    """
    n, steps, _ = targets.shape
    ends = [math.ceil((quarter + 1) * steps / QUARTERS) for quarter in range(QUARTERS)]
    rows = np.concatenate(
        [targets[:, [end - 1 for end in ends], :6], targets[:, [0, *ends[:-1]], 6:]], axis=2
    )
    rows = rows / np.array([*_scale(embodiment), 1.0])
    duration = np.full((n, 1), steps / _steps(embodiment))
    return np.concatenate([rows.reshape(n, -1), duration], axis=1).astype(np.float32)


def decode(numbers: Float32[np.ndarray, "29"], embodiment: EmbodimentSpec) -> tuple[tuple[float, ...], ...]:
    """Decode a correction. A path that needs more steps to stay within the step limits gets more.

    Args:
        numbers: The values from `encode`.
        embodiment: The robot, whose step limits every action respects.

    Returns:
        1 to `MAX_ACTIONS` actions.
    """
    rows: list[tuple[float, ...]] = []
    wanted = min(max(round(float(numbers[-1]) * _steps(embodiment)), 1), MAX_ACTIONS)
    at, done, scale = poses.IDENTITY, 0, _scale(embodiment)
    for quarter in range(QUARTERS):
        part = numbers[quarter * 7 : quarter * 7 + 7].astype(np.float64)
        target = poses.apply_delta(poses.IDENTITY, part[:6] * scale)
        share = math.ceil((quarter + 1) * wanted / QUARTERS) - done
        done += share
        if share == 0:  # with fewer actions than quarters, some quarters coincide
            continue
        steps = max(share, poses.steps_between(at, target, *embodiment.step_limits))
        gripper = 1.0 if part[6] >= 0 else -1.0
        for pose in poses.interpolate(at, target, steps):
            rows.append((*poses.delta_between(at, pose).tolist(), gripper))
            at = pose
    return tuple(rows[:MAX_ACTIONS])


def describe(actions: Sequence[Sequence[float]]) -> str:
    """Describe a correction in words: "move 42 mm (x -38, y +10, z -15), turn 3 degrees, ..."."""
    pose = _path(actions)[-1]
    delta = poses.delta_between(poses.IDENTITY, pose)
    x, y, z = (1000 * delta[:3]).tolist()
    turn = math.degrees(float(np.linalg.norm(delta[3:])))
    grip = "open" if actions[-1][6] > 0 else "closed"
    return (
        f"move {math.hypot(x, y, z):.0f} mm (x {x:+.0f}, y {y:+.0f}, z {z:+.0f}), turn {turn:.0f} degrees, "
        f"gripper {grip}, in {len(actions)} steps"
    )


def _scale(embodiment: EmbodimentSpec) -> np.ndarray:
    """Metres (3) and radians (3) that are 1 in the encoding."""
    metres, radians = (_STEPS_PER_UNIT * limit for limit in embodiment.step_limits)
    return np.array([metres] * 3 + [radians] * 3)


def _steps(embodiment: EmbodimentSpec) -> float:
    """Control steps that are 1 in the encoding."""
    return _SECONDS_PER_UNIT * embodiment.control_hz


def _path(actions: Sequence[Sequence[float]]) -> list[poses.Pose]:
    path: list[poses.Pose] = [poses.IDENTITY]
    for row in actions:
        path.append(poses.apply_delta(path[-1], row[:6]))
    return path
