"""Pictures of ManiSkill tasks, from a second environment of the task whose state the adapter sets.

SAPIEN's cameras are asked directly: ManiSkill's sensors go through torch, and render what nobody looks at.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sapien
from jaxtyping import UInt8
from scipy.spatial.transform import Rotation

from failsafe.errors import MissingRendererError, UnknownNameError, UserError
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.contract import Camera
from failsafe.simulators.maniskill.frames import base_pose, tool_pose
from failsafe.simulators.maniskill.meshes import MeshLibrary
from failsafe.simulators.maniskill.resets import Resets
from failsafe.simulators.maniskill.scene import to_array, to_sapien
from failsafe.simulators.maniskill.tasks import make_env

_SHADERS = "minimal"
"""The shader pack of ManiSkill's own image observations: what policies trained there have seen."""
_NEAR, _FAR = 0.01, 100.0
"""Distances between which a camera sees, metres."""
_CUDA_PROBE = "import sapien; sapien.render.RenderSystem(sapien.Device('cuda'))"
_PROBE_SECONDS = 60


def look_at(eye: Sequence[float], target: Sequence[float], up: Sequence[float] = (0.0, 0.0, 1.0)) -> Pose:
    """The pose [7] of a camera at `eye` [3] (m) that looks along its +x at `target` [3], `up` [3] upwards."""
    forward = np.subtract(target, eye).astype(np.float64)
    forward /= np.linalg.norm(forward)
    left = np.cross(np.asarray(up, dtype=np.float64), forward)
    left /= np.linalg.norm(left)
    axes = np.stack([forward, left, np.cross(forward, left)], axis=1)
    x, y, z, w = Rotation.from_matrix(axes).as_quat().tolist()
    return poses.pose(np.array(eye), np.array([w, x, y, z]))


# Where a Panda stands, the middle of ManiSkill's tables is 0.615 m ahead, and objects lie within 0.2 m of it.
_CAMERAS = {
    camera.name: camera
    for camera in (
        Camera("front", tuple(look_at((1.30, 0.0, 0.68), (0.52, 0.0, 0.13)).tolist()), fov=0.8),
        Camera("side", tuple(look_at((0.65, -0.80, 0.58), (0.58, 0.0, 0.13)).tolist()), fov=0.8),
        Camera(
            "hand",
            tuple(look_at((0.115, 0.0, -0.075), (0.015, 0.0, 0.03), up=(1.0, 0.0, 0.0)).tolist()),
            fov=1.3,
            mounted=True,
        ),
    )
}


def default_camera(name: str) -> Camera:
    """`front` (across the table, at the robot), `side` (from the robot's right) or `hand` (over the fingers).

    Raises:
        UnknownNameError: If the name is another.
    """
    if name not in _CAMERAS:
        raise UnknownNameError("camera", name, _CAMERAS)
    return _CAMERAS[name]


@functools.cache
def rendering_device() -> str:
    """The device that renders here: "cuda" where there is one that can, else "cpu".

    Raises:
        MissingRendererError: If there is neither.
    """
    if _cuda_renders():
        return "cuda"
    try:
        sapien.render.RenderSystem(sapien.Device("cpu"))
    except RuntimeError as error:
        raise MissingRendererError(
            f"pictures need a Vulkan driver, a GPU's or Mesa's software one, and none works here ({error}): "
            "run `failsafe doctor` for the command that installs it"
        ) from error
    return "cpu"


class SceneRenderer:
    """One ManiSkill task to be looked at. Several can live in one process.

    Args:
        task: Name of the environment.
        full_meshes: Leave the robot's meshes as they are: slower by a factor of four without a GPU.
        show_goals: Show the marks of goals that ManiSkill hides from image observations.

    Attributes:
        env: The unwrapped environment, whose state is to be set before `render`. It has physics, but is
            never stepped.

    Raises:
        MissingRendererError: If nothing can render on this machine.
        UnknownNameError: If ManiSkill has no such task.
        MissingAssetsError: If its assets are not on this machine.
    """

    def __init__(self, task: str, *, full_meshes: bool = False, show_goals: bool = True) -> None:
        self._library = None if full_meshes else MeshLibrary()
        self._show_goals = show_goals
        self.env: Any = make_env(task, render_backend=rendering_device())
        self._resets = Resets(self.env)
        self._enter_scene()

    def prepare(self, seed: int) -> None:
        """Reset to a seed; where the shapes of the task depend on it, `env` has new entities afterwards."""
        if self._resets.reset(seed):
            self._enter_scene()

    def render(self, cameras: Sequence[Camera], size: int) -> UInt8[np.ndarray, "V H W 3"]:
        """Pictures of the state that `env` is in, RGB, square.

        Args:
            cameras: Where to look from.
            size: Height and width in pixels.

        Raises:
            UserError: If a camera is mounted on the tool of a robot that has none.
        """
        for actor in [] if self._show_goals else self.env._hidden_objects:
            actor.hide_visual()
        components: list[Any] = []
        for target, camera in enumerate(cameras):
            component = self._camera(target, size)
            frame = to_array(self._tool_pose() if camera.mounted else base_pose(self.env.agent))
            component.entity.pose = to_sapien(poses.compose(frame, np.asarray(camera.pose)))
            component.set_fovy(camera.fov, compute_x=True)
            components.append(component)
        self._scene.update_render()
        for component in components:
            component.take_picture()
        pictures = np.empty((len(components), size, size, 3), dtype=np.uint8)
        for picture, component in zip(pictures, components, strict=True):
            picture[:] = component.get_picture("Color")[..., :3]
        return pictures

    def close(self) -> None:
        """Let go of the environment."""
        self._cameras = {}
        self._scene = None
        self.env.close()

    def _enter_scene(self) -> None:
        """Make ready a scene that has just been built."""
        self._scene: Any = self.env.scene.sub_scenes[0]
        self._cameras: dict[tuple[int, int], Any] = {}
        if self._library is not None:
            self._library.lighten(self._link_entities())

    def _link_entities(self) -> Iterable[Any]:
        return (link._objs[0].entity for link in self.env.agent.robot.links)

    def _tool_pose(self) -> Any:
        if not hasattr(self.env.agent, "tcp"):
            raise UserError("a camera is mounted on the tool, but this task's robot names none: use another")
        return tool_pose(self.env.agent)

    def _camera(self, target: int, size: int) -> Any:
        """The camera that takes the picture number `target`: making one costs more than moving one."""
        if (target, size) not in self._cameras:
            from mani_skill.render.shaders import PREBUILT_SHADER_CONFIGS, set_shader_pack

            # Shaders and pixel formats are global in SAPIEN, and whoever made a camera last has set them.
            set_shader_pack(PREBUILT_SHADER_CONFIGS[_SHADERS])
            component: Any = sapien.render.RenderCameraComponent(size, size)
            component.near, component.far = _NEAR, _FAR
            entity: Any = sapien.Entity()
            entity.add_component(component)
            self._scene.add_entity(entity)
            self._cameras[target, size] = component
        return self._cameras[target, size]


def _cuda_renders() -> bool:
    try:
        sapien.Device("cuda")
    except RuntimeError:
        return False
    # On some drivers a GPU that computes but cannot render ends the process: it is tried in another one.
    probe = [sys.executable, "-c", _CUDA_PROBE]
    try:
        return subprocess.run(probe, capture_output=True, timeout=_PROBE_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
