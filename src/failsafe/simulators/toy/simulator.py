"""The toy as a `Simulator`, on top of `physics`, `tasks` and `drawing`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.errors import DivergedError, UnknownNameError
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import (
    Camera,
    EpisodeSpec,
    Evaluation,
    Exactness,
    Observation,
    Role,
    SimulatorSpec,
    resolve_cameras,
)
from failsafe.simulators.toy import drawing
from failsafe.simulators.toy.body import STATE_SIZE, RigidBody
from failsafe.simulators.toy.gripper import ARM, CLOSING_SPEED, MAX_OPENING, SHOULDER, within_reach
from failsafe.simulators.toy.gripper import STATE_SIZE as GRIPPER_SIZE
from failsafe.simulators.toy.physics import SUBSTEP, SUBSTEPS, World
from failsafe.simulators.toy.tasks import PickTask, PushTask, StackTask, ToyTask

DENSITY = 1000.0
"""Density of the boxes, kg/m³."""

EMBODIMENT = EmbodimentSpec(
    robot="toy",
    control_hz=1.0 / (SUBSTEP * SUBSTEPS),
    max_translation=0.025,
    max_rotation=0.125,
    gripper_travel=MAX_OPENING,
    gripper_seconds=MAX_OPENING / CLOSING_SPEED,
    workspace_low=(0.15, -0.6, 0.005),
    workspace_high=(0.95, 0.6, 0.7),
    work_center=(0.6, 0.0, 0.15),
)
"""The embodiment of the toy: its gripper at the end of an arm that is not simulated."""


class ToySimulator:
    """One task of the toy.

    The state holds the gripper, then the boxes, then the goal poses (see `physics`).
    """

    task: ClassVar[type[ToyTask]]

    def __init__(self) -> None:
        task = self.task()
        self._task = task
        self._spec = SimulatorSpec(
            task=task.name,
            exactness=Exactness.RESTORE,
            embodiment=EMBODIMENT,
            command_size=8,
            cameras=tuple(drawing.CAMERAS),
            placement_center=(0.615, 0.0),
        )
        self._world = World(
            [
                RigidBody(o.name, o.half_extents, 8.0 * math.prod(o.half_extents) * DENSITY)
                for o in task.objects
                if o.role is Role.MOVABLE
            ]
        )
        self._rows = {body.name: i for i, body in enumerate(self._world.bodies)}
        self._goals: dict[str, list[float]] = {o.name: [] for o in task.objects if o.role is Role.GOAL}
        self.reset(0)

    @property
    def spec(self) -> SimulatorSpec:
        """The description of the simulator."""
        return self._spec

    @property
    def episode(self) -> EpisodeSpec:
        """The description of the current episode."""
        return self._episode

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> EpisodeSpec:
        """Begin an episode. See `Simulator.reset`.

        Raises:
            UnknownNameError: If `objects` names an unknown object.
        """
        layout = self._task.layout(self._task.generator(seed))
        for name, given in (objects or {}).items():
            if name not in layout:
                raise UnknownNameError("object", name, layout)
            layout[name] = given
        numbers = [*self._task.home, 0.0, 1.0, 0.0, 0.0, MAX_OPENING]
        for body in self._world.bodies:
            numbers += [*layout[body.name].tolist(), *([0.0] * (STATE_SIZE - 7))]
        for name in self._goals:
            numbers += layout[name].tolist()
        self._load(np.array(numbers, dtype=np.float32))
        self._episode = EpisodeSpec(seed, self._task.instruction, self._task.objects, self._task.goals)
        return self._episode

    def observe(self) -> Observation:
        """Return the ground truth of the current state."""
        numbers, at = self._state, GRIPPER_SIZE
        objects = np.empty((len(self._task.objects), 7))
        goals = iter(self._goals)
        for i, spec in enumerate(self._task.objects):
            if spec.name in self._rows:
                start = at + self._rows[spec.name] * STATE_SIZE
                objects[i] = numbers[start : start + 7]
            else:
                objects[i] = self._goals[next(goals)]
        return Observation(numbers[:7].astype(np.float64), float(numbers[7]), objects)

    def held(self) -> tuple[str, ...]:
        """Return the names of the held boxes."""
        return tuple(body.name for body in self._world.bodies if body.held)

    def state(self) -> Float32[np.ndarray, "S"]:
        """Return a copy of the complete state."""
        return self._state.copy()

    def restore(self, state: Float32[np.ndarray, "S"]) -> None:
        """Set the state, exactly."""
        self._load(state.copy())

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """Return the native command [8]: the tool pose, moved into reach, and the gripper opening (m).

        See `Simulator.command`.
        """
        opening = 0.5 * (min(1.0, max(-1.0, gripper)) + 1.0) * MAX_OPENING
        return np.array([*within_reach(target), opening], dtype=np.float32)

    def reachable(self, target: Pose) -> bool:
        """Return whether a tool pose [7] is within reach."""
        return math.dist(target[:3].tolist(), SHOULDER) <= ARM

    def step(self, command: Float32[np.ndarray, "D"], disturbances: Sequence[Disturbance] = ()) -> None:
        """Advance one control step of 50 ms. See `Simulator.step`.

        Raises:
            DivergedError: If the command is not finite.
            UnknownNameError: If a disturbance names an unknown box.
        """
        numbers: list[float] = command.tolist()
        if not all(map(math.isfinite, numbers)):
            raise DivergedError("expected a finite command, got one with NaN or infinity")
        forced: dict[str, tuple[float, ...]] = {}
        friction: dict[str, float] = {}
        for d in disturbances:
            if d.object not in self._rows:
                raise UnknownNameError("object", d.object, self._rows)
            if d.velocity is not None:
                forced[d.object] = d.velocity
            if d.friction is not None:
                friction[d.object] = d.friction
        with_tool = [d.object for d in disturbances if d.with_tool]
        self._world.step(numbers, forced, friction, with_tool)
        after = self._world.numbers()
        for goal in self._goals.values():
            after += goal
        self._load(np.array(after, dtype=np.float32))

    def evaluate(self) -> Evaluation:
        """Apply the success criterion to the current state."""
        return self._task.judge(self._world.bodies, self._goals)

    def render(
        self, cameras: Sequence[str | Camera], size: int, state: Float32[np.ndarray, "S"] | None = None
    ) -> UInt8[np.ndarray, "V H W 3"]:
        """Render images on the CPU. See `Simulator.render`."""
        now, found = self._state, resolve_cameras(self, cameras)
        if state is not None:
            self._load(state)
        images = drawing.draw(self._world, self._goals, self._task.objects, found, size)
        if state is not None:
            self._load(now)
        return images

    def camera(self, name: str) -> Camera:
        """Return a camera of the spec.

        Raises:
            UnknownNameError: If there is no camera of that name.
        """
        if name not in drawing.CAMERAS:
            raise UnknownNameError("camera", name, drawing.CAMERAS)
        return drawing.CAMERAS[name]

    def close(self) -> None:
        """Do nothing: there are no resources to release."""

    def _load(self, state: np.ndarray) -> None:
        # The world continues from the rounded numbers, so a stored and restored state continues identically.
        self._state = state
        numbers: list[float] = state.tolist()
        self._world.load(numbers)
        at = self._world.size
        for name in self._goals:
            self._goals[name] = numbers[at : at + 7]
            at += 7


class ToyPick(ToySimulator):
    """Bring a box to a point in the air and hold it there."""

    task = PickTask


class ToyPush(ToySimulator):
    """Push a box to a round region with the closed gripper."""

    task = PushTask


class ToyStack(ToySimulator):
    """Put one box on another and let go."""

    task = StackTask
