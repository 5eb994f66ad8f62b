"""A correction as a fixed number of numbers, for a network to regress: where it has led to by each quarter.

Corrections have 1 to 24 actions. Their way, with the stops that it makes (rise, go across, come down), is
kept to what it has come to after each quarter of its steps, and how many steps there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from failsafe.models.contract import MAX_ACTIONS, MAX_ROTATION, MAX_TRANSLATION
from failsafe.records import poses

QUARTERS = 4
SIZE = QUARTERS * 7 + 1
"""Per quarter: displacement so far (3), rotation vector so far (3), gripper; at the end: steps."""
_METRES, _RADIANS, _STEPS = 0.1, 0.5, 10.0
"""What the numbers are divided by, so that they are about one."""


def encode(actions: Sequence[Sequence[float]]) -> Float32[np.ndarray, "29"]:
    """The numbers that stand for 1..K actions `[dx, dy, dz, rx, ry, rz, gripper]` (m, rad, base frame)."""
    path = _path(actions)
    numbers: list[float] = []
    for quarter in range(1, QUARTERS + 1):
        step = math.ceil(quarter * len(actions) / QUARTERS)
        delta = poses.delta_between(poses.IDENTITY, path[step])
        numbers += [*(delta[:3] / _METRES).tolist(), *(delta[3:] / _RADIANS).tolist(), actions[step - 1][6]]
    return np.array([*numbers, len(actions) / _STEPS], dtype=np.float32)


def encode_continuation(continuation: Float32[np.ndarray, "N A 7"]) -> Float32[np.ndarray, "N 29"]:
    """The same numbers for what the expert did next, as `SampleSet.continuation` has it.

    The gripper of a quarter is that of its beginning: fingers that close a step or two late still close on
    the object, and those that close too early close above it.
    """
    n, steps, _ = continuation.shape
    ends = [math.ceil((quarter + 1) * steps / QUARTERS) for quarter in range(QUARTERS)]
    rows = np.concatenate(
        [continuation[:, [end - 1 for end in ends], :6], continuation[:, [0, *ends[:-1]], 6:]], axis=2
    )
    rows = rows / np.array([_METRES] * 3 + [_RADIANS] * 3 + [1.0])
    return np.concatenate([rows.reshape(n, -1), np.full((n, 1), steps / _STEPS)], axis=1).astype(np.float32)


def decode(numbers: Float32[np.ndarray, "29"]) -> tuple[tuple[float, ...], ...]:
    """The actions that the numbers stand for, each within the per-step limits; more of them if need be."""
    rows: list[tuple[float, ...]] = []
    wanted = min(max(round(float(numbers[-1]) * _STEPS), 1), MAX_ACTIONS)
    at, done = poses.IDENTITY, 0
    for quarter in range(QUARTERS):
        part = numbers[quarter * 7 : quarter * 7 + 7].astype(np.float64)
        target = poses.apply_delta(poses.IDENTITY, [*(part[:3] * _METRES), *(part[3:6] * _RADIANS)])
        share = math.ceil((quarter + 1) * wanted / QUARTERS) - done
        done += share
        if share == 0:  # a correction of fewer actions than quarters has some of them on top of each other
            continue
        steps = max(share, poses.steps_between(at, target, MAX_TRANSLATION, MAX_ROTATION))
        gripper = 1.0 if part[6] >= 0 else -1.0
        for pose in poses.interpolate(at, target, steps):
            rows.append((*poses.delta_between(at, pose).tolist(), gripper))
            at = pose
    return tuple(rows[:MAX_ACTIONS])


def _path(actions: Sequence[Sequence[float]]) -> list[poses.Pose]:
    path: list[poses.Pose] = [poses.IDENTITY]
    for row in actions:
        path.append(poses.apply_delta(path[-1], row[:6]))
    return path


def describe(actions: Sequence[Sequence[float]]) -> str:
    """What a correction comes to, in words: "move 42 mm (x -38, y +10, z -15), turn 3 degrees"."""
    pose = poses.IDENTITY
    for row in actions:
        pose = poses.apply_delta(pose, row[:6])
    delta = poses.delta_between(poses.IDENTITY, pose)
    x, y, z = (1000 * delta[:3]).tolist()
    turn = math.degrees(float(np.linalg.norm(delta[3:])))
    grip = "open" if actions[-1][6] > 0 else "closed"
    return (
        f"move {math.hypot(x, y, z):.0f} mm (x {x:+.0f}, y {y:+.0f}, z {z:+.0f}), turn {turn:.0f} degrees, "
        f"gripper {grip}, in {len(actions)} steps"
    )
