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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.errors import UnknownNameError
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
    GoalPredicate,
    ObjectSpec,
    Observation,
    Role,
    Simulator,
    SimulatorSpec,
    resolve_cameras,
)
from failsafe.simulators.libero.controller import MAX_ROTATION, MAX_TRANSLATION, OscController
from failsafe.simulators.libero.environment import TaskEnvironment, task_environment
from failsafe.simulators.libero.tasks import instruction
from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco
from failsafe.simulators.mujoco.contacts import GraspDetector
from failsafe.simulators.mujoco.forcing import Forcing
from failsafe.simulators.mujoco.rendering import SceneRenderer
from failsafe.simulators.mujoco.scene import SceneObject, find_objects, observe_objects, place_object
from failsafe.simulators.mujoco.state import SimulationState

CONTROL_HZ = 20.0
_PHYSICS_STEPS = 25
WAIT_STEPS = 10
"""Control steps without motion with which every LIBERO evaluation begins."""
_REST_SPEED, _REST_TURN = 0.02, 0.3
"""Speed up to which an object is at rest, m/s and rad/s."""
_NO_MOTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0], dtype=np.float32)
_HIDDEN_GROUPS = (0,)
"""robosuite's group of the shapes that collide, which its cameras do not show."""
_EXTRA = 10
"""Numbers of the controller in the state: the orientation to reach, and the target of the fingers."""
_ARM = [f"robot0_joint{i}" for i in range(1, 8)]
_FINGERS = ("gripper0_gripper_finger_joint1", "gripper0_gripper_finger_joint2")
_PAD_BODIES = (
    ("gripper0_leftfinger", "gripper0_finger_joint1_tip"),
    ("gripper0_rightfinger", "gripper0_finger_joint2_tip"),
)


@dataclass(frozen=True)
class _Region:
    """A region of the goal: a site of the model."""

    spec: ObjectSpec
    site: int


