"""The intervention budget: how much of an episode a monitor may act, whatever its model says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from failsafe.errors import UserError


@dataclass(frozen=True)
class InterventionBudget:
    """Upper bounds on the control steps in which a monitor acts in place of the policy.

    A correction is executed as a whole or not at all, so a monitor may stop before the bounds are reached.

    Attributes:
        share: Largest share of an episode's control steps, from 0 to 1. With 0 the monitor only watches.
        consecutive_seconds: Longest time without a control step of the policy in between.
        takeovers: Largest number of takeovers in an episode. With 0 the monitor only watches.
        episode_seconds: Length of the episode that `share` refers to. `failsafe.evaluate` sets it to its step
            limit. An episode that ends earlier may have a larger share of its own steps.

    Raises:
        UserError: If a number is out of range.
    """

    share: float = 0.25
    consecutive_seconds: float = 3.0
    takeovers: int = 6
    episode_seconds: float = 20.0

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if not 0 <= self.share <= 1:
            raise UserError(f"expected an intervention budget from 0 to 1 of an episode, got {self.share}")
        if self.takeovers < 0:
            raise UserError(f"expected an intervention budget of at least 0 takeovers, got {self.takeovers}")
        for name in ("consecutive_seconds", "episode_seconds"):
            if not 0 < (got := getattr(self, name)) < math.inf:
                raise UserError(f"expected {name} of an intervention budget above 0 and finite, got {got}")


NO_LIMIT = InterventionBudget(share=1.0, consecutive_seconds=1e6, takeovers=10**6, episode_seconds=1e6)
"""Budget that nothing exceeds: a monitor that may replace the policy."""


class BudgetMeter:
    """Counts what a monitor has spent of its budget in an episode.

    Args:
        budget: The budget.
        control_hz: Control steps per second.
    """

    def __init__(self, budget: InterventionBudget, control_hz: float) -> None:
        self._takeovers = budget.takeovers
        # A share of 0.25 of 400 steps is 100 steps, not 99, whatever the rounding of the product.
        self._steps = math.floor(budget.share * budget.episode_seconds * control_hz + 1e-6)
        self._row = math.floor(budget.consecutive_seconds * control_hz + 1e-6)
        self.reset()

    def reset(self) -> None:
        """Start an episode."""
        self._spent = self._spent_in_row = self.taken_over = 0

    @property
    def takeovers_left(self) -> int:
        """Number of takeovers that may still begin."""
        return self._takeovers - self.taken_over

    @property
    def steps_left(self) -> int:
        """Control steps that the monitor may still act in this episode."""
        return self._steps - self._spent

    @property
    def steps_allowed_in_row(self) -> int:
        """Control steps that the monitor may act at a stretch."""
        return self._row

    @property
    def steps_left_in_row(self) -> int:
        """Control steps that the monitor may still act before the policy has to."""
        return min(self.steps_left, self._row - self._spent_in_row)

    def begin(self) -> None:
        """Count a takeover, which begins now."""
        self.taken_over += 1
        self._spent_in_row = 0

    def spend(self, steps: int) -> None:
        """Count control steps in which the monitor acts.

        Args:
            steps: Number of control steps.
        """
        self._spent += steps
        self._spent_in_row += steps
