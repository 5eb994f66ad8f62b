"""The observation of a policy and a monitor in one control step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from failsafe.records.poses import Pose


@dataclass(frozen=True)
class PolicyObservation:
    """Sensor readings before one action.

    Attributes:
        images: RGB images by view. The mapping may render a view on first access.
        tcp_pose: Measured tool pose, robot base frame. [7]
        target_pose: Last commanded tool pose, robot base frame; at the beginning the measured pose. [7]
        gripper_width: Measured gripper opening, metres.
        readings: What the suite's own observations say about the robot, by the suite's names and in its
            conventions; empty where the simulator states none. Each [n]
    """

    images: Mapping[str, UInt8[np.ndarray, "H W 3"]]
    tcp_pose: Pose
    target_pose: Pose
    gripper_width: float
    readings: Mapping[str, Float[np.ndarray, "n"]] = field(default_factory=dict[str, np.ndarray])