class LiberoSimulator(Simulator):
    """One LIBERO task.

    Args:
        task: Name of the task, "libero_goal/3" for example.
        full_quality: Render reflections and antialiasing.

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
        self.model: MjModel = copy.copy(self.environment.model)
        self.data: MjData = mujoco.MjData(self.model)
        model, data = self.model, self.data
        self._full_quality = full_quality
        self._renderer: SceneRenderer | None = None
        self._begun: tuple[int, np.ndarray] | None = None
        self._hand = int(model.body("robot0_right_hand").id)
        self._site = int(model.site("gripper0_grip_site").id)
        self._controller = self._make_controller()
        self._fixtures = list(self.environment.fixtures.values())
        self._state = SimulationState(model, data)
        self.environment.draw(0)
        self._take_layout()
        mujoco.mj_forward(model, data)
        self.base = data.xpos[int(model.body("robot0_base").id)].copy()
        self._objects = self._find_objects()
        self._regions = self._find_regions()
        self._forcing = Forcing(model, data, self._objects, self._hand)
        left, right = (
            {g for g in range(model.ngeom) if model.body(int(model.geom_bodyid[g])).name in bodies}
            for bodies in _PAD_BODIES
        )
        movable = [o for o in self._objects if o.spec.role is Role.MOVABLE]
        self._grasp = GraspDetector(model, data, (left, right), movable)
        self._concerned = self._find_concerned()
        self._spec = SimulatorSpec(
            task=task,
            exactness=Exactness.RESTORE,
            embodiment=EmbodimentSpec(
                robot="panda",
                control_hz=CONTROL_HZ,
                # An action of 1 along all three axes, as a policy may ask for; the arm lags behind.
                max_translation=MAX_TRANSLATION * 3**0.5,
                max_rotation=MAX_ROTATION * 3**0.5,
                gripper_travel=0.08,
                gripper_seconds=0.5,
                workspace_low=(0.05, -0.65, -0.1),
                workspace_high=(0.95, 0.65, 0.8),
                work_center=(0.6, 0.0, 0.15),
            ),
            command_size=7,
            cameras=("front", "side", "hand"),
            asset_licence="mixed, HOPE objects CC BY-NC-SA 4.0 (LIBERO)",
            placement_center=(0.6, 0.0),
        )
        self._cameras = self._make_cameras()
        self._task_instruction = instruction(task)
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

        Seeds 0 to 49 are LIBERO's stored initial states. From 50 on LIBERO draws one.
        """
        specs = (*(o.spec for o in self._objects), *(r.spec for r in self._regions))
        if self._begun is None or self._begun[0] != seed or objects:
            self._draw(seed)
            self._episode = EpisodeSpec(seed, self._task_instruction, specs, self.environment.goals)
            for name, pose in (objects or {}).items():
                self._place(name, pose)
            for _ in range(WAIT_STEPS):
                self.step(_NO_MOTION)
            self._begun = None if objects else (seed, self.state())
        else:
            self._clear()
            self.restore(self._begun[1])
        return self._episode

    def observe(self) -> Observation:
        """Return the ground truth of the current state."""
        rows = np.empty((len(self._objects) + len(self._regions), 7))
        rows[: len(self._objects)] = observe_objects(self._objects, self.data)
        for row, region in zip(rows[len(self._objects) :], self._regions, strict=True):
            row[:3] = self.data.site_xpos[region.site]
            mujoco.mju_mat2Quat(row[3:], self.data.site_xmat[region.site])
        rows[:, :3] -= self.base
        first, second = (float(self.data.joint(f"gripper0_finger_joint{i}").qpos[0]) for i in (1, 2))
        return Observation(self._tool_pose(), max(first - second, 0.0), rows)

    def held(self) -> tuple[str, ...]:
        """Return the names of the objects that both fingers press on from opposite sides."""
        return self._grasp.held()

    def state(self) -> Float32[np.ndarray, "S"]:
        """Return MuJoCo's integration state, what the controller keeps, and the poses of the fixtures."""
        kept = np.concatenate(
            [
                self._controller.orientation.ravel(),
                [self._controller.grip],
                self.model.body_pos[self._fixtures].ravel(),
                self.model.body_quat[self._fixtures].ravel(),
            ]
        )
        return np.concatenate([self._state.read(), kept.astype(np.float32)])

    def restore(self, state: Float32[np.ndarray, "S"]) -> None:
        """Set the state, exactly."""
        size, count = len(self._state.read()), len(self._fixtures)
        extra = state[size:].astype(np.float64)
        self._controller.orientation[:] = extra[:9].reshape(3, 3)
        self._controller.grip = float(extra[9])
        at = _EXTRA + 3 * count
        self.model.body_pos[self._fixtures] = extra[_EXTRA:at].reshape(count, 3)
        self.model.body_quat[self._fixtures] = extra[at:].reshape(count, 4)
        self._state.write(state[:size])

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """Return LIBERO's action: the displacement from the measured pose, and the grip (closes with +1).

        See `Simulator.command`.
        """
        delta = poses.delta_between(self._tool_pose(), target)
        command = np.empty(7, dtype=np.float32)
        command[:3] = np.clip(delta[:3] / MAX_TRANSLATION, -1.0, 1.0)
        command[3:6] = np.clip(delta[3:] / MAX_ROTATION, -1.0, 1.0)
        command[6] = -min(max(gripper, -1.0), 1.0)
        return command

    def step(self, command: Float32[np.ndarray, "D"], disturbances: Sequence[Disturbance] = ()) -> None:
        """Advance one control step. See `Simulator.step`.

        Raises:
            DivergedError: If the physics diverges.
            UnknownNameError: If a disturbance names an unknown object.
        """
        model, data, regions = self.model, self.data, {r.spec.name for r in self._regions}
        self._forcing.begin([d for d in disturbances if d.object not in regions])
        self._controller.set_goal(command[:6])
        grip = float(command[6])
        for _ in range(_PHYSICS_STEPS):
            if self._forcing.acts:
                self._forcing.before_substep()
            mujoco.mj_step1(model, data)
            self._controller.before_substep(grip)
            mujoco.mj_step2(model, data)
            if self._forcing.acts:
                self._forcing.after_substep()
        self._forcing.end()
        self._round()

    def evaluate(self) -> Evaluation:
        """Evaluate LIBERO's goal, and whether its objects are released and at rest.

        LIBERO's own criterion may hold while the object is still in the grip.
        """
        judged = self.environment.judge(self.model, self.data)
        held = set(self.held())
        released = not any(o.spec.name in held for o in self._concerned if o.is_free)
        resting = all(self._is_at_rest(o) for o in self._concerned)
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
        if self._renderer is None:
            self._renderer = SceneRenderer(self.model, self._full_quality, _HIDDEN_GROUPS, True)
        state = self._state.read() if state is None else state[: len(self._state.read())]
        self.model.site_rgba[:] = self.environment.site_colors(state[1 : 1 + self.model.nq])
        found = [self._in_world(camera) for camera in resolve_cameras(self, cameras)]
        return self._renderer.render(found, size, state, (self._hand, self._tool_in_hand))

    def camera(self, name: str) -> Camera:
        """Return a default camera: `front` (LIBERO's agentview), `side`, or `hand` (its eye_in_hand).

        Raises:
            UnknownNameError: If there is no camera of that name.
        """
        if name not in self._cameras:
            raise UnknownNameError("camera", name, self._cameras)
        return self._cameras[name]

    def close(self) -> None:
        """Release the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    # ---------------------------------------------------------------- episodes

    def _draw(self, seed: int) -> None:
        """Set the initial state of a seed."""
        stored = self.environment.stored
        drawn = self.environment.draw(0 if seed < len(stored) else seed)
        self._take_layout()
        start = stored[seed] if seed < len(stored) else drawn
        self._clear()
        nq = self.model.nq
        self.data.time, self.data.qpos[:], self.data.qvel[:] = start[0], start[1 : 1 + nq], start[1 + nq :]
        self._controller.begin()
        mujoco.mj_forward(self.model, self.data)
        self._round()

    def _clear(self) -> None:
        mujoco.mj_resetData(self.model, self.data)

    def _take_layout(self) -> None:
        """Take over where LIBERO has put the fixtures, rounded as the state is."""
        for array in ("body_pos", "body_quat", "site_pos"):
            getattr(self.model, array)[:] = getattr(self.environment.model, array)
        for body in self._fixtures:
            self.model.body_pos[body] = self.model.body_pos[body].astype(np.float32)
            self.model.body_quat[body] = self.model.body_quat[body].astype(np.float32)

    def _round(self) -> None:
        self._controller.orientation[:] = self._controller.orientation.astype(np.float32)
        self._controller.grip = float(np.float32(self._controller.grip))
        self._state.round()

    def _place(self, name: str, pose: Pose) -> None:
        """Place an object, or a region with what it is attached to."""
        world = np.concatenate([pose[:3] + self.base, pose[3:]])
        index = self._episode.object_index(name)
        if index < len(self._objects):
            place_object(self.model, self.data, self._objects[index], world)
        else:
            site = self._regions[index - len(self._objects)].site
            shift = world[:3] - self.data.site_xpos[site]
            root = int(self.model.body_rootid[int(self.model.site_bodyid[site])])
            carrier = next((o for o in self._objects if o.root == root and o.is_free), None)
            if carrier is not None:
                at = int(self.model.jnt_qposadr[carrier.joint_ids[0]])
                self.data.qpos[at : at + 3] += shift
            elif root in self._fixtures:
                self.model.body_pos[root] += shift
            else:
                self.model.site_pos[site] += shift
        mujoco.mj_forward(self.model, self.data)

    # ---------------------------------------------------------------- what is in the scene

    def _make_controller(self) -> OscController:
        official = self.environment.env.robots[0].controller
        return OscController(
            self.model,
            self.data,
            "gripper0_grip_site",
            _ARM,
            [int(self.model.actuator(name).id) for name in _FINGERS],
            official.initial_joint,
            (official.initial_ee_pos, official.initial_ee_ori_mat),
        )

    def _find_objects(self) -> list[SceneObject]:
        """Return the objects of the BDDL file, those of the goal first."""
        env, model = self.environment.env, self.model
        names = {model.body(int(body)).name: name for name, body in env.obj_body_id.items()}
        fixtures = {model.body(body).name for body in self._fixtures}
        roots = {model.body(b).name for b in range(1, model.nbody) if not model.body_parentid[b]}
        found = find_objects(model, self.data, roots - set(names), names, fixtures)
        found = [o for o in found if o.joint_ids or o.root in self._fixtures]
        wanted = {argument for goal in self.environment.goals for argument in goal.arguments}
        joints = {joint for name in wanted for joint in self.environment.joints_of(name)}
        first = [
            o for o in found if o.spec.name in wanted or joints & {model.joint(j).name for j in o.joint_ids}
        ]
        rest = [o for o in found if o not in first]
        ordered = [*first, *rest]
        return sorted(ordered, key=lambda o: o.spec.role is not Role.MOVABLE)

    def _find_regions(self) -> list[_Region]:
        sites = self.environment.env.object_sites_dict
        found: dict[str, _Region] = {}
        for goal in self.environment.goals:
            for name in goal.arguments:
                if name in sites:
                    x, y, z = np.abs(np.asarray(sites[name].size, dtype=np.float64)).tolist()
                    spec = ObjectSpec(name, Role.GOAL, (x, y, z))
                    found[name] = _Region(spec, int(self.model.site(name).id))
        return list(found.values())

    def _find_concerned(self) -> list[SceneObject]:
        """Return the movable objects and parts whose place decides about success."""
        wanted = {argument for goal in self.environment.goals for argument in goal.arguments}
        joints = {
            joint
            for goal in self.environment.goals
            if len(goal.arguments) == 1
            for joint in self.environment.joints_of(goal.arguments[0])
        }
        return [
            o
            for o in self._objects
            if o.joint_ids
            and (o.spec.name in wanted or joints & {self.model.joint(j).name for j in o.joint_ids})
        ]

    def _is_at_rest(self, found: SceneObject) -> bool:
        at = int(self.model.jnt_dofadr[found.joint_ids[0]])
        if not found.is_free:
            return abs(float(self.data.qvel[at])) <= _REST_SPEED
        linear, angular = self.data.qvel[at : at + 3], self.data.qvel[at + 3 : at + 6]
        return float(np.linalg.norm(linear)) <= _REST_SPEED and float(np.linalg.norm(angular)) <= _REST_TURN

    # ---------------------------------------------------------------- frames and cameras

    def _tool_pose(self) -> Pose:
        return np.concatenate([self.data.site_xpos[self._site] - self.base, self.data.xquat[self._hand]])

    @property
    def _tool_in_hand(self) -> Pose:
        hand = np.concatenate([self.data.xpos[self._hand] - self.base, self.data.xquat[self._hand]])
        return poses.relative(hand, self._tool_pose())

    def _in_world(self, camera: Camera) -> Camera:
        if camera.mounted:
            return camera
        x, y, z, *turn = camera.pose
        x, y, z = (np.array([x, y, z]) + self.base).tolist()
        return Camera(camera.name, (x, y, z, *turn), camera.fov)

    def _make_cameras(self) -> dict[str, Camera]:
        hand = self._camera_pose("robot0_eye_in_hand")
        front = self._camera_pose("agentview")
        mounted = poses.relative(self._tool_pose(), hand)
        side = look_at((0.6, 0.95, 0.55), (0.6, 0.0, 0.05))
        return {
            "front": Camera("front", tuple(front.tolist()), self._field_of_view("agentview")),
            "side": Camera("side", tuple(side.tolist()), fov=0.8),
            "hand": Camera(
                "hand", tuple(mounted.tolist()), self._field_of_view("robot0_eye_in_hand"), mounted=True
            ),
        }

    def _camera_pose(self, name: str) -> Pose:
        """Return the pose of a camera of the model, as `Camera` states it: looking along +x, +z upwards."""
        camera = self.data.camera(name)
        right, up, back = camera.xmat.reshape(3, 3).T
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, np.stack([-back, -right, up], axis=1).ravel())
        return np.concatenate([camera.xpos - self.base, quaternion])

    def _field_of_view(self, name: str) -> float:
        return float(np.deg2rad(self.model.camera(name).fovy[0]))
