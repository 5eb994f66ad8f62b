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
from failsafe.perturbations.triggers import RuntimeTrigger, make_trigger
from failsafe.records.perturbation import Level, Perturbation
from failsafe.records.plan import StagePlan, StageSpan
from failsafe.records.poses import Pose
from failsafe.registry import Registry
from failsafe.rollouts.hooks import Command, Hook, StepContext
from failsafe.simulators.contract import EpisodeSpec, Simulator, SimulatorSpec


@dataclass(frozen=True)
class Scene:
    """Facts of an episode that a mode may use: ground truth and the nominal rollout.

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

    @classmethod
    def without_plan(cls, simulator: Simulator) -> Scene:
        """Make the scene of an episode that a policy acts in.

        Args:
            simulator: In the state in which the episode begins.
        """
        seen = simulator.observe()
        return cls(simulator.spec, simulator.episode, StagePlan("", ()), (), seen.objects, seen.tcp_pose)

    def free_objects(self, stage: int) -> tuple[str, ...]:
        """Return the movable objects that are not in the grip at any time of a stage.

        Args:
            stage: Index of the stage.
        """
        span = self.spans[stage]
        held = {*span.held, *span.held_after}
        return tuple(o.name for o in self.episode.objects if o.role.value == "movable" and o.name not in held)

    def ever_held(self) -> set[str]:
        """Return the objects that the nominal rollout holds at any time."""
        return {name for span in self.spans for name in (*span.held, *span.held_after)}


class Mode(Hook):
    """One way to fail, with a drawn perturbation.

    A mode acts by one of four methods: `believe` (what the expert takes the scene to be), `edit` (the plan),
    `before_step` (commands on their way to the robot) or `disturb` (the scene itself). A mode with a
    `runtime_trigger` needs no plan and can be applied to any policy.

    Args:
        perturbation: What was drawn.
        scene: Facts of the episode.

    Attributes:
        name: Name of the mode.
        level: Level of cause: where along the control loop it acts.
        unit: Unit of the magnitude.
        magnitude: Default distribution of the size of the magnitude.
        signed: Whether the magnitude has two directions.
        timed: Whether it sets in at a moment within a stage, rather than with the stage.
        directed: Whether it acts in a horizontal direction that is drawn.
        bounds: Least and greatest magnitude that makes sense.
        runtime_trigger: When it sets in behind a policy, None for a mode that needs a plan.
        runtime_seconds: How long it lasts behind a policy, seconds; 0 for as long as the mode itself says.
    """

    name: ClassVar[str]
    level: ClassVar[Level]
    unit: ClassVar[str]
    magnitude: ClassVar[Distribution] = Uniform(0.0, 1.0)
    signed: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    directed: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    runtime_trigger: ClassVar[RuntimeTrigger | None] = None
    runtime_seconds: ClassVar[float] = 0.0

    def __init__(self, perturbation: Perturbation, scene: Scene) -> None:
        self.perturbation = perturbation
        self.scene = scene
        self.object = perturbation.object
        """Name of the object that it acts on, empty until one is chosen."""
        self._onset: int | None = None

    def on_reset(self, simulator: Simulator) -> None:
        """Set the trigger."""
        self._simulator = simulator
        self._trigger = make_trigger(self.perturbation, simulator)

    @classmethod
    def applies(cls, scene: Scene, stage: int) -> bool:
        """Return whether the mode makes sense at a stage, by generic facts.

        Args:
            scene: Facts of the episode.
            stage: Index of the stage.

        Raises:
            NotImplementedError: If a subclass does not define it.
        """
        raise NotImplementedError

    @classmethod
    def candidates(cls, scene: Scene, stage: int) -> tuple[str, ...]:
        """Return the names of the objects that it could act on there; an empty name is the robot itself.

        Args:
            scene: Facts of the episode.
            stage: Index of the stage.
        """
        return ("",)

    def runtime_candidates(self) -> tuple[str, ...]:
        """Return the names of the objects that it could act on now, where an event triggers it."""
        return ("",)

    def believe(self) -> Mapping[str, Pose]:
        """Return poses that the expert takes objects to have, where they are not the true ones."""
        return {}

    def edit(self, plan: StagePlan) -> StagePlan:
        """Return the plan that is carried out instead; the number of stages stays the same."""
        return plan

    def steps_since_onset(self, context: StepContext, command: Command | None = None) -> int:
        """Return the control steps since the perturbation set in; -1 before, and when it is over.

        Args:
            context: Where the rollout stands.
            command: The command of this step, for triggers that wait for one.
        """
        if self._onset is None:
            if not (self._trigger.fires(context, command) and self._choose_object()):
                return -1
            self._onset = context.step
        since = context.step - self._onset
        lasts = self.perturbation.duration
        return -1 if lasts and since >= self.steps(lasts) else since

    def steps(self, seconds: float) -> int:
        """Return how many control steps a duration takes, at least 1."""
        return self.scene.spec.embodiment.steps(seconds)

    def _choose_object(self) -> bool:
        if self.perturbation.event:
            found = self.runtime_candidates()
            if not found:
                return False
            self.object = found[int(self.perturbation.pick * len(found))]
        return True

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
