"""When to query the model: at regular intervals, and sooner when the tool stalls or reverses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from failsafe.errors import UserError
from failsafe.records.observation import PolicyObservation


@dataclass(frozen=True)
class QueryTiming:
    """When the model is queried.

    Attributes:
        interval: Seconds between two queries.
        min_interval: Smallest number of seconds between two queries; a tool that stalls or reverses is
            assessed at this interval.
        stall_distance: A tool that has moved less over the history has stalled, metres. The gripper must
            have moved less as well.
        reversal_cosine: A tool has reversed if the cosine between its directions in the first and the second
            half of the history is below this.

    Raises:
        UserError: Unless 0 < min_interval <= interval.
    """

    interval: float = 0.5
    min_interval: float = 0.25
    stall_distance: float = 0.004
    reversal_cosine: float = -0.5

    def __post_init__(self) -> None:
        """Refuse intervals out of range."""
        if not 0 < self.min_interval <= self.interval < math.inf:
            raise UserError(
                "expected intervals between queries with 0 < min_interval <= interval, got "
                f"{self.min_interval} and {self.interval} seconds"
            )

    def due(self, steps: int, history: tuple[PolicyObservation, ...], control_hz: float) -> bool:
        """Return whether to query the model now.

        Args:
            steps: Control steps since the last query.
            history: The observations of the history, oldest first.
            control_hz: Control steps per second.
        """
        if steps >= max(1, round(self.interval * control_hz)):
            return True
        soon = steps >= max(1, round(self.min_interval * control_hz))
        return soon and (self._stalled(history) or self._reversed(history))

    def _stalled(self, history: tuple[PolicyObservation, ...]) -> bool:
        first, last = history[0], history[-1]
        moved = float(np.linalg.norm(last.tcp_pose[:3] - first.tcp_pose[:3]))
        return moved < self.stall_distance and (
            abs(last.gripper_width - first.gripper_width) < self.stall_distance
        )

    def _reversed(self, history: tuple[PolicyObservation, ...]) -> bool:
        first, middle, last = (history[i].tcp_pose[:3] for i in (0, len(history) // 2, -1))
        before, after = middle - first, last - middle
        lengths = float(np.linalg.norm(before) * np.linalg.norm(after))
        far = min(float(np.linalg.norm(before)), float(np.linalg.norm(after))) > self.stall_distance
        return far and float(before @ after) / lengths < self.reversal_cosine
