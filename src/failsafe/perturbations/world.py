"""World modes: the robot does what it should, and something happens to an object."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from failsafe.perturbations.distributions import Uniform
from failsafe.perturbations.mode import MODES, Mode, Scene
from failsafe.perturbations.triggers import RuntimeTrigger
from failsafe.records import poses
from failsafe.records.perturbation import Level
from failsafe.records.trace import Disturbance
from failsafe.rollouts.hooks import StepContext
from failsafe.simulators.contract import Role

_BUMP_SECONDS = 0.2
"""How long an object is forced to move."""
_TIPPING_SECONDS = 0.4
_CLEARANCE = 0.002
"""Metres by which an object is lifted while it is tipped, so that its edge does not touch the table."""
_FALL_SPEED = 0.6
"""Downward speed at which an object is pulled out of the grip, m/s."""


class WorldMode(Mode):
    """A mode that moves an object or pulls it out of the grip."""

    level = Level.WORLD
    timed = True

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Return whether there is an object that it could act on. See `Mode.applies`."""
        return bool(cls.candidates(scene, stage))

    def _row(self, context: StepContext) -> np.ndarray:
        return context.observation.objects[self.scene.episode.object_index(self.object)]

    def _movable(self) -> tuple[str, ...]:
        return self.scene.episode.names(Role.MOVABLE)


class HeldMode(WorldMode):
    """A mode that acts on an object in the grip."""

    runtime_trigger = RuntimeTrigger("raised", (0.0, 0.4))

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """Return what is held from the beginning of the stage to its end. See `Mode.candidates`."""
        span = scene.spans[stage]
        loose = scene.episode.loose_objects
        return tuple(name for name in span.held if name in span.held_after and name in loose)

    def runtime_candidates(self) -> tuple[str, ...]:
        """Return the object that is held."""
        loose = self._simulator.episode.loose_objects
        return tuple(name for name in self._simulator.held() if name in loose)[:1]


class FreeMode(WorldMode):
    """A mode that acts on an object that is not in the grip."""

    runtime_trigger = RuntimeTrigger("start", (0.25, 1.0))
    """Mostly before anything is held."""

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """Return the movable objects that are not held in the stage. See `Mode.candidates`."""
        return scene.free_objects(stage)

    def runtime_candidates(self) -> tuple[str, ...]:
        """Return the movable objects that are not held."""
        held = self._simulator.held()
        return tuple(name for name in self._movable() if name not in held)


@MODES.register("slip")
class Slip(HeldMode):
    """The object slides down in the grip, and is held again where it then is."""

    unit = "m"
    magnitude = Uniform(0.01, 0.035)

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        """Move it down relative to the tool, without friction."""
        steps = self.steps(_BUMP_SECONDS)
        if not 0 <= self.steps_since_onset(context) < steps:
            return ()
        down = -self.perturbation.magnitude / (steps / self.scene.spec.embodiment.control_hz)
        velocity = (0.0, 0.0, down, 0.0, 0.0, 0.0)
        return (Disturbance(self.object, velocity, friction=0.0, with_tool=True),)


@MODES.register("object_pushed")
class ObjectPushed(FreeMode):
    """Something bumps into an object and moves it along the table."""

    unit = "m"
    magnitude = Uniform(0.03, 0.1)
    directed = True

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        """Move it at a steady horizontal velocity over the drawn distance, and stop it."""
        steps, since = self.steps(_BUMP_SECONDS), self.steps_since_onset(context)
        if not 0 <= since <= steps:
            return ()
        # The last step stops it: an object left to slide goes on for an unknown distance.
        seconds = steps / self.scene.spec.embodiment.control_hz
        velocity = self.azimuth * (self.perturbation.magnitude / seconds if since < steps else 0.0)
        return (Disturbance(self.object, (*velocity.tolist(), 0.0, 0.0, 0.0)),)


@MODES.register("object_knocked_over")
class ObjectKnockedOver(FreeMode):
    """An object is tipped over the lowest edge or corner that lies in the drawn direction."""

    unit = "rad"
    magnitude = Uniform(1.2, 1.9)
    directed = True
    bounds = (0.0, math.pi)

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """Return the movable objects that stand freely and are not held. See `Mode.candidates`."""
        return tuple(n for n in scene.free_objects(stage) if n in scene.episode.loose_objects)

    def runtime_candidates(self) -> tuple[str, ...]:
        """Return the movable objects that stand freely and are not held."""
        loose = self._simulator.episode.loose_objects
        return tuple(n for n in super().runtime_candidates() if n in loose)

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        """Rotate it about the point where it stands farthest in the drawn direction."""
        steps, since = self.steps(_TIPPING_SECONDS), self.steps_since_onset(context)
        if not 0 <= since < steps:
            return ()
        row, up = self._row(context), np.array([0.0, 0.0, 1.0])
        if since == 0:
            self._pivot = row[:3] + self._reach(row, self.azimuth) * self.azimuth - self._reach(row, up) * up
        axis = np.cross(up, self.azimuth)
        angle = self.perturbation.magnitude / steps
        arm = row[:3] - self._pivot
        moved = poses.rotate(poses.from_rotation_vector(axis * angle), arm) - arm
        if since == 0:
            moved += _CLEARANCE * up
            self._pivot = self._pivot + _CLEARANCE * up
        rates = np.concatenate([moved, axis * angle]) * self.scene.spec.embodiment.control_hz
        return (Disturbance(self.object, tuple(rates.tolist())),)

    def _reach(self, row: np.ndarray, direction: np.ndarray) -> float:
        """Return how far the bounding box reaches from its origin in a direction, metres."""
        spec = self.scene.episode.objects[self.scene.episode.object_index(self.object)]
        inside = poses.rotate(poses.quaternion_inverse(row[3:]), direction)
        return float(np.abs(inside) @ np.array(spec.half_extents))


@MODES.register("object_dropped")
class ObjectDropped(HeldMode):
    """The object is pulled out of the closed grip and falls."""

    unit = "m/s"
    magnitude = Uniform(0.0, 0.3)
    directed = True

    def disturb(self, context: StepContext) -> Sequence[Disturbance]:
        """Move it down, with the drawn speed sideways, without friction, until it has left the fingers."""
        if not 0 <= self.steps_since_onset(context) < self.steps(_BUMP_SECONDS):
            return ()
        velocity = self.azimuth * self.perturbation.magnitude + np.array([0.0, 0.0, -_FALL_SPEED])
        return (Disturbance(self.object, (*velocity.tolist(), 0.0, 0.0, 0.0), friction=0.0),)
