"""Accidents: what the world does to an evaluated episode, once, at a step that is known.

Where a learned policy's own failure begins nobody can say. Where an accident makes it fail, the step is
known, and so is how late the alarm is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from failsafe.perturbations.world import FALL_SPEED
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import Role, Simulator

PUSHED, DROPPED = "pushed", "dropped"
"""Kinds: a free object is pushed along the table; one that is carried is torn out of the grip."""
PUSH = 0.05
"""Metres by which an object is pushed."""
_LASTS = 0.2
"""Seconds that an accident lasts."""
_EARLIEST, _LATEST = 0.25, 1.0
"""Seconds after the beginning between which a push is due: mostly before anything is held."""
_RAISED = 0.03
"""Metres by which what is held is raised before it is dropped: on the table it would stay in the grip."""
_LONGEST = 0.4
"""Seconds at most between that and the drop."""


class Accident:
    """One accident, by the draws of a seed. It may never come to it: nothing is free, or nothing is raised.

    Args:
        kind: `PUSHED` or `DROPPED`.
        seed: Seed of the episode.
        simulator: In the beginning of the episode.

    Attributes:
        onset: Control step in which it began, None while it has not.
    """

    def __init__(self, kind: str, seed: int, simulator: Simulator) -> None:
        rng = np.random.default_rng([seed, 13])
        self._kind, self._simulator, self._episode = kind, simulator, simulator.episode
        self._rate = rate = simulator.spec.embodiment.control_hz
        self._steps = max(round(_LASTS * rate), 1)
        self._due = round(float(rng.uniform(_EARLIEST, _LATEST)) * rate)
        self._wait = round(float(rng.uniform(0.0, _LONGEST)) * rate)
        self._angle = float(rng.uniform(-math.pi, math.pi))
        self._pick = float(rng.random())
        self._object, self._height = "", 0.0
        self.onset: int | None = None

    def at(self, step: int) -> Sequence[Disturbance]:
        """What happens in a control step. To be asked in every one, before it is taken."""
        if self.onset is None:
            begins = self._drops() if self._kind == DROPPED else self._pushes(step)
            if not begins:
                return ()
            self.onset = step
        since = step - self.onset
        if since >= self._steps + (self._kind == PUSHED):
            return ()
        if self._kind == DROPPED:
            return (Disturbance(self._object, (0.0, 0.0, -FALL_SPEED, 0.0, 0.0, 0.0), friction=0.0),)
        # The last step of a push is the stop: an object left to slide goes on for an unknown way.
        speed = PUSH * self._rate / self._steps if since < self._steps else 0.0
        x, y = speed * math.cos(self._angle), speed * math.sin(self._angle)
        return (Disturbance(self._object, (x, y, 0.0, 0.0, 0.0, 0.0)),)

    def _pushes(self, step: int) -> bool:
        if step != self._due:
            return False
        held = self._simulator.held()
        free = [name for name in self._episode.names(Role.MOVABLE) if name not in held]
        self._object = free[int(self._pick * len(free))] if free else ""
        return bool(free)

    def _drops(self) -> bool:
        held = [name for name in self._simulator.held() if name in self._episode.names(Role.MOVABLE)]
        if not held:
            self._object = ""
            return False
        height = float(self._simulator.observe().objects[self._episode.object_index(held[0]), 2])
        if held[0] != self._object:
            self._object, self._height = held[0], height
        if height < self._height + _RAISED:
            return False
        self._wait -= 1
        return self._wait < 0
