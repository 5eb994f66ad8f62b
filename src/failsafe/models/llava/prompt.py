"""What the model is asked: pictures first, then the task, what they show, and the proprioception, in text."""

from __future__ import annotations

import numpy as np
from PIL import Image

from failsafe.models.contract import MAX_ACTIONS
from failsafe.records.assessment import Window, WindowSpec

PROMPT_VERSION = 1
"""Counts up with every change to the prompt or the answer: a checkpoint only understands its own."""

_QUESTION = f"""\
Does the task fail unless somebody corrects it? Answer in JSON: failing (yes or no); stage (the current \
sub-task); mode (the kind of failure, or none); actions (the correction, rows of steps, dx, dy, dz in 0.1 \
mm, rx, ry, rz in 0.1 mrad, gripper from -100 closed to 100 open; at most {MAX_ACTIONS} steps; empty if none \
helps)."""


def prompt_text(window: Window) -> str:
    """The question in words, without the pictures.

    It holds neither the window's name nor a count of steps since the beginning: both would give the answer
    away. Lengths are in 0.1 mm, as in the answer. A quaternion and its negative are the same turn; the one
    whose greatest component is positive is written, so that a tool that points down has numbers that do not
    jump.
    """
    rows = (
        " ".join(str(value) for value in _row(pose, width))
        for pose, width in zip(window.tcp_poses, window.gripper_widths, strict=True)
    )
    poses = "\n".join(rows)
    # Whatever has angle brackets could stand for a picture, or for the end of the chat.
    task = " ".join(window.instruction.replace("<", "(").replace(">", ")").split())
    return (
        f"A robot arm at work. Its task: {task}\n"
        f"Pictures: {_legend(window.spec)}.\n"
        f"Tool at the last {window.spec.history} steps and now, one a line: position x y z in 0.1 mm, "
        f"quaternion w x y z in 0.001, opening in 0.1 mm.\n{poses}\n{_QUESTION}"
    )


def pictures(window: Window) -> list[Image.Image]:
    """The pictures in the order in which the prompt names them: view by view, the oldest first."""
    return [Image.fromarray(frame) for view in window.frames for frame in view]


def messages(window: Window) -> list[dict[str, object]]:
    """The question as a chat with one message; pictures are placeholders, in the order of `pictures`."""
    count = len(window.spec.views) * window.spec.frames
    content: list[dict[str, str]] = [{"type": "image"}] * count + [
        {"type": "text", "text": prompt_text(window)}
    ]
    return [{"role": "user", "content": content}]


def _legend(spec: WindowSpec) -> str:
    moments = ["now" if step == 0 else f"{-step} steps ago" for step in spec.offsets]
    return "; ".join(f"{view} camera {', '.join(moments)}" for view in spec.views)


def _row(pose: np.ndarray, width: np.floating) -> list[int]:
    turn = pose[3:] if pose[3:][np.argmax(np.abs(pose[3:]))] >= 0 else -pose[3:]
    return [
        *(round(float(x) * 10_000) for x in pose[:3]),
        *(round(float(x) * 1000) for x in turn),
        round(float(width) * 10_000),
    ]
