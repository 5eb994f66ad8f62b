"""A Gymnasium wrapper that adds perturbations to a ManiSkill environment that somebody else made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32, UInt8

from failsafe.envs.control_modes import make_control_mode
from failsafe.envs.environment import as_perturbations
from failsafe.errors import UserError
from failsafe.perturbations.injection import Injection
from failsafe.perturbations.runtime import RuntimePerturbation, make_injection
from failsafe.records import poses
from failsafe.records.plan import OPEN
from failsafe.records.poses import Pose
from failsafe.records.trace import Disturbance
from failsafe.rollouts.hooks import Command
from failsafe.rollouts.loop import ControlLoop
from failsafe.simulators.contract import (
    Camera,
    EpisodeSpec,
    Evaluation,
    Exactness,
    Observation,
    Simulator,
    SimulatorSpec,
)


class PerturbedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A ManiSkill environment with perturbations: one environment, physics on the CPU.

    Observations, rewards and endings are those of the environment. Actions pass through unchanged, bit for
    bit, in every step in which no perturbation changes them. `info["perturbations"]` has, by name, the
    control step at which each perturbation first acted, None before.

    Args:
        env: The environment; its control mode is one of `failsafe.envs.control_modes`.
        perturbations: What goes wrong in every episode; the seed of the episode determines when and how much.

    Raises:
        UserError: If it is no ManiSkill environment, several in parallel, on a GPU, or of another control
            mode.
    """

    def __init__(
        self, env: gymnasium.Env[Any, Any], perturbations: Sequence[RuntimePerturbation] = ()
    ) -> None:
        super().__init__(env)
        _check(env.unwrapped)
        self.perturbations = tuple(perturbations)
        self._simulator = _SteppedByGymnasium(env)
        self._loop: ControlLoop | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, and draw the perturbations of the episode.

        Args:
            seed: Seed of the episode. Default: as ManiSkill draws it.
            options: Options of the environment.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        self._simulator.begin()
        episode = self._simulator.episode.seed
        drawn = [p.draw(episode, i) for i, p in enumerate(self.perturbations)]
        self._injections: list[Injection] = [make_injection(d, self._simulator) for d in drawn]
        self._loop = ControlLoop(self._simulator, self._injections)
        self._sent: Pose = self._loop.observation.tcp_pose
        return observation, {**info, "perturbations": self._steps()}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Carry out one step of the environment.

        Args:
            action: As the environment takes it.

        Raises:
            UserError: If `reset` was never called.
            DivergedError: If the physics diverges.
        """
        if self._loop is None:
            raise UserError("expected reset() before the first step")
        command = self._simulator.read(action)
        # What no perturbation changes is within any limit.
        self._sent = self._loop.step(command, (command.target, self._sent)).target
        observation, reward, terminated, truncated, info = self._simulator.result
        return observation, reward, terminated, truncated, {**info, "perturbations": self._steps()}

    def close(self) -> None:
        """Close the environment."""
        self._simulator.close()
        super().close()

    def _steps(self) -> dict[str, int | None]:
        return {p.name: i.step for p, i in zip(self.perturbations, self._injections, strict=True)}


def perturb(env: gymnasium.Env[Any, Any], perturbations: Sequence[str | RuntimePerturbation]) -> PerturbedEnv:
    """Wrap a ManiSkill environment so that things go wrong in it.

    Args:
        env: The environment, as `gymnasium.make` returns it: one environment, physics on the CPU, control
            mode `pd_joint_pos`, `pd_ee_delta_pose` or `pd_ee_target_delta_pose`.
        perturbations: Modes that need no plan, such as "slip", or "early_release:0.7" with a magnitude in the
            unit of the mode.

    Raises:
        UserError: If the environment is of another kind, a name is unknown, or a mode needs a plan.
    """
    return PerturbedEnv(env, as_perturbations(perturbations))


def _check(env: Any) -> None:
    try:
        from mani_skill.envs.sapien_env import BaseEnv
    except ImportError as error:
        raise UserError(
            "expected ManiSkill to be installed, for perturb wraps its environments: "
            "pip install 'failsafe-vla[maniskill]', or use make_env for other simulators"
        ) from error
    if not isinstance(env, BaseEnv):
        raise UserError(
            f"expected a ManiSkill environment, got {type(env).__name__}: use make_env for other simulators"
        )
    found: Any = env
    if found.num_envs != 1 or found.gpu_sim_enabled:
        raise UserError(
            f"expected one environment with physics on the CPU, got {found.num_envs} on the "
            f"{'GPU' if found.gpu_sim_enabled else 'CPU'}: make it with num_envs=1 and sim_backend='cpu'"
        )


class _SteppedByGymnasium(Simulator):
    """A ManiSkill environment as a simulator whose step is the environment's own.

    Args:
        env: The environment, wrapped as its owner has it.

    Attributes:
        result: What the environment's last step returned.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self._env = env
        self._base_env: Any = env.unwrapped
        self._scene: Any = None
        self._before_substep = self._base_env._before_simulation_step
        self._base_env._before_simulation_step = self._force
        self.result: tuple[Any, Any, Any, Any, dict[str, Any]]
        self.begin()

    def begin(self) -> None:
        """Find the robot and the objects of the episode that the environment has just begun."""
        from failsafe.simulators.maniskill.arm import Arm
        from failsafe.simulators.maniskill.embodiments import embodiment_of
        from failsafe.simulators.maniskill.forcing import Forcing
        from failsafe.simulators.maniskill.frames import base_pose
        from failsafe.simulators.maniskill.scene import StateLayout, task_bodies, to_array

        env = self._base_env
        if env.scene is not self._scene:
            self._scene = env.scene
            self._arm = Arm(env.agent)
            self._mode = make_control_mode(env, self._arm)
            self._layout, self._bodies = StateLayout(env), task_bodies(env)
            self._base = to_array(base_pose(env.agent))
            self._base_inverse = poses.inverse(self._base)
            self._forcing = Forcing(self._bodies, self._arm, self._base)
            self._rows = {name: slice(*found) for name, found in env.agent.controller.action_mapping.items()}
            self._spec = SimulatorSpec(
                task=env.spec.id if env.spec else type(env).__name__,
                exactness=Exactness.REPLAY,
                embodiment=embodiment_of(env.agent, self._arm),
                command_size=int(np.prod(env.single_action_space.shape)),
            )
        self._forcing.restore_friction()
        self._offset = np.zeros(6)
        seed = int(np.atleast_1d(env._episode_seed)[0])
        self._episode = EpisodeSpec(seed, "", tuple(b.spec for b in self._bodies))

    def read(self, action: Any) -> Command:
        """Return what an action asks for; `command` continues from it.

        Args:
            action: As the environment takes it.

        Raises:
            UserError: If it has another shape than the environment's actions.
        """
        self._action = action
        self._row = np.array(action.tolist() if hasattr(action, "tolist") else action, dtype=np.float64)
        row = self._row = self._row.reshape(-1)
        if row.size != self._spec.command_size:
            raise UserError(f"expected an action of {self._spec.command_size} numbers, got {row.size}")
        gripper = float(row[self._rows["gripper"]][0]) if "gripper" in self._rows else OPEN
        pose = self._mode.to_pose(row[self._rows["arm"]])
        # A relative action counts from where a perturbation has taken the tool. What the action asks for
        # without the perturbation is that far from there; else a drift would add up, step by step.
        self._asked = Command(poses.apply_delta(pose, -self._offset), gripper)
        return self._asked

    @property
    def spec(self) -> SimulatorSpec:
        """What the environment is and can do."""
        return self._spec

    @property
    def episode(self) -> EpisodeSpec:
        """The episode that the environment has begun."""
        return self._episode

    def observe(self) -> Observation:
        """Ground truth now."""
        from failsafe.simulators.maniskill.scene import to_array

        tcp = poses.compose(self._base_inverse, to_array(self._arm.tcp_pose))
        objects = [poses.compose(self._base_inverse, to_array(b.entity.pose)) for b in self._bodies]
        return Observation(tcp, self._arm.gripper_width, np.array(objects).reshape(-1, 7))

    def held(self) -> tuple[str, ...]:
        """Objects that both fingers press on from opposite sides."""
        return self._arm.held(self._base_env.scene.px, self._bodies)

    def state(self) -> Float32[np.ndarray, "S"]:
        """Joints and moving bodies."""
        return self._layout.read()

    def command(self, target: Pose, gripper: float) -> Float32[np.ndarray, "D"]:
        """Return the given action, with the parts replaced that ask for something else."""
        row, asked = self._row.copy(), self._asked.target
        self._offset = np.zeros(6)
        if not np.array_equal(target, asked):
            row[self._rows["arm"]] = self._mode.to_action(target)
            if self._mode.relative:
                self._offset = poses.delta_between(asked, target)
        if gripper != self._asked.gripper:
            row[self._rows["gripper"]] = gripper
        return row.astype(np.float32)

    def step(self, command: Float32[np.ndarray, "D"], disturbances: Sequence[Disturbance] = ()) -> None:
        """Step the environment; an action that is unchanged is passed on as it was given."""
        unchanged = np.array_equal(command, self._row.astype(np.float32))
        self._forcing.begin(disturbances)
        try:
            self.result = self._env.step(self._action if unchanged else command)
        finally:
            self._forcing.end()

    def evaluate(self) -> Evaluation:
        """Judge this moment as the environment does."""
        return Evaluation(bool(np.asarray(self._base_env.evaluate().get("success", False)).reshape(-1)[0]))

    def close(self) -> None:
        """Take the forcing out of the environment."""
        self._forcing.restore_friction()
        self._base_env._before_simulation_step = self._before_substep

    def reset(self, seed: int, objects: Mapping[str, Pose] | None = None) -> EpisodeSpec:
        """Not for the loop: the environment's owner resets it."""
        raise UserError("expected the environment itself to be reset")

    def restore(self, state: Float32[np.ndarray, "S"]) -> None:
        """Not for the loop: the environment's owner decides where an episode stands."""
        raise UserError("expected the environment itself to be restored")

    def camera(self, name: str) -> Camera:
        """Not for the loop: the environment has its own cameras."""
        raise UserError("expected the environment's own cameras")

    def render(
        self, cameras: Sequence[str | Camera], size: int, state: Float32[np.ndarray, "S"] | None = None
    ) -> UInt8[np.ndarray, "V H W 3"]:
        """Not for the loop: the environment renders."""
        raise UserError("expected the environment itself to render")

    def _force(self) -> None:
        self._before_substep()
        self._forcing.before_substep()
