"""Causes in what the expert thinks the scene is: it plans well, for another world."""

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
        """A belief holds for the whole episode, so it is attributed to the first stage that moves."""
        moving = [i for i, span in enumerate(scene.spans) if span.travel > 0.005]
        return bool(moving) and stage == moving[0] and bool(cls.candidates(scene, stage))

    def _displaced(self, name: str) -> Pose:
        index = self.scene.episode.object_index(name)
        pose = self.scene.objects[index].copy()
        pose[:3] += self.perturbation.magnitude * self.azimuth
        return pose


@MODES.register("misperceived_position")
class MisperceivedPosition(BeliefMode):
    """A movable object is thought to stand some centimetres from where it does."""

    unit = "m"
    magnitude = Uniform(0.015, 0.08)
    directed = True

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """Any movable object."""
        return scene.episode.names(Role.MOVABLE)

    def believe(self) -> Mapping[str, Pose]:
        """The object, displaced in the horizontal plane."""
        return {self.perturbation.object: self._displaced(self.perturbation.object)}


@MODES.register("wrong_object")
class WrongObject(BeliefMode):
    """Two movable objects are taken for each other."""

    unit = "swaps"
    magnitude = Choice((1.0,))
    bounds = (1.0, 1.0)

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """The object that the task takes hold of, where there is another to take it for."""
        movable = scene.episode.names(Role.MOVABLE)
        held = scene.ever_held()
        return tuple(n for n in movable if n in held) if len(movable) > 1 else ()

    def believe(self) -> Mapping[str, Pose]:
        """Both objects in each other's place, each at the height at which it stands."""
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
    """The place to bring things to is thought to be elsewhere."""

    unit = "m"
    magnitude = Uniform(0.05, 0.15)
    directed = True

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """A mark, else a fixture, else an object that is never taken hold of (one to stack on)."""
        for role in (Role.GOAL, Role.FIXED):
            if names := scene.episode.names(role):
                return names
        held = scene.ever_held()
        return tuple(n for n in scene.episode.names(Role.MOVABLE) if n not in held) if held else ()

    def believe(self) -> Mapping[str, Pose]:
        """The goal, displaced in the horizontal plane."""
        return {self.perturbation.object: self._displaced(self.perturbation.object)}
