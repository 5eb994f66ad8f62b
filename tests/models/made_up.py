"""Made-up samples and windows: a tool that goes down a nominal line, and one that has left it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from failsafe.records.assessment import Window, WindowSpec
from failsafe.samples.sample import Kind, Sample

SPEC = WindowSpec(views=("front", "hand"), history=4, frames=2, size=8)
LIFT = "lift the cube"
DOWN = (0.0, 1.0, 0.0, 0.0)
OPEN, CLOSED = 0.08, 0.04


def sample(name: str, failing: bool = False, **changes: Any) -> Sample:
    """A sample of seed 0; one that is failing has a cause and a correction of 20 mm along x."""
    made = Sample(
        name=name,
        source=0,
        task="Pick-v0",
        seed=0,
        split="train",
        rollout="failing" if failing else "nominal",
        case_id="case" if failing else "",
        step=10,
        kind=Kind.JUST_AFTER if failing else Kind.NOMINAL,
        instruction=LIFT,
        stage="reach",
        failing=failing,
        mode="translation_x" if failing else "",
        delay=3 if failing else None,
        actions=((0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),) if failing else (),
        recoverable=True if failing else None,
    )
    return replace(made, **changes)


def window(
    positions: Sequence[Sequence[float]] | None = None,
    width: float = OPEN,
    quaternion: Sequence[float] = DOWN,
    name: str = "",
    instruction: str = LIFT,
    brightness: int = 128,
) -> Window:
    """A window whose tool was at the given positions [5, 3], the last of them now."""
    at = np.array(positions if positions is not None else [[0.4, 0.0, 0.3]] * (SPEC.history + 1))
    tcp_poses = np.concatenate([at, np.tile(quaternion, (len(at), 1))], axis=1).astype(np.float32)
    shape = (len(SPEC.views), SPEC.frames, SPEC.size, SPEC.size, 3)
    frames = np.full(shape, brightness, dtype=np.uint8)
    return Window(instruction, SPEC, frames, tcp_poses, np.full(len(at), width, dtype=np.float32), name)


def line(height: float, beside: float = 0.0) -> list[list[float]]:
    """Going straight down at 10 mm a step, to a height above the table (m), so far beside the line (m)."""
    return [[0.4 + beside, 0.0, height + 0.01 * step] for step in range(SPEC.history, -1, -1)]
