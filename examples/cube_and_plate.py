"""A simulator of one's own on the MuJoCo engine: put the cube on the plate. See docs/simulators.md."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from failsafe.experts.tasks import Task
from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.plan import CLOSED, OPEN, Stage
from failsafe.records.poses import Pose
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators import contract
from failsafe.simulators.cameras import look_at
from failsafe.simulators.mujoco.bindings import mujoco
from failsafe.simulators.mujoco.scene import find_objects, observe_objects, place_object
from failsafe.simulators.mujoco.simulator import MujocoSimulator

SUBSTEPS, TRAVEL = 10, 0.04  # physics steps of 5 ms in a control step; metres that each finger moves
DOWN = (0.0, 1.0, 0.0, 0.0)  # the tool points down, its fingers close along y
CAMERAS = (
    contract.Camera("front", tuple(look_at((1.0, 0.0, 0.45), (0.45, 0.0, 0.1)).tolist())),
    contract.Camera("hand", tuple(look_at((0.15, 0.0, -0.12), (0.0, 0.0, 0.03)).tolist()), mounted=True),
)
ROBOT = EmbodimentSpec(
    robot="hand",
    control_hz=20.0,
    max_translation=0.02,
    max_rotation=0.1,
    gripper_travel=2 * TRAVEL,
    gripper_seconds=0.2,
    workspace_low=(0.15, -0.4, 0.015),
    workspace_high=(0.75, 0.4, 0.5),
)
SPEC = contract.SimulatorSpec("CubeAndPlate", contract.Exactness.RESTORE, ROBOT, 8, ("front", "hand"))


class CubeAndPlate(MujocoSimulator):
    """A cube, a plate and a drawer in front of a two-finger hand."""

    def __init__(self) -> None:
        model = mujoco.MjModel.from_xml_path(str(Path(__file__).with_suffix(".xml")))
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        objects = find_objects(model, data, not_objects=("hand", "target"))
        left, right = (set(model.body(name).geomadr.tolist()) for name in ("left finger", "right finger"))
        tool = model.body("hand").id, poses.IDENTITY
        super().__init__(model, data, SPEC, objects, (left, right), tool, CAMERAS)
        self._layout = model.body_pos.copy()
        self.reset(0)

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> contract.EpisodeSpec:
        """Draw where cube and plate are. See `Simulator.reset`."""
        mujoco.mj_resetData(self._model, self._data)
        self._model.body_pos[:] = self._layout  # places of fixed bodies are not in the state
        mujoco.mj_forward(self._model, self._data)
        specs = tuple(found.spec for found in self._objects)
        self._episode = contract.EpisodeSpec(seed, "Put the cube on the plate", specs)
        rng = np.random.default_rng(seed)
        cube = poses.pose(rng.uniform((0.3, -0.2, 0.02), (0.45, 0.0, 0.02)))
        plate = poses.pose(rng.uniform((0.3, 0.12, 0.004), (0.5, 0.25, 0.004)))
        for name, pose in {"cube": cube, "plate": plate, **(objects or {})}.items():
            index = self._episode.object_index(name)
            place_object(self._model, self._data, self._objects[index], pose)
        self._state.round()  # the simulation goes on from what is recorded
        return self._episode

    def observe(self) -> contract.Observation:
        """Return the ground truth of the current state."""
        opening = float(self._data.joint("left").qpos[0] + self._data.joint("right").qpos[0])
        objects = observe_objects(self._objects, self._data)
        return contract.Observation(self.tool_pose(), max(opening, 0.0), objects)

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """Return the next pose of the mocap body, and the position of each finger."""
        now = poses.pose(self._data.mocap_pos[0], self._data.mocap_quat[0])
        pose = poses.limit_step(now, ROBOT.clip_to_workspace(target), *ROBOT.step_limits)
        return np.array([*pose, TRAVEL * (1.0 + gripper) / 2], dtype=np.float32)

    def advance(self, command: Float32[np.ndarray, "D"]) -> None:
        """Carry out a command."""
        self._data.mocap_pos[0], self._data.mocap_quat[0] = command[:3], command[3:7]
        self._data.ctrl[:] = command[7]
        self.substeps(SUBSTEPS)

    def evaluate(self) -> contract.Evaluation:
        """Return whether the cube lies on the plate, released."""
        seen = self.observe().objects
        offset = seen[self._episode.object_index("cube")] - seen[self._episode.object_index("plate")]
        far, height = float(np.hypot(*offset[:2])), float(offset[2])
        success = far < 0.05 and 0.02 < height < 0.03 and not self.held()
        return contract.Evaluation(success, {"far": far, "height": height})


class Expert:
    """Grasps the cube, carries it over the plate, and lets it go."""

    def solve(self, runner: RolloutRunner) -> None:
        """Solve the task from the present state."""
        seen, index = runner.observation.objects, runner.simulator.episode.object_index
        cube, plate = seen[index("cube"), :3], seen[index("plate"), :3]
        for name, at, height, gripper, hold in (
            ("reach the cube", cube, 0.12, OPEN, 2),
            ("lower to the cube", cube, 0.0, OPEN, 4),
            ("close gripper", cube, 0.0, CLOSED, 6),
            ("lift", cube, 0.12, CLOSED, 2),
            ("carry over the plate", plate, 0.12, CLOSED, 4),
            ("lower onto the plate", plate, 0.027, CLOSED, 4),
            ("open gripper", plate, 0.027, OPEN, 6),
            ("retreat", plate, 0.12, OPEN, 2),
        ):
            target = poses.pose(at + np.array([0.0, 0.0, height]), DOWN)
            runner.do(Stage(name, tuple(target.tolist()), gripper, hold, speed=0.7))


def make() -> Task:
    """Return the task: `examples.cube_and_plate:make` on the command line."""
    return Task(CubeAndPlate(), Expert())
