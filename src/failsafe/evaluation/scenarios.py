"""Scenarios: what an evaluation makes unlike training, each under a name of its own.

A name may join several with "+", and name a run-time perturbation as "MODE" or "MODE:MAGNITUDE": in
"camera-5+slip:0.02" the cameras are displaced and the object slips by 2 cm.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from failsafe import registry
from failsafe.datasets.cameras import move_camera
from failsafe.errors import UnknownNameError, UserError
from failsafe.perturbations import MODES
from failsafe.perturbations.injection import Injection
from failsafe.perturbations.runtime import (
    RuntimePerturbation,
    make_injection,
    parse_runtime,
    runtime_modes,
    split_magnitude,
)
from failsafe.records.poses import Pose
from failsafe.registry import Registry
from failsafe.rollouts.hooks import Hook
from failsafe.rollouts.noise import ActuationNoise, SensorDelay
from failsafe.simulators.contract import Camera, Role, Simulator

JOINT = "+"
"""Joins the names of scenarios."""


@dataclass(frozen=True)
class Scenario:
    """One way in which an evaluation is unlike training.

    Attributes:
        name: Its name.
        axis: What it varies: "none", "spatial", "viewpoint", "object", "embodiment", "physics" or
            "perturbation".
        description: What is unlike training, in a few words.
        farther: Distance by which every movable object is moved away from the middle of the table, metres.
        metres: Distance by which every camera is moved, metres.
        degrees: Angle by which every camera is turned, degrees.
        noisy: Whether the arm has an actuation noise, as in the proofs of corrections.
        delay: Control steps by which everything that is sensed is late.
        perturbations: Run-time perturbations of every episode.
        tasks: Tasks to run in place of others; where there are any, only those are run.
    """

    name: str
    axis: str
    description: str
    farther: float = 0.0
    metres: float = 0.0
    degrees: float = 0.0
    noisy: bool = False
    delay: int = 0
    perturbations: tuple[RuntimePerturbation, ...] = ()
    tasks: Mapping[str, str] = field(default_factory=dict[str, str])

    def start(self, simulator: Simulator, seed: int) -> None:
        """Begin an episode.

        Args:
            simulator: The simulator to reset.
            seed: Seed of the initial state.
        """
        simulator.reset(seed)
        if self.farther:
            simulator.reset(seed, self._moved(simulator))

    def camera(self, camera: Camera, seed: int) -> Camera:
        """Return the camera, displaced as the scenario says, by a draw of its own for each seed.

        Args:
            camera: The camera as in training.
            seed: Seed of the episode.
        """
        if not (self.metres or self.degrees):
            return camera
        rng = np.random.default_rng([seed, *camera.name.encode()])
        return move_camera(camera, self.metres, math.radians(self.degrees), rng)

    def injections(self, simulator: Simulator, seed: int) -> list[Injection]:
        """Make the hooks of the run-time perturbations of an episode.

        Args:
            simulator: In the state in which the episode begins.
            seed: Seed of the episode.
        """
        drawn = [perturbation.draw(seed, i) for i, perturbation in enumerate(self.perturbations)]
        return [make_injection(perturbation, simulator) for perturbation in drawn]

    def hooks(self, seed: int) -> list[Hook]:
        """Make the hooks of the robot's own imperfections.

        Args:
            seed: Seed of the episode.
        """
        noise = [ActuationNoise(np.random.default_rng([seed, 7]))] if self.noisy else []
        return [*noise, *([SensorDelay(self.delay)] if self.delay else [])]

    def _moved(self, simulator: Simulator) -> dict[str, Pose]:
        """Move every movable object, with a goal that lies beside it, outwards."""
        episode, seen = simulator.episode, simulator.observe()
        movable = [i for i, o in enumerate(episode.objects) if o.role is Role.MOVABLE]
        middle = np.array(simulator.spec.placement_center)
        out: dict[str, Pose] = {}
        for i in movable:
            pose = seen.objects[i].copy()
            away = pose[:2] - middle
            length = float(np.linalg.norm(away))
            pose[:2] += self.farther * (away / length if length > 1e-6 else np.array([0.0, 1.0]))
            out[episode.objects[i].name] = pose
        return out


SCENARIOS: Registry[Scenario] = registry.scenarios
"""Every scenario by name: the built-in ones, then those of plugins."""


def _checked(name: str, entry: object) -> Scenario:
    if not isinstance(entry, Scenario):
        raise UserError(
            f"expected a failsafe.evaluation.scenarios.Scenario as scenario '{name}', got {entry!r:.80}"
        )
    return dataclasses.replace(entry, name=name)


SCENARIOS.prepare = _checked

for _scenario in (
    Scenario("nominal", "none", "as in training"),
    Scenario("farther", "spatial", "objects 5 cm farther from the middle of the table", farther=0.05),
    Scenario("camera-5", "viewpoint", "cameras moved by 5 cm and 5 degrees", metres=0.05, degrees=5.0),
    Scenario("camera-15", "viewpoint", "cameras moved by 15 cm and 15 degrees", metres=0.15, degrees=15.0),
    Scenario("noise", "physics", "actuation noise of 2 mm and 1 degree, commands a step late", noisy=True),
    Scenario("delay-1", "physics", "sensors one step late", delay=1),
    Scenario("delay-2", "physics", "sensors two steps late", delay=2),
    Scenario("delay-3", "physics", "sensors three steps late", delay=3),
    Scenario(
        "pushed",
        "perturbation",
        "an object pushed by 5 cm within the first second",
        perturbations=(RuntimePerturbation("object_pushed", 0.05),),
    ),
    Scenario(
        "dropped",
        "perturbation",
        "an object that has been raised by 3 cm is pulled out of the grip",
        perturbations=(RuntimePerturbation("object_dropped", 0.0),),
    ),
    *(
        Scenario(name, axis, description, tasks={"PickCube-v1": task})
        for name, axis, description, task in (
            ("small-cube", "object", "a cube of 3 cm in place of 4 cm", "PickSmallCube-v1"),
            ("large-cube", "object", "a cube of 5 cm in place of 4 cm", "PickLargeCube-v1"),
            ("tall-cube", "object", "a block of 4 x 4 x 6 cm in place of a cube", "PickTallCube-v1"),
            ("blue-cube", "object", "a blue cube in place of a red one", "PickBlueCube-v1"),
            ("sphere", "object", "a sphere in place of a cube", "PickSphere-v1"),
            ("heavy", "physics", "a cube ten times as heavy", "PickHeavyCube-v1"),
            ("slippery", "physics", "a friction of 0.25 between fingers and cube", "PickSlipperyCube-v1"),
            ("fetch", "embodiment", "the arm of a Fetch in place of a Panda", "PickCubeFetch-v1"),
        )
    ),
):
    SCENARIOS.add(_scenario.name, _scenario)


@functools.cache
def scenario(name: str) -> Scenario:
    """Return the scenario of a name.

    Args:
        name: A registered scenario, a run-time perturbation ("MODE" or "MODE:MAGNITUDE"), or several of both
            joined with "+".

    Raises:
        UnknownNameError: If there is nothing of that name.
        UserError: If a perturbation has no such magnitude or needs a plan, or two parts set the same thing.
    """
    parts = [_part(part) for part in name.split(JOINT)]
    if len(parts) == 1:
        return parts[0]
    changed: dict[str, object] = {}
    for part in parts:
        for setting in ("farther", "metres", "degrees", "noisy", "delay", "tasks"):
            value = getattr(part, setting)
            if value and setting in changed:
                raise UserError(f"expected parts that set different things in scenario '{name}': {setting}")
            if value:
                changed[setting] = value
    return dataclasses.replace(
        Scenario(
            name=name,
            axis=JOINT.join(sorted({part.axis for part in parts if part.axis != "none"})),
            description="; ".join(part.description for part in parts),
            perturbations=tuple(p for part in parts for p in part.perturbations),
        ),
        **changed,
    )


def perturbed_scenarios(scenarios: tuple[str, ...], perturbations: tuple[str, ...]) -> tuple[str, ...]:
    """Return the scenarios, and after them each of them with each of the perturbations.

    Args:
        scenarios: Names of scenarios.
        perturbations: Run-time perturbations, each "MODE" or "MODE:MAGNITUDE".

    Raises:
        UnknownNameError: If there is no such mode.
        UserError: If a mode needs a plan, or has no such magnitude.
    """
    names = [parse_runtime(text).name for text in perturbations]
    both = [p if s == "nominal" else f"{s}{JOINT}{p}" for p in names for s in scenarios]
    return (*scenarios, *both)


def _part(name: str) -> Scenario:
    if name in SCENARIOS:
        return SCENARIOS[name]
    mode, _ = split_magnitude(name)
    if mode in MODES:
        perturbation = parse_runtime(name)
        return Scenario(name, "perturbation", perturbation.description, perturbations=(perturbation,))
    if ":" not in name:
        raise UnknownNameError("scenario", name, [*SCENARIOS, *runtime_modes()])
    return SCENARIOS[name]
