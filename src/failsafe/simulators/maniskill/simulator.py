"""The ManiSkill adapter, which steps SAPIEN directly: several times faster than `env.step`.

ManiSkill builds the scene, draws the initial state and evaluates success. A control step sets joint targets
and runs physics substeps, without torch. `tests/simulators/maniskill` checks that the states equal those of
`env.step` under the same joint targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.errors import DivergedError
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import (
    Camera,
    EpisodeSpec,
    Evaluation,
    Exactness,
    Observation,
    Role,
    Simulator,
    SimulatorSpec,
    StepComparison,
    resolve_cameras,
)
from failsafe.simulators.maniskill.arm import Arm
from failsafe.simulators.maniskill.embodiments import embodiment_of
from failsafe.simulators.maniskill.forcing import Forcing
from failsafe.simulators.maniskill.frames import base_pose
from failsafe.simulators.maniskill.instructions import find_instruction
from failsafe.simulators.maniskill.resets import Resets
from failsafe.simulators.maniskill.scene import (
    StateLayout,
    move_to_fresh_scene,
    task_bodies,
    to_array,
    to_sapien,
)
from failsafe.simulators.maniskill.task_code import TaskCode
from failsafe.simulators.maniskill.tasks import make_env

_FAR = 100.0
"""Largest joint speed of converged physics, rad/s."""


class ManiSkillSimulator(Simulator):
    """One ManiSkill task on the CPU.

    Args:
        task: Name of the environment, for example "PickCube-v1".
        full_meshes: Render the robot's full meshes instead of the decimated ones.

    Raises:
        UnknownNameError: If ManiSkill has no such task.
        MissingAssetsError: If its assets are not on this machine.
        MissingRendererError: If this machine has no Vulkan device, which ManiSkill needs to build a scene.
        UserError: If the adapter does not support the robot, or the task does not say when it is solved.
    """

    def __init__(self, task: str, full_meshes: bool = False) -> None:
        self.env: Any = make_env(task)
        self._resets = Resets(self.env)
        self._task = task
        self._full_meshes = full_meshes
        self._renderer: Any = None
        self._seed: int | None = None
        self._rendered_seed: int | None = None
        self._code = TaskCode(task, self.env)
        self._start(0)
        self._spec = SimulatorSpec(
            task=task,
            exactness=Exactness.REPLAY,
            embodiment=embodiment_of(self.env.agent, self._arm),
            command_size=self._arm.command_size,
            cameras=("front", "side", "hand"),
            asset_licence="CC BY-NC 4.0 (ManiSkill)",
            placement_center=(0.615, 0.0),  # the origin of its tabletop tasks
            checked=self._code.checked,
        )

    def _start(self, seed: int) -> None:
        """Let ManiSkill draw the initial state of a seed, and store it."""
        if not self._code.checked and self._seed is not None:
            self._undo_episode()
        with self._code.own_code(f"reset to seed {seed}"):
            info = self._resets.reset(seed)
        if info["reconfigure"] or self._seed is None:
            self._entities = list(self.env.scene.sub_scenes[0].entities)
            self._layout = StateLayout(self.env, everything=not self._code.checked)
            self._bodies = task_bodies(self.env)
            self._arm = Arm(self.env.agent)
            self._base = to_array(base_pose(self.env.agent))
            self._base_inverse = poses.inverse(self._base)
            self._turned = bool((self._base[4:] != 0).any())
            self._forcing = Forcing(self._bodies, self._arm, self._base)
        self._initial = self._layout.read()
        self._marks = {b.spec.name: b.entity.pose for b in self._bodies if b.spec.role is not Role.MOVABLE}
        instruction = find_instruction(self._task, self.env)
        self._episode = EpisodeSpec(seed, instruction, tuple(b.spec for b in self._bodies))
        self._evaluation = self._code.read(info) if self._code.stateful else None
        self._seed = seed

    def _undo_episode(self) -> None:
        """Undo what an episode leaves behind although a reset may not set it: contacts, and poses.

        A task may evaluate contacts when it is reset, and set only some of the poses in
        `_initialize_episode`.
        """
        move_to_fresh_scene(self.env, self._entities)
        for actor in self.env.scene.actors.values():
            if actor.initial_pose is not None:
                actor._objs[0].pose = actor.initial_pose.sp

    @property
    def spec(self) -> SimulatorSpec:
        """The description of the simulator."""
        return self._spec

    @property
    def episode(self) -> EpisodeSpec:
        """The description of the current episode."""
        return self._episode

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> EpisodeSpec:
        """Begin an episode, in a new physics scene. See `Simulator.reset`."""
        if seed != self._seed or self._code.stateful:
            self._start(seed)
        self._forcing.restore_friction()
        for name, pose in self._marks.items():
            self._forcing.body(name).entity.pose = pose
        self._layout.write(self._initial)
        for name, pose in (objects or {}).items():
            self._forcing.body(name).entity.pose = to_sapien(poses.compose(self._base, pose))
        self._system = move_to_fresh_scene(self.env, self._entities)
        self._arm.begin()
        if objects and self._code.stateful:
            self._evaluation = self._code.evaluate()
        return self._episode

    def observe(self) -> Observation:
        """Return the ground truth of the current state."""
        objects = np.empty((len(self._bodies), 7))
        for row, body in enumerate(self._bodies):
            pose = body.entity.pose
            objects[row, :3], objects[row, 3:] = pose.p, pose.q
        tcp = to_array(self._arm.tcp_pose)
        if self._turned:
            tcp = poses.compose(self._base_inverse, tcp)
            objects = np.array([poses.compose(self._base_inverse, o) for o in objects]).reshape(-1, 7)
        else:  # the common case, which saves time in every control step: the base is not rotated
            tcp[:3] -= self._base[:3]
            objects[:, :3] -= self._base[:3]
        return Observation(tcp, self._arm.gripper_width, objects)

    def held(self) -> tuple[str, ...]:
        """Return the names of the objects that both fingers press on from opposite sides."""
        return self._arm.held(self._system, self._bodies)

    def state(self) -> Float32[np.ndarray, "S"]:
        """Return joint positions and velocities, then the pose and velocities of each movable body."""
        return self._layout.read()

    def restore(self, state: Float32[np.ndarray, "S"]) -> None:
        """Set the state. Inexact by millimetres, because it does not hold SAPIEN's contact caches."""
        self._layout.write(state)
        self._arm.begin()  # the next command continues from the restored joints
        if self._code.stateful:
            self._evaluation = self._code.evaluate()

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """Return the joint targets for a tool pose, by inverse kinematics. See `Simulator.command`."""
        return self._arm.command(target, gripper)

    def reachable(self, target: Pose) -> bool:
        """Return whether a straight path reaches a tool pose [7] in the robot base frame."""
        return self._arm.reachable(target)

    def closest_reachable(self, target: Pose) -> Pose:
        """Return a tool pose [7] (robot base frame), moved into reach if a reachable pose is near."""
        return self._arm.closest_reachable(target)

    def step(self, command: Float32[np.ndarray, "D"], disturbances: Sequence[Disturbance] = ()) -> None:
        """Advance one control step. See `Simulator.step`.

        Raises:
            DivergedError: If the joint speeds are not finite and reasonable.
            PlanError: If a drawing task has run out of steps.
            UnknownNameError: If a disturbance names an unknown object.
            UserError: If the task's `evaluate` does not say whether the task is solved.
        """
        self._arm.drive(command)
        self._forcing.begin(disturbances)
        self._code.before_control_step()
        for _ in range(self.env._sim_steps_per_control):
            if self._code.in_substeps:
                self._code.before_substep()
            self._forcing.before_substep()  # last, as nothing in the task resists a disturbance
            self._system.step()
            if self._code.in_substeps:
                self._code.after_substep()
        self._forcing.end()
        self._evaluation = self._code.after_control_step()
        velocities = self._arm.articulation.qvel.astype(np.float64)
        # The norm is an upper bound, and takes a third of the time. Both comparisons are false for NaN.
        if not float(velocities.dot(velocities)) < _FAR**2:
            speed = float(np.abs(velocities).max())
            if not speed < _FAR:
                raise DivergedError(f"{self._task}: the physics diverged (joint speed {speed:.3g} rad/s)")

    def evaluate(self) -> Evaluation:
        """Return the result of the task's own success criterion in the current state.

        A task that may keep values of its own is evaluated once in every control step, as by ManiSkill. This
        method returns that result.
        """
        return self._code.evaluate() if self._evaluation is None else self._evaluation

    def render(
        self, cameras: Sequence[str | Camera], size: int, state: Float32[np.ndarray, "S"] | None = None
    ) -> UInt8[np.ndarray, "V H W 3"]:
        """Render images in a second environment, which has a renderer. See `Simulator.render`."""
        from failsafe.simulators.maniskill.rendering import SceneRenderer

        if self._renderer is None:
            self._renderer = SceneRenderer(self._task, full_meshes=self._full_meshes)
        if self._rendered_seed != self._seed:
            self._renderer.prepare(self._seed)
            self._render_layout = StateLayout(self._renderer.env, everything=not self._code.checked)
            self._rendered_seed = self._seed
        self._render_layout.write(self._layout.read() if state is None else state)
        return self._renderer.render(resolve_cameras(self, cameras), size)

    def camera(self, name: str) -> Camera:
        """Return one of the default cameras."""
        from failsafe.simulators.maniskill.rendering import default_camera

        return default_camera(name)

    def compare_with_own_step(self, seed: int, commands: Float32[np.ndarray, "T D"]) -> StepComparison:
        """Compare one rollout with ManiSkill's `env.step`. See `ComparesOwnStep`."""
        from failsafe.simulators.maniskill.own_step import compare_with_env_step

        return compare_with_env_step(self._task, self, seed, commands)

    def close(self) -> None:
        """Release the environments."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self.env.close()
