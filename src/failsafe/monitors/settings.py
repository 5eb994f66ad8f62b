"""The settings of a monitor."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import cast

from failsafe.errors import UserError
from failsafe.monitors.budget import InterventionBudget
from failsafe.monitors.hand_back import HandBackModel
from failsafe.monitors.timing import QueryTiming


@dataclass(frozen=True)
class MonitorSettings:
    """When a monitor queries its model, takes over, hands back and gives up.

    Durations are in seconds. The control rate, the step limits and the workspace come from the embodiment.

    Attributes:
        timing: When the model is queried.
        drift: Log odds (natural logarithm) subtracted at each query before they add up to the score; see
            `CusumDetector`.
        repeat_threshold: Score above which an episode that has seen a takeover raises another alarm, if that
            is less than the threshold. The threshold bounds the rate of first false alarms only.
        budget: Upper bounds on the steps in which the monitor acts.
        max_corrections: Largest number of corrections in one takeover. After each, the model is queried
            again, and another correction is executed if the model still sees a failure.
        max_actions: Largest number of actions executed of one correction.
        assist: Whether the monitor goes on as the expert after the corrections, in place of handing back at
            once.
        assist_seconds: With `assist`, time in a takeover for which the monitor executes the actions
            that the expert would take next, with a query whenever they are done.
        escalate_after: Takeovers in an episode after which the monitor no longer hands back at once:
            in each further one it goes on as the expert after the corrections, for as long as the budget
            allows without a step of the policy. None: hand back at once after every takeover.
        retry_after: Takeovers in an episode after which the recovery is a new beginning in place of a
            correction: open the gripper, rise, return to the pose in which the episode began, and hand back.
            So it is at any alarm for which the model sees no way back. None: corrections only, and a request
            for help where the model sees no way back.
        hand_back: Where the policy succeeds after a hand-back (`Calibration.hand_back`). With it the monitor
            goes on as the expert after the corrections, for as long as the budget allows without a step of
            the policy, until the policy is likely enough to succeed. With `assist` it goes on for
            `assist_seconds` at most; `escalate_after` has no effect. None: hand back at once.
        hand_back_probability: With `hand_back`, the smallest predicted probability of a success at which the
            monitor hands back.
        cool_down_seconds: Time after a takeover in which queries do not count.
        asynchronous: Whether the policy acts while the model computes, in place of waiting for the answer.
        deadline: Seconds after which an answer is dropped.

    Raises:
        UserError: If a number is out of range, or `hand_back` is no hand-back model.
    """

    timing: QueryTiming = field(default_factory=QueryTiming)
    drift: float = 2.0
    repeat_threshold: float = 5.0
    budget: InterventionBudget = field(default_factory=InterventionBudget)
    max_corrections: int = 6
    max_actions: int = 24
    assist: bool = False
    assist_seconds: float = 3.6
    escalate_after: int | None = None
    retry_after: int | None = None
    hand_back: HandBackModel | None = None
    hand_back_probability: float = 0.5
    cool_down_seconds: float = 0.5
    asynchronous: bool = False
    deadline: float = 5.0

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        least = {"drift": 0, "repeat_threshold": 0, "max_corrections": 1, "max_actions": 1}
        least |= {"assist_seconds": 0, "cool_down_seconds": 0}
        counts = ("escalate_after", "retry_after")
        least |= {name: 0 for name in counts if getattr(self, name) is not None}
        for name, number in least.items():
            if not number <= (got := getattr(self, name)) < math.inf:
                raise UserError(f"expected a monitor's {name} to be finite and at least {number}, got {got}")
        given = cast(object, self.hand_back)
        if given is not None and not isinstance(given, HandBackModel):
            raise UserError(
                "expected a hand-back model such as calibration.hand_back as a monitor's hand_back, got "
                f"{type(given).__name__}"
            )
        if not 0 <= self.hand_back_probability <= 1:
            raise UserError(
                f"expected a monitor's hand_back_probability from 0 to 1, got {self.hand_back_probability}"
            )
        if not 0 < self.deadline < math.inf:
            raise UserError(f"expected a monitor's deadline above 0 seconds, got {self.deadline}")
