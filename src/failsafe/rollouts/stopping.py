"""Stopping rules: hooks that end a rollout."""

from __future__ import annotations

from failsafe.rollouts.hooks import Hook, StepResult
from failsafe.simulators.contract import Simulator

HOLD_SECONDS = 0.6
"""How long a success has to last before it counts."""
_JUDGE_EVERY_SECONDS = 0.2


class StopOnSuccess(Hook):
    """Ends a rollout once the task has been done for a while; a success that passes does not count.

    Attributes:
        succeeded: Whether the rollout was ended.
    """

    def __init__(self) -> None:
        self.succeeded = False
        self._since: int | None = None

    def on_reset(self, simulator: Simulator) -> None:
        """Take over the simulator's judgement and control rate."""
        self._simulator = simulator
        self._hold = simulator.spec.embodiment.steps(HOLD_SECONDS)
        self._every = simulator.spec.embodiment.steps(_JUDGE_EVERY_SECONDS)

    def after_step(self, result: StepResult) -> bool:
        """Judge every 0.2 s."""
        step = result.step + 1
        if step % self._every:
            return False
        if not self._simulator.evaluate().success:
            self._since = None
        elif self._since is None:
            self._since = step
        elif step - self._since >= self._hold:
            self.succeeded = True
        return self.succeeded
