"""What a policy and a monitor see of one control step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from failsafe.records.poses import Pose


@dataclass(frozen=True)
class PolicyObservation:
    """Sensor readings before one action.

    Attributes:
        images: RGB pictures by view. A mapping that renders a view only when it is asked for is allowed.
        tcp_pose: Measured tool pose, robot base frame. [7]
        target_pose: Tool pose commanded last, robot base frame; the measured one at the beginning. [7]
        gripper_width: Measured opening of the gripper, metres.
    """

    images: Mapping[str, UInt8[np.ndarray, "H W 3"]]
    tcp_pose: Pose
    target_pose: Pose
    gripper_width: float
