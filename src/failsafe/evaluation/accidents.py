"""Accidents: what the world does to an evaluated episode, once, at a step that is known.

Where a learned policy's own failure begins nobody can say. Where an accident makes it fail, the step is
known, and so is how late the alarm is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from failsafe.perturbations.world import BUMP_STEPS, FALL_SPEED
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import Role, Simulator

PUSHED, DROPPED = "pushed", "dropped"
"""Kinds: a free object is pushed along the table; a held one is torn out of the grip."""
PUSH = 0.05
"""Metres by which an object is pushed, over 0.2 s."""
_EARLIEST, _LATEST = 10, 40
"""Control steps between which a push is due."""
_SHORTEST, _LONGEST = 2, 10
"""Control steps between which an object has been held when it is dropped."""


class Accident:
    """One accident, by the draws of a seed.

    Args:
        kind: `PUSHED` or `DROPPED`.
        seed: Seed of the episode.

    Attributes:
        onset: Control step in which it began, None while it has not.
    """

    def __init__(self, kind: str, seed: int) -> None:
        rng = np.random.default_rng([seed, 13])
        self._kind = kind
        self._due = int(rng.integers(_EARLIEST, _LATEST + 1))
        self._held_for = int(rng.integers(_SHORTEST, _LONGEST + 1))
        self._angle = float(rng.uniform(-math.pi, math.pi))
        self._pick = float(rng.random())
        self._held = 0
        self._object = ""
        self.onset: int | None = None

    def at(self, simulator: Simulator, step: int) -> Sequence[Disturbance]:
        """What happens in a control step. To be asked in every one."""
        if self.onset is None and not self._begins(simulator, step):
            return ()
        if self.onset is None:
            self.onset = step
        since = step - self.onset
        if since >= BUMP_STEPS + (self._kind == PUSHED):
            return ()
        if self._kind == DROPPED:
            return (Disturbance(self._object, (0.0, 0.0, -FALL_SPEED, 0.0, 0.0, 0.0), friction=0.0),)
        # The last step of a push is the stop: an object left to slide goes on for an unknown way.
        speed = PUSH * simulator.spec.control_hz / BUMP_STEPS if since < BUMP_STEPS else 0.0
        x, y = speed * math.cos(self._angle), speed * math.sin(self._angle)
        return (Disturbance(self._object, (x, y, 0.0, 0.0, 0.0, 0.0)),)

    def _begins(self, simulator: Simulator, step: int) -> bool:
        held = simulator.held()
        if self._kind == DROPPED:
            self._held = self._held + 1 if held else 0
            self._object = held[0] if held else ""
            return self._held > self._held_for
        free = [o.name for o in simulator.spec.objects if o.role is Role.MOVABLE and o.name not in held]
        if step < self._due or not free:
            return False
        self._object = free[int(self._pick * len(free))]
        return True
