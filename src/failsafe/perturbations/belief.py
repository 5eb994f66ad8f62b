"""Belief modes: the expert plans well, for a scene that is not the true one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from failsafe.perturbations.distributions import Choice, Uniform
from failsafe.perturbations.mode import MODES, Mode, Scene
from failsafe.records.perturbation import Level
from failsafe.records.poses import Pose
from failsafe.simulators.contract import Role


class BeliefMode(Mode):
    """A mode that changes what the expert plans for."""

    level = Level.BELIEF

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Return True for the first stage that moves: a belief holds for the whole episode.

        See `Mode.applies`.
        """
        moving = [i for i, span in enumerate(scene.spans) if span.travel > 0.005]
        return bool(moving) and stage == moving[0] and bool(cls.candidates(scene, stage))

    def _displaced(self, name: str) -> Pose:
        index = self.scene.episode.object_index(name)
        pose = self.scene.objects[index].copy()
        pose[:3] += self.perturbation.magnitude * self.azimuth
        return pose


@MODES.register("misperceived_position")
class MisperceivedPosition(BeliefMode):
    """The expert takes a movable object to be some centimetres away from its true position."""

    unit = "m"
    magnitude = Uniform(0.015, 0.08)
    directed = True

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """Return the movable objects. See `Mode.candidates`."""
        return scene.episode.names(Role.MOVABLE)

    def believe(self) -> Mapping[str, Pose]:
        """Return the pose of the object, displaced in the horizontal plane."""
        return {self.perturbation.object: self._displaced(self.perturbation.object)}


@MODES.register("wrong_object")
class WrongObject(BeliefMode):
    """The expert swaps the identities of two movable objects."""

    unit = "swaps"
    magnitude = Choice((1.0,))
    bounds = (1.0, 1.0)

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """Return the objects that the task grasps, if there are others to confuse them with.

        See `Mode.candidates`.
        """
        movable = scene.episode.names(Role.MOVABLE)
        held = scene.ever_held()
        return tuple(n for n in movable if n in held) if len(movable) > 1 else ()

    def believe(self) -> Mapping[str, Pose]:
        """Return the poses of both objects in each other's place, each at its own height."""
        episode, name = self.scene.episode, self.perturbation.object
        others = [n for n in episode.names(Role.MOVABLE) if n != name]
        here = self.scene.objects[episode.object_index(name)]
        rows = [self.scene.objects[episode.object_index(n)] for n in others]
        nearest = int(np.argmin([np.linalg.norm(r[:3] - here[:3]) for r in rows]))
        there = rows[nearest]
        first, second = there.copy(), here.copy()
        first[2], second[2] = here[2], there[2]
        return {name: first, others[nearest]: second}


@MODES.register("wrong_goal")
class WrongGoal(BeliefMode):
    """The expert takes the goal to be at another position."""

    unit = "m"
    magnitude = Uniform(0.05, 0.15)
    directed = True

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """Return the goals, else the fixtures, else the objects that are never grasped (one to stack on).

        See `Mode.candidates`.
        """
        for role in (Role.GOAL, Role.FIXED):
            if names := scene.episode.names(role):
                return names
        held = scene.ever_held()
        return tuple(n for n in scene.episode.names(Role.MOVABLE) if n not in held) if held else ()

    def believe(self) -> Mapping[str, Pose]:
        """Return the pose of the goal, displaced in the horizontal plane."""
        return {self.perturbation.object: self._displaced(self.perturbation.object)}
