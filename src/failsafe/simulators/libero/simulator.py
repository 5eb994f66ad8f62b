"""The LIBERO adapter, which steps MuJoCo directly.

LIBERO builds the scene and judges its predicates. A control step is one of `env.step` at 20 Hz: 25 physics
steps under the OSC controller, which is compiled here. `tests/simulators/libero` checks that the motion
equals that of `env.step`. The native command is LIBERO's own action: recorded commands replay in `env.step`.

An episode begins as in every published LIBERO evaluation: an initial state, then ten steps without motion
while the gripper opens. Seeds 0 to 49 are the 50 stored initial states, with the fixtures where seed 0 of
LIBERO's samplers puts them; from 50 on LIBERO's samplers draw objects and fixtures with that seed.

Poses are in the frame of the robot's base, whose axes are those of the world: `base` is its position there.
The tool is the grip site, LIBERO's `eef_pos`, with the orientation of the hand, its `eef_quat`: z is where
the fingers point, y is the direction in which they close.

Objects are named as in the BDDL file. Free objects and articulated parts (drawers, doors, knobs, named after
their bodies) are movable, fixtures are fixed, and the regions of the goal are goals.

An expert finds here, beside the contract: `model` and `data` (world frame, `base` converts),
`environment.goals`, `holds(GoalPredicate(...))` for any predicate of LIBERO ("on", "in", "open", "close",
"turnon", "turnoff") about any objects and regions, and `environment.joints_of(name)`: the joints that a
predicate about an object, fixture or region looks at.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import (
    Camera,
    EpisodeSpec,
    Evaluation,
    Exactness,
    GoalPredicate,
    Observation,
    SimulatorSpec,
    resolve_cameras,
)
from failsafe.simulators.libero.controller import MAX_ROTATION, MAX_TRANSLATION, OscController
from failsafe.simulators.libero.environment import LAYOUT, TaskEnvironment, task_environment
from failsafe.simulators.libero.scene import (
    GRIP_SITE,
    finger_shapes,
    goal_objects,
    goal_regions,
    scene_cameras,
    scene_objects,
    tool_in_hand,
)
from failsafe.simulators.libero.tasks import instruction
from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco
from failsafe.simulators.mujoco.rendering import SceneRenderer
from failsafe.simulators.mujoco.scene import SceneObject, observe_objects, place_object
from failsafe.simulators.mujoco.simulator import MujocoSimulator

CONTROL_HZ = 20.0
_PHYSICS_STEPS = 25
PACE = (0.0125, 0.065)
"""Metres and radians that the arm covers in a control step at an action of 1; about x it turns faster."""
SETTLE_SECONDS = 1.0
"""Time until the tool is within 5 mm and 2 degrees of its last target: measured were 5 control steps after a
translation along an axis, up to 16 after one along three, and 19 after a turn by 30 degrees about y."""
WAIT_STEPS = 10
"""Control steps without motion with which every LIBERO evaluation begins."""
_NO_MOTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0], dtype=np.float32)
_REST_SPEED, _REST_TURN = 0.02, 0.3
"""Speed up to which an object is at rest, m/s and rad/s."""
_NO_ROTATION = 1e-7
"""Numbers of a rotation up to which a command has none."""
_COLLISION_GROUP = 0
"""robosuite's group of the shapes that collide, which its cameras do not show."""
_CONTROLLER = 10
"""Numbers of the controller in the state: the orientation to reach, and the target of the fingers."""
_ARM = [f"robot0_joint{i}" for i in range(1, 8)]
_FINGER_ACTUATORS = ("gripper0_gripper_finger_joint1", "gripper0_gripper_finger_joint2")
_FINGER_JOINTS = ("gripper0_finger_joint1", "gripper0_finger_joint2")


