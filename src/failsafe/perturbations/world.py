"""Causes in the scene itself: the robot does what it should, and the world does something else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from failsafe.perturbations.distributions import Uniform
from failsafe.perturbations.mode import MODES, Mode, Scene
from failsafe.records import poses
from failsafe.records.perturbation import Level
from failsafe.records.trace import Disturbance
from failsafe.rollouts.hooks import StepContext

_STEPS = 4
"""Control steps for which an object is forced to move: 0.2 s at 20 Hz, the length of a bump."""
_TIPPING_STEPS = 8
_CLEARANCE = 0.002
"""Metres by which an object is lifted while it is tipped, so that its edge does not catch on the table."""
FALL_SPEED = 0.6
"""Downward speed in m/s at which an object is torn out of the grip."""


class WorldMode(Mode):
    """A mode that moves an object."""

    level = Level.WORLD
    timed = True

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Where there is an object that it could act on."""
        return bool(cls.candidates(scene, stage))

    def _row(self, context: StepContext) -> np.ndarray:
        return context.observation.objects[self.scene.episode.object_index(self.perturbation.object)]

    def _seconds(self, steps: int) -> float:
        return steps / self.scene.spec.embodiment.control_hz


class HeldMode(WorldMode):
    """A mode that acts on what is in the grip."""

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """What is held from the beginning of the stage to its end."""
        span = scene.spans[stage]
        return tuple(name for name in span.held if name in span.held_after)


class FreeMode(WorldMode):
    """A mode that acts on what is not in the grip."""

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """Movable objects that are not held in the stage."""
        return scene.free_objects(stage)


@MODES.register("slip")
class Slip(HeldMode):
    """The object slides down in the grip, and is held again where it then is."""

    unit = "m"
    magnitude = Uniform(0.01, 0.035)

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        """Downwards, while the tool carries it along, without friction."""
        if not 0 <= self.steps_since(context) < _STEPS:
            return ()
        down = -self.perturbation.magnitude / self._seconds(_STEPS)
        velocity = (0.0, 0.0, down, 0.0, 0.0, 0.0)
        return (Disturbance(self.perturbation.object, velocity, friction=0.0, with_tool=True),)


@MODES.register("object_pushed")
class ObjectPushed(FreeMode):
    """Something bumps into an object and moves it along the table."""

    unit = "m"
    magnitude = Uniform(0.03, 0.1)
    directed = True

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        """A steady horizontal velocity that covers the drawn distance, and then a stop."""
        since = self.steps_since(context)
        if not 0 <= since <= _STEPS:
            return ()
        speed = self.perturbation.magnitude / self._seconds(_STEPS) if since < _STEPS else 0.0
        velocity = self.azimuth * speed
        return (Disturbance(self.perturbation.object, (*velocity.tolist(), 0.0, 0.0, 0.0)),)


@MODES.register("object_knocked_over")
class ObjectKnockedOver(FreeMode):
    """An object is tipped over the lowest edge or corner that lies in the drawn direction."""

    unit = "rad"
    magnitude = Uniform(1.2, 1.9)
    directed = True
    bounds = (0.0, math.pi)

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        """A rotation about where it stands farthest in the drawn direction, a little above the table."""
        since = self.steps_since(context)
        if not 0 <= since < _TIPPING_STEPS:
            return ()
        row, up = self._row(context), np.array([0.0, 0.0, 1.0])
        if since == 0:
            self._pivot = row[:3] + self._reach(row, self.azimuth) * self.azimuth - self._reach(row, up) * up
        axis = np.cross(up, self.azimuth)
        angle = self.perturbation.magnitude / _TIPPING_STEPS
        arm = row[:3] - self._pivot
        moved = poses.rotate(poses.from_rotation_vector(axis * angle), arm) - arm
        if since == 0:
            moved += _CLEARANCE * up
            self._pivot = self._pivot + _CLEARANCE * up
        rates = np.concatenate([moved, axis * angle]) * self.scene.spec.embodiment.control_hz
        return (Disturbance(self.perturbation.object, tuple(rates.tolist())),)

    def _reach(self, row: np.ndarray, direction: np.ndarray) -> float:
        """How far the object's box reaches from its origin in a direction, metres."""
        spec = self.scene.episode.objects[self.scene.episode.object_index(self.perturbation.object)]
        inside = poses.rotate(poses.quaternion_inverse(row[3:]), direction)
        return float(np.abs(inside) @ np.array(spec.half_extents))


@MODES.register("object_dropped")
class ObjectDropped(HeldMode):
    """The object is torn out of the closed grip and falls."""

    unit = "m/s"
    magnitude = Uniform(0.0, 0.3)
    directed = True

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        """Downwards, with the drawn speed sideways, without friction, until it is out of the fingers."""
        if not 0 <= self.steps_since(context) < _STEPS:
            return ()
        velocity = self.azimuth * self.perturbation.magnitude + np.array([0.0, 0.0, -FALL_SPEED])
        return (Disturbance(self.perturbation.object, (*velocity.tolist(), 0.0, 0.0, 0.0), friction=0.0),)
