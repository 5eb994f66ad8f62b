"""Scaling of proprioception to numbers of about one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from failsafe.records.embodiment import EmbodimentSpec

_POSITION_RANGE = 3.0
"""Scaled position at the far edge of the workspace."""
_WIDTH_RANGE = 1.6
"""Scaled opening of a gripper that is fully open."""


@dataclass(frozen=True)
class Normalization:
    """How a network's tool positions and gripper openings are scaled. Part of a checkpoint.

    Attributes:
        origin: Tool position that becomes 0, robot base frame, metres.
        position_scale: Factor on tool positions relative to the origin, 1/m.
        width_scale: Factor on the gripper opening, 1/m.
    """

    origin: tuple[float, float, float]
    position_scale: float
    width_scale: float

    @classmethod
    def of(cls, embodiment: EmbodimentSpec) -> Normalization:
        """Derive the scaling from the workspace and the gripper of a robot."""
        low, high = np.array(embodiment.workspace_low), np.array(embodiment.workspace_high)
        x, y, z = embodiment.work_center or ((low + high) / 2).tolist()
        return cls(
            origin=(x, y, z),
            position_scale=_POSITION_RANGE / float(((high - low) / 2).max()),
            width_scale=_WIDTH_RANGE / embodiment.gripper_travel if embodiment.gripper_travel > 0 else 0.0,
        )

    def position(self, position: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3"]:
        """Scale positions (metres, robot base frame)."""
        return (position - np.array(self.origin)) * self.position_scale
