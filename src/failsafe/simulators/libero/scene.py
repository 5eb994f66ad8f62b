"""What is in the scene of a LIBERO task, by the names of its BDDL file: objects, regions and cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.cameras import look_at
from failsafe.simulators.contract import Camera, ObjectSpec, Role
from failsafe.simulators.libero.environment import TaskEnvironment
from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco
from failsafe.simulators.mujoco.scene import SceneObject, find_objects

HAND, GRIP_SITE = "robot0_right_hand", "gripper0_grip_site"
_FINGERS = (
    ("gripper0_leftfinger", "gripper0_finger_joint1_tip"),
    ("gripper0_rightfinger", "gripper0_finger_joint2_tip"),
)
_CAMERAS = {"front": "agentview", "hand": "robot0_eye_in_hand"}


@dataclass(frozen=True)
class Region:
    """A region of the goal, which is a site of the model.

    Attributes:
        spec: Its description.
        site: Id of the site.
    """

    spec: ObjectSpec
    site: int

    def pose(self, data: MjData) -> Pose:
        """Return its pose in the world, [7]."""
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, data.site_xmat[self.site])
        return np.concatenate([data.site_xpos[self.site], quaternion])


def scene_objects(environment: TaskEnvironment, model: MjModel, data: MjData) -> list[SceneObject]:
    """Return the objects of a task: movable ones first, those of the goal in its order before the others.

    Args:
        environment: LIBERO's environment of the task.
        model: A copy of its model.
        data: Data of the copy, with positions computed.
    """
    names = {model.body(int(body)).name: name for name, body in environment.env.obj_body_id.items()}
    fixtures = {model.body(body).name for body in environment.fixtures.values()}
    roots = {model.body(b).name for b in range(1, model.nbody) if not model.body_parentid[b]}
    found = find_objects(model, data, roots - set(names), names, fixtures, by_shape=True)
    first = goal_objects(environment, model, found)
    found.sort(key=lambda o: first.index(o.spec.name) if o.spec.name in first else len(first))
    return sorted(found, key=lambda o: o.spec.role is not Role.MOVABLE)


def goal_objects(environment: TaskEnvironment, model: MjModel, found: list[SceneObject]) -> list[str]:
    """Return the names of the movable objects and parts that the goal is about.

    Args:
        environment: LIBERO's environment of the task.
        model: Its model.
        found: The objects of the task.
    """
    names: dict[str, None] = {}
    for argument in (name for goal in environment.goals for name in goal.arguments):
        joints = set(environment.joints_of(argument))
        for o in found:
            own = {model.joint(j).name for j in o.joint_ids}
            if own and (o.spec.name == argument or joints & own):
                names[o.spec.name] = None
    return list(names)


def goal_regions(environment: TaskEnvironment, model: MjModel) -> list[Region]:
    """Return the regions that the goal names, each once.

    Args:
        environment: LIBERO's environment of the task.
        model: Its model.
    """
    sites = environment.env.object_sites_dict
    names = dict.fromkeys(name for goal in environment.goals for name in goal.arguments if name in sites)
    regions: list[Region] = []
    for name in names:
        x, y, z = np.abs(np.asarray(sites[name].size, dtype=np.float64)).tolist()
        regions.append(Region(ObjectSpec(name, Role.GOAL, (x, y, z)), int(model.site(name).id)))
    return regions


def finger_shapes(model: MjModel) -> tuple[set[int], set[int]]:
    """Return the ids of the shapes of the left and the right finger."""
    left, right = (
        {g for g in range(model.ngeom) if model.body(int(model.geom_bodyid[g])).name in bodies}
        for bodies in _FINGERS
    )
    return left, right


def tool_in_hand(model: MjModel, data: MjData) -> tuple[int, Pose]:
    """Return the id of the hand's body, and the tool in its frame: the grip site, turned as the hand is.

    Args:
        model: The compiled model.
        data: Its data, with positions computed.
    """
    hand = int(model.body(HAND).id)
    orientation = data.xquat[hand]
    frame = np.concatenate([data.xpos[hand], orientation])
    tool = np.concatenate([data.site_xpos[int(model.site(GRIP_SITE).id)], orientation])
    return hand, poses.relative(frame, tool)


def scene_cameras(model: MjModel, data: MjData, base: np.ndarray) -> list[Camera]:
    """Return the cameras: `front` (LIBERO's agentview), `side`, and `hand` (its eye_in_hand).

    Args:
        model: The compiled model.
        data: Its data, with positions computed.
        base: Position of the robot's base in the world. [3]
    """
    body, offset = tool_in_hand(model, data)
    tool = poses.compose(np.concatenate([data.xpos[body], data.xquat[body]]), offset)
    front, hand = (_pose_of(data, name) for name in _CAMERAS.values())
    front[:3] -= base
    mounted = poses.relative(tool, hand)
    front_view, hand_view = (float(np.deg2rad(model.camera(n).fovy[0])) for n in _CAMERAS.values())
    return [
        Camera("front", tuple(front.tolist()), front_view),
        Camera("side", tuple(look_at((0.6, 0.95, 0.55), (0.6, 0.0, 0.05)).tolist()), fov=0.8),
        Camera("hand", tuple(mounted.tolist()), hand_view, mounted=True),
    ]


def _pose_of(data: MjData, name: str) -> Pose:
    """Return the pose of a camera of the model as `Camera` states it: looking along +x, +z upwards."""
    camera = data.camera(name)
    right, up, back = camera.xmat.reshape(3, 3).T
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([-back, -right, up], axis=1).ravel())
    return np.concatenate([camera.xpos, quaternion])
