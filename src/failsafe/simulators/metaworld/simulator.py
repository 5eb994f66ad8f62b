"""The Meta-World adapter, which steps MuJoCo directly.

Meta-World builds the scene, draws the initial state and evaluates success. A control step is four of its
environment steps with the same action, as `env.step` carries them out: move the mocap body that pulls the
hand, set the force of the fingers, run five physics steps and compute positions and contacts.
`tests/simulators/metaworld` checks that the states equal those of `env.step`. Unlike `env.step`, a command
can turn the hand.

The robot base frame is the world frame: the robot stands at the origin and faces +y.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance
from failsafe.simulators.cameras import look_at
from failsafe.simulators.contract import (
    Camera,
    EpisodeSpec,
    Evaluation,
    Exactness,
    JointType,
    ObjectSpec,
    Observation,
    Role,
    SimulatorSpec,
)
from failsafe.simulators.metaworld.environment import TaskEnvironment
from failsafe.simulators.metaworld.tasks import instruction, object_names
from failsafe.simulators.mujoco.bindings import mujoco
from failsafe.simulators.mujoco.scene import find_objects, observe_objects, place_object
from failsafe.simulators.mujoco.simulator import MujocoSimulator

CONTROL_HZ = 20.0
REPEATS = 4
"""Environment steps of Meta-World, 80 Hz, in a control step."""
_PHYSICS_STEPS = 5
"""Physics steps in an environment step."""
MAX_TRANSLATION = 0.04
"""Metres in a control step: four environment steps of 1 cm, Meta-World's largest action."""
_SCALE = 0.01
"""Metres that an action of 1 moves the mocap body in an environment step."""
_DOWN = np.array([1.0, 0.0, 1.0, 0.0])
"""Orientation of the mocap body in `env.step`, as Meta-World writes it: not of unit length."""
_DOWN_POSE: Pose = np.concatenate([np.zeros(3), _DOWN / np.sqrt(2.0)])
"""That orientation as a pose, at the origin."""
_SAME_ANGLE = 1e-3
"""Angle to that orientation up to which a command has exactly that one, radians."""
_SAG = np.array([0.0, 0.0, 0.0038])
"""How far the resting hand hangs below the mocap body, metres; the same within 0.3 mm all over the table."""
_TOOL: Pose = poses.pose((0.045, 0.0, 0.0), (1.0, 0.0, 1.0, 0.0))
"""The tool in the frame of the hand: midway between the fingertips; z is where the fingers point, y is the
direction in which they close."""
_MARGIN = 0.002
"""How far beyond the limits of the mocap body the hand may be where it starts, metres."""
_NOT_OBJECTS = ("base", "mocap", "tablelink", "RetainingWall", "table")
_PAD = 0.003
"""Half the thickness of a finger pad, metres."""
_GOAL = ObjectSpec("goal", Role.GOAL, (0.02, 0.02, 0.02))

_CAMERAS = (
    Camera("front", tuple(look_at((0.0, 1.55, 0.75), (0.0, 0.62, 0.12)).tolist()), fov=0.8),
    Camera("side", tuple(look_at((0.85, 0.45, 0.6), (0.0, 0.65, 0.12)).tolist()), fov=0.8),
    Camera(
        "hand",
        tuple(look_at((-0.12, 0.0, -0.13), (0.0, 0.0, 0.03), up=(1.0, 0.0, 0.0)).tolist()),
        fov=1.2,
        mounted=True,
    ),
)
"""`front` faces the robot, `side` stands at its right, `hand` moves with the tool."""


