"""When to look: every so many steps, and when the tool has stalled or turned back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from failsafe.errors import UserError
from failsafe.records.observation import PolicyObservation


@dataclass(frozen=True)
class QueryTiming:
    """When the model is asked.

    Attributes:
        every: Control steps between two looks.
        soonest: Control steps between two looks at least, whatever happens.
        still: Metres; a tool that has moved less over the history has stalled.
        turn: Cosine; a tool whose direction has changed by more has turned back.
    """

    every: int = 10
    soonest: int = 5
    still: float = 0.004
    turn: float = -0.5

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 1 <= self.soonest <= self.every:
            raise UserError(
                f"expected a look every 1 or more steps, got {self.every}, soonest {self.soonest}"
            )

    def due(self, since: int, moments: tuple[PolicyObservation, ...]) -> bool:
        """Whether to look now.

        Args:
            since: Control steps since the last look.
            moments: The observations of the history, oldest first.
        """
        if since >= self.every:
            return True
        return since >= self.soonest and (self._stalled(moments) or self._turned_back(moments))

    def _stalled(self, moments: tuple[PolicyObservation, ...]) -> bool:
        first, last = moments[0], moments[-1]
        moved = float(np.linalg.norm(last.tcp_pose[:3] - first.tcp_pose[:3]))
        return moved < self.still and abs(last.gripper_width - first.gripper_width) < self.still

    def _turned_back(self, moments: tuple[PolicyObservation, ...]) -> bool:
        first, middle, last = (moments[i].tcp_pose[:3] for i in (0, len(moments) // 2, -1))
        before, after = middle - first, last - middle
        lengths = float(np.linalg.norm(before) * np.linalg.norm(after))
        far = min(float(np.linalg.norm(before)), float(np.linalg.norm(after))) > self.still
        return far and float(before @ after) / lengths < self.turn