class LiberoSimulator(MujocoSimulator):
    """One LIBERO task.

    Args:
        task: Name of the task, "libero_goal/3" for example.
        full_quality: Render reflections and antialiasing, as LIBERO does.

    Attributes:
        environment: LIBERO's own environment of the task, its goals and predicates.
        model: The compiled model, a copy of the environment's.
        data: Its data.
        base: Position of the robot's base in the world, metres. [3]

    Raises:
        UnknownNameError: If LIBERO has no such task.
        MissingAssetsError: If files of LIBERO are missing.
        UserError: If LIBERO is not installed, or MuJoCo's version settles its objects wrongly.
    """

    def __init__(self, task: str, full_quality: bool = False) -> None:
        self.environment: TaskEnvironment = task_environment(task)
        self.environment.draw(0)
        model = copy.copy(self.environment.model)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        self.model: MjModel = model
        self.data: MjData = data
        self.base = data.xpos[int(model.body("robot0_base").id)].copy()
        objects = scene_objects(self.environment, model, data)
        self._regions = goal_regions(self.environment, model)
        wanted = goal_objects(self.environment, model, objects)
        self._wanted = [o for o in objects if o.spec.name in wanted]
        self._fixtures = list(self.environment.fixtures.values())
        self._site = int(model.site(GRIP_SITE).id)
        self._finger_positions = [int(model.joint(name).qposadr[0]) for name in _FINGER_JOINTS]
        self._instruction = instruction(task)
        self._controller = self._make_controller()
        self._begun: tuple[int, np.ndarray] | None = None
        cameras = scene_cameras(model, data, self.base)
        super().__init__(
            model,
            data,
            _spec(task, cameras),
            objects,
            finger_shapes(model),
            tool_in_hand(model, data),
            cameras,
            full_quality,
        )
        self.reset(0)

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> EpisodeSpec:
        """Begin an episode. See `Simulator.reset`.

        Seeds 0 to 49 are LIBERO's stored initial states. From 50 on LIBERO draws one.
        """
        if self._begun is not None and self._begun[0] == seed and not objects:
            mujoco.mj_resetData(self.model, self.data)
            self.restore(self._begun[1])
            return self._episode
        self._begun = None
        self._set_initial_state(seed)
        specs = (*(o.spec for o in self._objects), *(r.spec for r in self._regions))
        self._episode = EpisodeSpec(seed, self._instruction, specs, self.environment.goals)
        for name, pose in (objects or {}).items():
            self._place(name, pose)
        self._controller.begin()
        self._state.round()
        for _ in range(WAIT_STEPS):
            self.step(_NO_MOTION)
        if not objects:
            self._begun = seed, self.state()
        return self._episode

    def observe(self) -> Observation:
        """Return the ground truth of the current state, with robosuite's readings of the robot."""
        rows = observe_objects(self._objects, self.data)
        if self._regions:
            rows = np.concatenate([rows, [region.pose(self.data) for region in self._regions]])
        rows[:, :3] -= self.base
        hand, _ = self._tool
        fingers = self.data.qpos[self._finger_positions]
        w, x, y, z = self.data.xquat[hand].tolist()
        readings = {
            "robot0_eef_pos": self.data.site_xpos[self._site].copy(),
            "robot0_eef_quat": np.array([x, y, z, w]),
            "robot0_gripper_qpos": fingers,
        }
        return Observation(self._tool_in_base(), max(float(fingers[0] - fingers[1]), 0.0), rows, readings)

    def state(self) -> Float32[np.ndarray, "S"]:
        """Return MuJoCo's integration state, what the controller keeps, and the poses of the fixtures."""
        kept = (
            self._controller.orientation.ravel(),
            [self._controller.grip],
            self.model.body_pos[self._fixtures].ravel(),
            self.model.body_quat[self._fixtures].ravel(),
        )
        return np.concatenate([self._state.read(), np.concatenate(kept).astype(np.float32)])

    def restore(self, state: Float32[np.ndarray, "S"]) -> None:
        """Set the state, exactly."""
        count = len(self._fixtures)
        size = len(state) - _CONTROLLER - 7 * count
        controller, places, turns = np.split(
            state[size:].astype(np.float64), [_CONTROLLER, _CONTROLLER + 3 * count]
        )
        self._controller.orientation[:] = controller[:9].reshape(3, 3)
        self._controller.grip = float(controller[9])
        self.model.body_pos[self._fixtures] = places.reshape(count, 3)
        self.model.body_quat[self._fixtures] = turns.reshape(count, 4)
        self._state.write(state[:size])

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """Return LIBERO's action: the displacement from the measured pose, and the grip (closes with +1).

        See `Simulator.command`.
        """
        delta = poses.delta_between(self._tool_in_base(), target)
        command = np.empty(7, dtype=np.float32)
        command[:3] = np.clip(delta[:3] / MAX_TRANSLATION, -1.0, 1.0)
        command[3:6] = np.clip(delta[3:] / MAX_ROTATION, -1.0, 1.0)
        # An action without rotation holds the last orientation; a rounding error would replace it.
        command[3:6][np.abs(command[3:6]) < _NO_ROTATION] = 0.0
        command[6] = -min(max(gripper, -1.0), 1.0)
        return command

    def step(self, command: Float32[np.ndarray, "D"], disturbances: Sequence[Disturbance] = ()) -> None:
        """Advance one control step. See `Simulator.step`. Disturbances of regions do nothing.

        Raises:
            DivergedError: If the physics diverges.
            UnknownNameError: If a disturbance names an unknown object.
        """
        regions = {region.spec.name for region in self._regions}
        super().step(command, [d for d in disturbances if d.object not in regions])

    def advance(self, command: Float32[np.ndarray, "D"]) -> None:
        """Carry out an action: the controller computes torques before each physics step."""
        model, data, forcing = self.model, self.data, self._forcing
        self._controller.set_goal(command[:6])
        grip = float(command[6])
        for _ in range(_PHYSICS_STEPS):
            if forcing.acts:
                forcing.before_substep()
            mujoco.mj_step1(model, data)
            self._controller.before_substep(grip)
            mujoco.mj_step2(model, data)
            if forcing.acts:
                forcing.after_substep()
        self._controller.round()

    def evaluate(self) -> Evaluation:
        """Evaluate LIBERO's goal, and whether its objects are released and at rest.

        LIBERO's own criterion may hold while the object is still in the grip.
        """
        judged = self.environment.judge(self.model, self.data)
        held = set(self.held())
        released = not any(o.spec.name in held for o in self._wanted if o.is_free)
        resting = all(self._is_at_rest(o) for o in self._wanted)
        terms = {f"{goal.relation}({', '.join(goal.arguments)})": float(ok) for goal, ok in judged.items()}
        terms |= {"libero": float(all(judged.values())), "released": float(released), "rest": float(resting)}
        return Evaluation(all(judged.values()) and released and resting, terms)

    def holds(self, goal: GoalPredicate) -> bool:
        """Return whether a predicate holds in the current state.

        Args:
            goal: A predicate of LIBERO about any objects and regions of the BDDL file.
        """
        return self.environment.judge(self.model, self.data, (goal,))[goal]

    def render(
        self, cameras: Sequence[str | Camera], size: int, state: Float32[np.ndarray, "S"] | None = None
    ) -> UInt8[np.ndarray, "V H W 3"]:
        """Render images in data of their own. See `Simulator.render`."""
        own = self._state.read()
        state = own if state is None else state[: len(own)]
        self.model.site_rgba[:] = self.environment.site_colors(state[1 : 1 + self.model.nq])
        found = [self._in_world(camera) for camera in resolve_cameras(self, cameras)]
        return super().render(found, size, state)

    def make_renderer(self) -> SceneRenderer:
        """Make a renderer that shows what LIBERO's shows."""
        return SceneRenderer(self.model, self._full_quality, {_COLLISION_GROUP}, moving_headlight=True)

    def _set_initial_state(self, seed: int) -> None:
        stored, own, model, data = self.environment.stored, self.environment.model, self.model, self.data
        start = self.environment.draw(0 if 0 <= seed < len(stored) else seed)
        if seed < len(stored):
            start = stored[seed]
        for array in LAYOUT:
            getattr(model, array)[:] = getattr(own, array)
        for body in self._fixtures:  # as they are in the state
            model.body_pos[body] = model.body_pos[body].astype(np.float32)
            model.body_quat[body] = model.body_quat[body].astype(np.float32)
        mujoco.mj_resetData(model, data)
        data.time, data.qpos[:], data.qvel[:] = start[0], start[1 : 1 + model.nq], start[1 + model.nq :]
        mujoco.mj_forward(model, data)

    def _place(self, name: str, pose: Pose) -> None:
        """Place an object, or a region together with what it is attached to."""
        world = np.concatenate([pose[:3] + self.base, pose[3:]])
        index = self._episode.object_index(name)
        if index < len(self._objects):
            place_object(self.model, self.data, self._objects[index], world)
        else:
            self._shift_region(self._regions[index - len(self._objects)].site, world[:3])
        mujoco.mj_forward(self.model, self.data)

    def _shift_region(self, site: int, position: np.ndarray) -> None:
        shift = position - self.data.site_xpos[site]
        root = int(self.model.body_rootid[int(self.model.site_bodyid[site])])
        carrier = next((o for o in self._objects if o.body == root and o.is_free), None)
        if carrier is not None:
            at = int(self.model.jnt_qposadr[carrier.joint_ids[0]])
            self.data.qpos[at : at + 3] += shift
        elif root in self._fixtures:
            self.model.body_pos[root] += shift
        else:
            self.model.site_pos[site] += shift

    def _make_controller(self) -> OscController:
        official = self.environment.env.robots[0].controller
        return OscController(
            self.model,
            self.data,
            GRIP_SITE,
            _ARM,
            [int(self.model.actuator(name).id) for name in _FINGER_ACTUATORS],
            official.initial_joint,
            (official.initial_ee_pos, official.initial_ee_ori_mat),
        )

    def _is_at_rest(self, found: SceneObject) -> bool:
        at = int(self.model.jnt_dofadr[found.joint_ids[0]])
        if not found.is_free:
            return abs(float(self.data.qvel[at])) <= _REST_SPEED
        linear, angular = self.data.qvel[at : at + 3], self.data.qvel[at + 3 : at + 6]
        return float(np.linalg.norm(linear)) <= _REST_SPEED and float(np.linalg.norm(angular)) <= _REST_TURN

    @property
    def tool_body(self) -> int:
        """Id of the body that has the orientation of the tool."""
        return self._tool[0]

    def _tool_in_base(self) -> Pose:
        hand, _ = self._tool
        return np.concatenate([self.data.site_xpos[self._site] - self.base, self.data.xquat[hand]])

    def _in_world(self, camera: Camera) -> Camera:
        if camera.mounted:
            return camera
        position = (np.array(camera.pose[:3]) + self.base).tolist()
        return dataclasses.replace(camera, pose=(*position, *camera.pose[3:]))


def _spec(task: str, cameras: Sequence[Camera]) -> SimulatorSpec:
    return SimulatorSpec(
        task=task,
        exactness=Exactness.RESTORE,
        embodiment=EmbodimentSpec(
            robot="panda",
            control_hz=CONTROL_HZ,
            # An action of 1 along all three axes, which a policy may ask for. The arm lags behind.
            max_translation=MAX_TRANSLATION * 3**0.5,
            max_rotation=MAX_ROTATION * 3**0.5,
            gripper_travel=0.08,
            gripper_seconds=0.5,
            pace=PACE,
            settle_seconds=SETTLE_SECONDS,
            workspace_low=(0.05, -0.65, -0.1),
            workspace_high=(0.95, 0.65, 0.8),
            work_center=(0.6, 0.0, 0.15),
        ),
        command_size=7,
        cameras=tuple(camera.name for camera in cameras),
        asset_licence="mixed; HOPE objects CC BY-NC-SA 4.0 (LIBERO)",
        placement_center=(0.6, 0.0),
    )