class MetaWorldSimulator(MujocoSimulator):
    """One Meta-World task.

    Args:
        task: Name of the task, "metaworld/pick-place-v3" for example.
        full_quality: Render shadows, reflections and antialiasing.

    Attributes:
        environment: Meta-World's own environment of the task.

    Raises:
        UnknownNameError: If Meta-World has no such task.
    """

    def __init__(self, task: str, full_quality: bool = False) -> None:
        self.environment = TaskEnvironment(task)
        model, data, env = self.environment.model, self.environment.data, self.environment.env
        self._seed: int | None = None
        self._low, self._high = env.mocap_low.copy(), env.mocap_high.copy()
        self._pads = [int(model.body(name).id) for name in ("leftpad", "rightpad")]
        # Views of MuJoCo's memory: asking the data for them takes longer than to change three numbers.
        self._mocap, self._effort = data.mocap_pos[0], data.ctrl
        mujoco.mj_forward(model, data)
        objects = find_objects(model, data, _NOT_OBJECTS, object_names(self.environment.name))
        sides = [[model.body(f"{side}{part}").id for part in ("claw", "pad")] for side in ("left", "right")]
        left, right = ({g for g in range(model.ngeom) if model.geom_bodyid[g] in side} for side in sides)
        reach = _SAG + _TOOL[0] * np.array([0.0, 0.0, 1.0])
        spec = SimulatorSpec(
            task=task,
            exactness=Exactness.RESTORE,
            embodiment=EmbodimentSpec(
                robot="sawyer",
                control_hz=CONTROL_HZ,
                max_translation=MAX_TRANSLATION,
                max_rotation=0.1,
                gripper_travel=0.092,
                gripper_seconds=0.2,
                workspace_low=_corner(self._low - reach - _MARGIN),
                workspace_high=_corner(self._high - reach + _MARGIN),
                work_center=(0.0, 0.65, 0.15),
            ),
            command_size=8,
            cameras=tuple(camera.name for camera in _CAMERAS),
            asset_licence="MIT (Meta-World)",
            placement_center=(0.0, 0.65),
        )
        tool = int(model.body("hand").id), _TOOL
        super().__init__(model, data, spec, objects, (left, right), tool, _CAMERAS, full_quality)
        self.reset(0)

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> EpisodeSpec:
        """Begin an episode. See `Simulator.reset`."""
        if seed != self._seed:
            self.environment.draw(seed)
            self._seed = seed
            specs = (*(o.spec for o in self._objects), _GOAL)
            self._episode = EpisodeSpec(seed, instruction(self._spec.task), specs)
        self.environment.begin()
        for name, pose in (objects or {}).items():
            self._place(name, pose)
        self._state.round()
        return self._episode

    def observe(self) -> Observation:
        """Return the ground truth of the current state."""
        left, right = self._pads
        between = self._data.xpos[left] - self._data.xpos[right]
        width = math.sqrt(between.dot(between)) - 2 * _PAD
        goal = np.concatenate([self.environment.goal, poses.IDENTITY[3:]])
        objects = np.concatenate([observe_objects(self._objects, self._data), goal[None]])
        return Observation(self.tool_pose(), max(width, 0.0), objects)

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """Return the action of each environment step, the orientation of the mocap body, and the grip.

        See `Simulator.command`.
        """
        hand = poses.compose(target, _TOOL_INVERSE)
        way = hand[:3] + _SAG - self._mocap
        turned = poses.distance(hand, _DOWN_POSE)[1] > _SAME_ANGLE
        command = np.empty(8, dtype=np.float32)
        command[:3] = np.minimum(np.maximum(way / (REPEATS * _SCALE), -1.0), 1.0)
        command[3:7] = hand[3:] if turned else _DOWN
        command[7] = -min(max(gripper, -1.0), 1.0)  # Meta-World's grip closes with +1
        return command

    def step(self, command: Float32[np.ndarray, "D"], disturbances: Sequence[Disturbance] = ()) -> None:
        """Advance one control step; a disturbance of the goal, which has no body, does nothing.

        See `Simulator.step`.
        """
        super().step(command, [d for d in disturbances if d.object != _GOAL.name])

    def advance(self, command: Float32[np.ndarray, "D"]) -> None:
        """Carry out the same action in four environment steps."""
        data, mocap, effort = self._data, self._mocap, float(command[7])
        move = command[:3] * np.float32(_SCALE)
        data.mocap_quat[0] = command[3:7]
        self._effort[:] = effort, -effort
        for _ in range(REPEATS):
            # np.clip takes twenty times as long for three numbers.
            mocap += move
            np.minimum(np.maximum(mocap, self._low, out=mocap), self._high, out=mocap)
            self.substeps(_PHYSICS_STEPS)
            mujoco.mj_forward(self._model, data)

    def evaluate(self) -> Evaluation:
        """Evaluate Meta-World's own success criterion in the current state."""
        terms = self.environment.evaluate()
        return Evaluation(bool(terms["success"]), terms)

    def _place(self, name: str, pose: Pose) -> None:
        """Place an object or the goal. The goal of an articulated object moves with it."""
        if name == _GOAL.name:
            self.environment.place_goal(pose[:3])
            return
        found = self._objects[self._episode.object_index(name)]
        shift = pose[:3] - found.position(self._data)
        place_object(self._model, self._data, found, pose)
        if found.spec.joint is not None and found.spec.joint.type is not JointType.PLANAR:
            self.environment.place_goal(self.environment.goal + shift)
        mujoco.mj_forward(self._model, self._data)


_TOOL_INVERSE = poses.inverse(_TOOL)


def _corner(position: np.ndarray) -> tuple[float, float, float]:
    x, y, z = np.round(position, 6).tolist()
    return (x, y, z)
