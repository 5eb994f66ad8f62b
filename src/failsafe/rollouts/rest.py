"""Detection of rest: tool, fingers and objects have stopped moving."""

from __future__ import annotations

import numpy as np

from failsafe.records import poses
from failsafe.simulators.contract import Observation

REST_SECONDS = 0.15
"""How long everything has to be slow before it counts as at rest."""
REST_SPEED = 0.01
"""m/s below which tool, fingers and objects count as slow."""
REST_TURN_SPEED = 0.02
"""rad/s below which tool and objects count as slow."""


class RestDetector:
    """Detects that nothing has moved for a while.

    Args:
        control_hz: Control steps per second.
    """

    def __init__(self, control_hz: float) -> None:
        self._metres, self._radians = REST_SPEED / control_hz, REST_TURN_SPEED / control_hz
        self._needed = max(1, round(REST_SECONDS * control_hz))
        self._still = 0

    def update(self, before: Observation, after: Observation) -> bool:
        """Take note of one control step, and return whether everything is at rest.

        Args:
            before: Ground truth before the step.
            after: Ground truth after the step.
        """
        moved = abs(after.gripper_width - before.gripper_width) > self._metres
        moved = moved or self._moved(before.tcp_pose, after.tcp_pose)
        moved = moved or any(map(self._moved, before.objects, after.objects))
        self._still = 0 if moved else self._still + 1
        return self._still >= self._needed

    def _moved(self, before: np.ndarray, after: np.ndarray) -> bool:
        metres, radians = poses.distance(before, after)
        return metres > self._metres or radians > self._radians
