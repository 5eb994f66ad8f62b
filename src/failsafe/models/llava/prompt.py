"""The prompt: images first, then the task, a legend of the images, and the proprioception as text."""

from __future__ import annotations

import numpy as np
from PIL import Image

from failsafe.models.contract import MAX_ACTIONS
from failsafe.records.assessment import Window, WindowSpec

PROMPT_VERSION = 1
"""Incremented with every change of prompt or answer: a checkpoint works with its own version only."""

_QUESTION = f"""\
Does the task fail unless somebody corrects it? Answer in JSON: failing (yes or no); stage (the current \
sub-task); mode (the kind of failure, or none); actions (the correction, rows of steps, dx, dy, dz in 0.1 \
mm, rx, ry, rz in 0.1 mrad, gripper from -100 closed to 100 open; at most {MAX_ACTIONS} steps; empty if none \
helps)."""


def prompt_text(window: Window) -> str:
    """Write the text of the prompt.

    The text contains neither the window's name nor the step count, since both reveal the answer. Lengths are
    in 0.1 mm, as in the answer. Of the two quaternions of a rotation, the one with a positive largest
    component is written, so that the numbers of a tool that points down do not jump.
    """
    rows = (
        " ".join(str(value) for value in _row(pose, width))
        for pose, width in zip(window.tcp_poses, window.gripper_widths, strict=True)
    )
    poses = "\n".join(rows)
    # Angle brackets could be read as special tokens (an image, the end of the chat).
    task = " ".join(window.instruction.replace("<", "(").replace(">", ")").split())
    return (
        f"A robot arm at work. Its task: {task}\n"
        f"Pictures: {_legend(window.spec)}.\n"
        f"Tool at the last {window.spec.history} steps and now, one a line: position x y z in 0.1 mm, "
        f"quaternion w x y z in 0.001, opening in 0.1 mm.\n{poses}\n{_QUESTION}"
    )


def window_images(window: Window) -> list[Image.Image]:
    """Return the images in the order of the prompt: view by view, the oldest first."""
    return [Image.fromarray(frame) for view in window.frames for frame in view]


def messages(window: Window) -> list[dict[str, object]]:
    """Return the prompt as a chat with one message and placeholders for the images of `window_images`."""
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
