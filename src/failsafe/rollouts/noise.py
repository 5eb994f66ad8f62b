"""What a real robot adds: an arm that misses its targets a little, and sensors that are late."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from failsafe.records import poses
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose
from failsafe.rollouts.hooks import Command, Hook, StepContext
from failsafe.simulators.contract import Simulator

NOISE_METRES, NOISE_RADIANS = 0.002, math.radians(1.0)
"""Standard deviations of an arm's error about each axis."""
NOISE_DESCRIPTION = "actuation noise of 2 mm and 1 degree (standard deviations), commands one step late"
_NOISE = np.array([NOISE_METRES] * 3 + [NOISE_RADIANS] * 3)


class ActuationNoise(Hook):
    """Displaces every target a little, and delays every command by one step.

    A new error is drawn only with a new target, so that an arm with a constant target does not tremble.

    Args:
        rng: Source of the errors.
    """

    exceeds_limits = True

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._waiting: Command | None = None
        self._target: Pose | None = None
        self._error = np.zeros(6)

    def before_step(self, context: StepContext, command: Command) -> Command:
        """Return the command before this one, with an error. See `Hook.before_step`."""
        late, self._waiting = self._waiting or command, command
        if self._target is None or not np.array_equal(late.target, self._target):
            self._target = late.target
            self._error = self._rng.normal(size=6) * _NOISE
        return Command(poses.apply_delta(late.target, self._error), late.gripper)


class SensorDelay(Hook):
    """Shows what was sensed some control steps ago.

    Args:
        steps: Control steps of delay, at least 0.
    """

    def __init__(self, steps: int) -> None:
        self._past: deque[PolicyObservation] = deque(maxlen=steps + 1)

    def on_reset(self, simulator: Simulator) -> None:
        """Forget the rollout before."""
        self._past.clear()

    def sense(self, observation: PolicyObservation) -> PolicyObservation:
        """Return the observation of that time, or the first one at the beginning."""
        self._past.append(observation)
        return self._past[0]
