"""Images of MuJoCo scenes, from cameras given by their poses."""

from __future__ import annotations

import atexit
import importlib
import math
import os
import sys
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.errors import MissingRendererError
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.contract import Camera
from failsafe.simulators.mujoco.bindings import MjModel, mujoco
from failsafe.simulators.mujoco.state import SimulationState

_LARGEST = 1024
"""Largest height and width of an image, pixels."""
_MOST_SHAPES = 2000
"""Shapes, decorations included, that a scene can have."""


def _context_class() -> type[Any]:
    """Return MuJoCo's class of OpenGL contexts: EGL where there is no display, or what MUJOCO_GL asks for."""
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    # `mujoco` reads MUJOCO_GL when it is imported; robosuite sets it to "egl" later.
    if sys.platform == "linux" and (wanted == "egl" or not (wanted or os.environ.get("DISPLAY"))):
        return importlib.import_module("mujoco.egl").GLContext
    return mujoco.gl_context.GLContext


class SceneRenderer:
    """Renders the scene of a model, in data of its own.

    Without a GPU, the time goes into shadows, reflections and antialiasing, and not into pixels. They are
    left out by default, which is about ten times faster.

    Args:
        model: The compiled model.
        full_quality: Render shadows, reflections and antialiasing.
        hidden_groups: Groups of shapes that are not shown, such as those for collisions.
        moving_headlight: Let the headlight shine from the camera, as MuJoCo's own cameras do, instead of
            from one place for all cameras.

    Raises:
        MissingRendererError: If this machine has no renderer.
    """

    def __init__(
        self,
        model: MjModel,
        full_quality: bool = False,
        hidden_groups: Collection[int] = (),
        moving_headlight: bool = False,
    ) -> None:
        self._model, self._moving_headlight = model, moving_headlight
        self._data = mujoco.MjData(model)
        self._state = SimulationState(model, self._data)
        self._scene: Any = mujoco.MjvScene(model, maxgeom=_MOST_SHAPES)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = int(full_quality)
        self._options: Any = mujoco.MjvOption()
        for group in hidden_groups:
            self._options.geomgroup[group] = 0
        self._context: Any = None
        self._buffers: Any = None
        if not full_quality:
            model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = _LARGEST

    def render(
        self, cameras: Sequence[Camera], size: int, state: Float32[np.ndarray, "S"], tool: tuple[int, Pose]
    ) -> UInt8[np.ndarray, "V H W 3"]:
        """Render square RGB images of a state.

        Args:
            cameras: The V cameras, whose poses are in the world or in the tool frame.
            size: Height and width, pixels, at most 1,024.
            state: The state. [S]
            tool: Id of the body that moves with the tool, and the tool's pose in its frame.
        """
        self._state.write(state)
        body, offset = tool
        hand = np.concatenate([self._data.xpos[body], self._data.xquat[body]])
        self._open()
        options, free = self._options, mujoco.MjvCamera()
        everything, area = mujoco.mjtCatBit.mjCAT_ALL, mujoco.MjrRect(0, 0, size, size)
        mujoco.mjv_updateScene(self._model, self._data, options, None, free, everything, self._scene)
        images = np.empty((len(cameras), size, size, 3), dtype=np.uint8)
        for image, camera in zip(images, cameras, strict=True):
            frame = poses.compose(hand, offset) if camera.mounted else poses.IDENTITY
            self._aim(self._scene, poses.compose(frame, np.asarray(camera.pose)), camera.fov)
            mujoco.mjr_render(area, self._scene, self._buffers)
            mujoco.mjr_readPixels(image, None, area, self._buffers)
        return images[:, ::-1].copy()  # OpenGL's first row is the lowest

    def close(self) -> None:
        """Release the renderer. It is made again when it is needed."""
        if self._context is not None:
            self._buffers.free()
            self._context.free()
            self._context = None
        atexit.unregister(self.close)

    def _open(self) -> None:
        """Make an OpenGL context and the buffers in it, or make the context current."""
        if self._context is None:
            try:
                self._context = _context_class()(_LARGEST, _LARGEST)
                self._context.make_current()
                self._buffers = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
            except Exception as error:  # the classes differ between EGL, OSMesa and GLFW
                self._context = None
                raise MissingRendererError(
                    f"expected a working OpenGL driver for MuJoCo, got none ({error}): install libegl1 and "
                    "libgl1-mesa-dri, or set MUJOCO_GL=osmesa and install libosmesa6"
                ) from error
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._buffers)
            atexit.register(self.close)  # the context must go before the driver does
        self._context.make_current()

    def _aim(self, scene: Any, pose: Pose, fov: float) -> None:
        """Point both of MuJoCo's stereo cameras the same way: forward is +x of the pose, up is +z."""
        forward, up = poses.rotate(pose[3:], (1.0, 0.0, 0.0)), poses.rotate(pose[3:], (0.0, 0.0, 1.0))
        for camera in scene.camera:
            camera.pos[:], camera.forward[:], camera.up[:] = pose[:3], forward, up
            half = camera.frustum_near * math.tan(fov / 2)
            camera.frustum_bottom, camera.frustum_top = -half, half
            camera.frustum_center, camera.frustum_width = 0.0, 0.0
        for light in scene.lights[: scene.nlight]:
            if light.headlight and self._moving_headlight:
                light.pos[:], light.dir[:] = pose[:3], forward
