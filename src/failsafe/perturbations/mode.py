"""What a mode of failure is, and the modes by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from failsafe import registry
from failsafe.errors import UserError
from failsafe.perturbations.distributions import Distribution, Uniform
from failsafe.records.perturbation import Level, Perturbation
from failsafe.records.plan import StagePlan, StageSpan
from failsafe.records.poses import Pose
from failsafe.registry import Registry
from failsafe.rollouts.hooks import Hook, StepContext
from failsafe.simulators.contract import EpisodeSpec, SimulatorSpec


@dataclass(frozen=True)
class Scene:
    """What a mode may know of an episode: the nominal twin's facts, from ground truth.

    Attributes:
        spec: What the simulator can do.
        episode: The instruction and the objects.
        plan: The nominal plan.
        spans: What each of its stages did.
        objects: Initial poses of the objects, robot base frame. [N, 7]
        tcp_pose: Initial tool pose. [7]
    """

    spec: SimulatorSpec
    episode: EpisodeSpec
    plan: StagePlan
    spans: tuple[StageSpan, ...]
    objects: Float[np.ndarray, "N 7"]
    tcp_pose: Float[np.ndarray, "7"]

    def free_objects(self, stage: int) -> tuple[str, ...]:
        """Movable objects that are not in the grip at any time of a stage."""
        span = self.spans[stage]
        held = {*span.held, *span.held_after}
        return tuple(o.name for o in self.episode.objects if o.role.value == "movable" and o.name not in held)

    def ever_held(self) -> set[str]:
        """Objects that the nominal twin grips at any time."""
        return {name for span in self.spans for name in (*span.held, *span.held_after)}


class Mode(Hook):
    """One way to fail, with a drawn perturbation.

    A mode acts by one of four hooks: `believe` (what the expert thinks the scene is), `edit` (the plan),
    `before_step` (commands on their way to the robot) or `disturb` (the scene itself).

    Attributes:
        name: Name of the mode.
        level: Where along the robot's loop it acts.
        unit: Unit of the magnitude.
        magnitude: Default distribution of the magnitude's size.
        signed: Whether the magnitude goes either way.
        timed: Whether it sets in at a moment within a stage, rather than with the stage.
        directed: Whether it acts in a horizontal direction that is drawn.
        bounds: Least and greatest size of magnitude that makes sense.
    """

    name: ClassVar[str]
    level: ClassVar[Level]
    unit: ClassVar[str]
    magnitude: ClassVar[Distribution] = Uniform(0.0, 1.0)
    signed: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    directed: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def __init__(self, perturbation: Perturbation, scene: Scene) -> None:
        self.perturbation = perturbation
        self.scene = scene
        self._first_step: int | None = None

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Whether the mode makes sense at a stage, by generic facts."""
        raise NotImplementedError

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """Names of the objects that it could act on there; an empty name is the robot itself."""
        return ("",)

    def believe(self) -> Mapping[str, Pose]:
        """Poses that the expert takes the objects to have, where they are not the true ones."""
        return {}

    def edit(self, plan: StagePlan) -> StagePlan:
        """The plan that is carried out instead; the number of stages stays."""
        return plan

    def steps_since(self, context: StepContext) -> int:
        """Control steps since the perturbation set in; -1 before."""
        if self._first_step is None:
            p = self.perturbation
            onset = min(round(p.moment * context.stage_steps), context.stage_steps - 1)
            reached = context.stage == p.stage and context.stage_step >= onset
            if not (reached or context.stage > p.stage):
                return -1
            self._first_step = context.step
        return context.step - self._first_step

    @property
    def azimuth(self) -> Float[np.ndarray, "3"]:
        """Unit vector of the drawn direction in the horizontal plane."""
        angle = self.perturbation.direction
        return np.array([np.cos(angle), np.sin(angle), 0.0])


def _checked(name: str, entry: object) -> type[Mode]:
    """Check that an entry of the registry is a mode, and give it the name that it is asked for by."""
    if not (isinstance(entry, type) and issubclass(entry, Mode)):
        raise UserError(
            f"expected a subclass of failsafe.perturbations.Mode as mode '{name}', got {entry!r:.80}"
        )
    entry.name = name
    return entry


MODES: Registry[type[Mode]] = registry.modes
"""Every mode by name: the built-in ones in the order of the levels of cause, then those of plugins."""
MODES.prepare = _checked
