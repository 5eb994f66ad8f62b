"""What all simulators on MuJoCo share: states, the grip, disturbances and images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.errors import UnknownNameError
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import (
    Camera,
    EpisodeSpec,
    Role,
    Simulator,
    SimulatorSpec,
    resolve_cameras,
)
from failsafe.simulators.mujoco.bindings import MjData, MjModel, mujoco
from failsafe.simulators.mujoco.contacts import GraspDetector
from failsafe.simulators.mujoco.forcing import Forcing
from failsafe.simulators.mujoco.rendering import SceneRenderer
from failsafe.simulators.mujoco.scene import SceneObject
from failsafe.simulators.mujoco.state import SimulationState


class MujocoSimulator(Simulator):
    """A simulator that steps MuJoCo.

    A subclass implements `reset`, `observe`, `command`, `evaluate` and `advance`. Its `reset` sets
    `_episode`, restores everything of the model that an episode changes, and ends with `_state.round()`.

    Args:
        model: The compiled model.
        data: Its data, with positions computed.
        spec: The description of the simulator.
        objects: The objects.
        fingers: Ids of the shapes of each of the two fingers.
        tool: Id of the body that moves with the tool, and the tool's pose in the frame of that body.
        cameras: The cameras of the spec.
        full_quality: Render shadows, reflections and antialiasing.
    """

    _episode: EpisodeSpec

    def __init__(
        self,
        model: MjModel,
        data: MjData,
        spec: SimulatorSpec,
        objects: Sequence[SceneObject],
        fingers: tuple[Collection[int], Collection[int]],
        tool: tuple[int, Pose],
        cameras: Sequence[Camera],
        full_quality: bool = False,
    ) -> None:
        self._model, self._data, self._spec, self._objects = model, data, spec, list(objects)
        self._tool, self._full_quality, self._made_full = tool, full_quality, full_quality
        self._samples = int(model.vis.quality.offsamples)
        self._cameras = {camera.name: camera for camera in cameras}
        self._state = SimulationState(model, data)
        self._forcing = Forcing(model, data, objects, tool[0])
        movable = [o for o in objects if o.spec.role is Role.MOVABLE]
        self._grasp = GraspDetector(model, data, fingers, movable)
        self._renderer: SceneRenderer | None = None

    @property
    def spec(self) -> SimulatorSpec:
        """The description of the simulator."""
        return self._spec

    @property
    def episode(self) -> EpisodeSpec:
        """The description of the current episode."""
        return self._episode

    @abstractmethod
    def advance(self, command: Float32[np.ndarray, "D"]) -> None:
        """Carry out a command with calls of `substeps`.

        Args:
            command: Native command. [D]
        """

    def step(self, command: Float32[np.ndarray, "D"], disturbances: Sequence[Disturbance] = ()) -> None:
        """Advance one control step. See `Simulator.step`.

        Raises:
            DivergedError: If the physics diverges.
            UnknownNameError: If a disturbance names an unknown object.
        """
        self._forcing.begin(disturbances)
        self.advance(command)
        self._forcing.end()
        self._state.round()

    def substeps(self, count: int) -> None:
        """Carry out physics steps, with the disturbances of this control step."""
        if not self._forcing.acts:
            mujoco.mj_step(self._model, self._data, count)
            return
        for _ in range(count):
            self._forcing.before_substep()
            mujoco.mj_step(self._model, self._data)
            self._forcing.after_substep()

    def tool_pose(self) -> Pose:
        """Return the pose of the tool in the world."""
        body, offset = self._tool
        return poses.compose(np.concatenate([self._data.xpos[body], self._data.xquat[body]]), offset)

    def held(self) -> tuple[str, ...]:
        """Return the names of the objects that both fingers press on from opposite sides."""
        return self._grasp.held()

    def state(self) -> Float32[np.ndarray, "S"]:
        """Return MuJoCo's integration state, rounded to float32."""
        return self._state.read()

    def restore(self, state: Float32[np.ndarray, "S"]) -> None:
        """Set the state, exactly."""
        self._state.write(state)

    def render(
        self, cameras: Sequence[str | Camera], size: int, state: Float32[np.ndarray, "S"] | None = None
    ) -> UInt8[np.ndarray, "V H W 3"]:
        """Render images in data of their own. See `Simulator.render`."""
        if self._renderer is None:
            self._renderer = self.make_renderer()
        state = self._state.read() if state is None else state
        return self._renderer.render(resolve_cameras(self, cameras), size, state, self._tool)

    def make_renderer(self) -> SceneRenderer:
        """Make the renderer. Override this for a scene with shapes that are not to be shown."""
        return SceneRenderer(self._model, self._full_quality)

    def render_fully(self, full: bool) -> None:
        """Choose the quality of the images. See `RendersFully`."""
        if (wanted := full or self._made_full) != self._full_quality:
            self.close()
            self._full_quality = wanted
            self._model.vis.quality.offsamples = self._samples  # an economical renderer sets it to 0

    def camera(self, name: str) -> Camera:
        """Return a camera of the spec.

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
