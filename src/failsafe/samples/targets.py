"""Imitation targets computed from a trace: chunks of future commands, and keyframes."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64

from failsafe.records import poses
from failsafe.records.trace import Trace

ACTION_NUMBERS = 7
"""Displacement (3, m) and rotation vector (3, rad) from the measured tool pose, base frame; gripper."""


def chunk_targets(trace: Trace, step: int, chunk: int) -> Float32[np.ndarray, "H 7"]:
    """Return where the next commands lead, relative to the tool pose measured at a step.

    After the end of the rollout the last command is repeated.

    Args:
        trace: The rollout.
        step: Control step.
        chunk: Number of commands H.

    Returns:
        Displacement (m), rotation vector (rad) and gripper command of each, base frame.
    """
    measured = trace.tcp_poses[step].astype(np.float64)
    rows: list[list[float]] = []
    for at in range(step, step + chunk):
        last = min(at, len(trace) - 1)
        delta = poses.delta_between(measured, trace.targets[last].astype(np.float64))
        rows.append([*delta.tolist(), float(trace.gripper_commands[last])])
    return np.array(rows, dtype=np.float32)


class KeyframeIndex(NamedTuple):
    """The keyframes of an episode: the steps at which the gripper command changes, and the last step.

    Definition of James and Davison 2022, "Q-attention".

    Attributes:
        rows: Row of each keyframe.
        following: Index of the next keyframe at each row. A keyframe is passed once the fingers have done
            half of their travel, because the command itself is not observable.
        commanded: Whether the gripper command of the next keyframe has been given already, at each row.
    """

    rows: Int64[np.ndarray, "K"]
    following: Int64[np.ndarray, "N"]
    commanded: Bool[np.ndarray, "N"]


def find_keyframes(gripper: Float32[np.ndarray, "N"], widths: Float32[np.ndarray, "N"]) -> KeyframeIndex:
    """Find the keyframes of an episode.

    Args:
        gripper: Gripper command at each row, positive to open.
        widths: Measured gripper opening at each row, metres.
    """
    last = len(gripper) - 1
    changes = np.flatnonzero(np.diff(np.sign(gripper))) + 1
    commanded = np.zeros(len(gripper), dtype=bool)
    passed: list[int] = []
    for first, until in pairwise([*changes.tolist(), last + 1]):
        travel = np.abs(widths[first:until] - widths[first - 1])
        passed.append(first + int(np.argmax(travel >= 0.5 * travel[-1])))
        commanded[first : passed[-1]] = True
    following = np.searchsorted(np.array(passed, dtype=np.int64), np.arange(len(gripper)), side="right")
    return KeyframeIndex(np.append(changes, last), following, commanded)
