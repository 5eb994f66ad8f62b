"""Images of ManiSkill tasks, rendered in a second environment whose state the adapter sets.

The module uses SAPIEN's cameras directly. ManiSkill's sensors go through torch and render more than needed.
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

from failsafe.errors import MissingRendererError, UnknownNameError, UserError
from failsafe.records import poses
from failsafe.simulators.cameras import look_at
from failsafe.simulators.contract import Camera
from failsafe.simulators.maniskill.frames import base_pose, tool_pose
from failsafe.simulators.maniskill.meshes import MeshLibrary
from failsafe.simulators.maniskill.resets import Resets
from failsafe.simulators.maniskill.scene import to_array, to_sapien
from failsafe.simulators.maniskill.tasks import make_env

_SHADERS = "minimal"
"""The shader pack of ManiSkill's own image observations."""
_NEAR, _FAR = 0.01, 100.0
"""Near and far plane of the cameras, metres."""
_CUDA_PROBE = "import sapien; sapien.render.RenderSystem(sapien.Device('cuda'))"
_PROBE_SECONDS = 60


# In a Panda's base frame the middle of ManiSkill's table is at x = 0.615 m. Objects lie within 0.2 m of it.
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
    """Return a default camera: `front` (facing the robot), `side` (at its right) or `hand` (on the tool).

    Raises:
        UnknownNameError: If there is no camera of that name.
    """
    if name not in _CAMERAS:
        raise UnknownNameError("camera", name, _CAMERAS)
    return _CAMERAS[name]


@functools.cache
def rendering_device() -> str:
    """Return the rendering device of this machine: "cuda" if it can render, else "cpu".

    Raises:
        MissingRendererError: If neither can render.
    """
    if _cuda_renders():
        return "cuda"
    try:
        sapien.render.RenderSystem(sapien.Device("cpu"))
    except RuntimeError as error:
        raise MissingRendererError(
            f"expected a Vulkan driver, of a GPU or Mesa's software renderer, got none that works ({error}): "
            "run `failsafe doctor` for the command that installs it"
        ) from error
    return "cpu"


class SceneRenderer:
    """Renders one ManiSkill task. A process can hold several renderers.

    Args:
        task: Name of the environment.
        full_meshes: Keep the robot's full meshes: four times slower without a GPU.
        show_goals: Show the goal markers that ManiSkill hides from image observations.

    Attributes:
        env: The unwrapped environment. Callers set its state before `render`. It is never stepped.

    Raises:
        MissingRendererError: If this machine has no renderer.
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
        """Reset to a seed. If the task's shapes depend on the seed, `env` has new entities afterwards."""
        if self._resets.reset(seed)["reconfigure"]:
            self._enter_scene()

    def render(self, cameras: Sequence[Camera], size: int) -> UInt8[np.ndarray, "V H W 3"]:
        """Render square RGB images of the current state of `env`.

        Args:
            cameras: The V cameras.
            size: Height and width, pixels.

        Raises:
            UserError: If a camera is mounted on the tool of a robot without a tool.
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
        images = np.empty((len(components), size, size, 3), dtype=np.uint8)
        for image, component in zip(images, components, strict=True):
            image[:] = component.get_picture("Color")[..., :3]
        return images

    def close(self) -> None:
        """Release the environment."""
        self._cameras = {}
        self._scene = None
        self.env.close()

    def _enter_scene(self) -> None:
        """Prepare a new scene for rendering."""
        self._scene: Any = self.env.scene.sub_scenes[0]
        self._cameras: dict[tuple[int, int], Any] = {}
        if self._library is not None:
            self._library.lighten(self._link_entities())

    def _link_entities(self) -> Iterable[Any]:
        return (link._objs[0].entity for link in self.env.agent.robot.links)

    def _tool_pose(self) -> Any:
        if not hasattr(self.env.agent, "tcp"):
            raise UserError(
                "expected a robot with a tool for a mounted camera, got one without: use another camera"
            )
        return tool_pose(self.env.agent)

    def _camera(self, target: int, size: int) -> Any:
        """Return the camera of image number `target`. Moving a camera is faster than making one."""
        if (target, size) not in self._cameras:
            from mani_skill.render.shaders import PREBUILT_SHADER_CONFIGS, set_shader_pack

            # Shaders and pixel formats are global in SAPIEN; other code may have changed them.
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
    # With some drivers, a GPU that cannot render ends the process. The test therefore runs in a new process.
    probe = [sys.executable, "-c", _CUDA_PROBE]
    try:
        return subprocess.run(probe, capture_output=True, timeout=_PROBE_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
