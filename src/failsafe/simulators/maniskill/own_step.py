"""Compare the adapter with ManiSkill's own `env.step`, under the same commands.

The adapter runs the physics and the task's own code by itself, which is several times faster. This module
shows that a task which no test of ours covers is the same task in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from failsafe.simulators.contract import StepComparison
from failsafe.simulators.maniskill.scene import StateLayout
from failsafe.simulators.maniskill.task_code import TaskCode
from failsafe.simulators.maniskill.tasks import make_env

if TYPE_CHECKING:
    from failsafe.simulators.maniskill.simulator import ManiSkillSimulator

_REWARDS = "none"
"""Reward mode of the comparison: many tasks of users define no dense reward, ManiSkill's default."""

_ROUNDING = 1e-6
"""Largest difference of a kinematic pose that counts as equal: PhysX normalizes its quaternion anew in a new
scene. What the physics moves must be equal bit for bit."""


@dataclass(frozen=True)
class _Number:
    """One number of a state.

    Attributes:
        owner: What it belongs to, for messages.
        tolerance: Largest difference that counts as equal.
    """

    owner: str
    tolerance: float = 0.0


@dataclass(frozen=True)
class _Rollout:
    """The states of one rollout and whether the task was solved in each.

    Attributes:
        states: One state more than commands. [T + 1, S]
        successes: Success after each command. [T]
        targets: Joint targets that the robot followed. [T, D]
    """

    states: Float32[np.ndarray, "T1 S"]
    successes: Sequence[bool]
    targets: Float32[np.ndarray, "T D"]


def compare_with_env_step(
    task: str, simulator: ManiSkillSimulator, seed: int, commands: Float32[np.ndarray, "T D"]
) -> StepComparison:
    """Compare one rollout of the adapter with `env.step` in an environment of its own.

    Args:
        task: Name of the environment.
        simulator: The adapter; its episode ends.
        seed: Seed of the initial state.
        commands: Joint targets of the rollout. [T, D]
    """
    try:
        theirs, numbers = _run_environment(task, seed, commands)
    except Exception as error:  # from the user's code, which ran without an error in the expert's rollout
        raised = f"ManiSkill's own env.step raises {type(error).__name__} from seed {seed} ({error})"
        return StepComparison(len(commands), f"{raised}: change the task so that it runs there")
    # The adapter gets the targets that ManiSkill's controllers set, which are rounded differently.
    ours = _run_adapter(simulator, seed, theirs.targets)
    repeated = _run_adapter(simulator, seed, theirs.targets)
    differs, leaks = _difference(theirs, ours, numbers), _difference(ours, repeated, numbers)
    random = (
        _difference(theirs, _run_environment(task, seed, commands)[0], numbers) if differs or leaks else ""
    )
    if random:
        text = (
            f"two runs of ManiSkill's own env.step from seed {seed} differ ({random}): draw random numbers "
            "from self._batched_episode_rng only"
        )
    elif leaks:
        text = (
            f"two resets to seed {seed} give different episodes ({leaks}): set every value that the task "
            "changes in _initialize_episode"
        )
    elif differs:
        text = f"ManiSkill's own env.step and FailSafe's adapter differ from seed {seed} ({differs})"
    else:
        text = ""
    return StepComparison(len(commands), text)


def _run_environment(
    task: str, seed: int, commands: Float32[np.ndarray, "T D"]
) -> tuple[_Rollout, list[_Number]]:
    """Run commands through `env.step`; return the rollout and what its states hold."""
    env = make_env(task, **_rewards(task))
    try:
        code = TaskCode(task, env)
        env.reset(seed=seed)
        layout, agent = StateLayout(env, everything=True), env.agent
        joints = list(agent.robot._objs[0].active_joints)
        states, successes, targets = [layout.read()], list[bool](), list[np.ndarray]()
        for command in commands:
            *_, info = env.step(_action(agent, command))
            states.append(layout.read())
            successes.append(code.read(info).success)
            targets.append(np.array([np.asarray(joint.drive_target).item() for joint in joints], np.float32))
        return _Rollout(np.array(states), successes, np.array(targets)), _numbers(layout)
    finally:
        env.close()


def _run_adapter(simulator: ManiSkillSimulator, seed: int, targets: Float32[np.ndarray, "T D"]) -> _Rollout:
    simulator.reset(seed)
    layout = StateLayout(simulator.env, everything=True)
    states, successes = [layout.read()], list[bool]()
    for target in targets:
        simulator.step(target)
        states.append(layout.read())
        successes.append(simulator.evaluate().success)
    return _Rollout(np.array(states), successes, np.array(targets))


def _rewards(task: str) -> dict[str, Any]:
    from mani_skill.utils.registration import REGISTERED_ENVS

    modes = REGISTERED_ENVS[task].cls.SUPPORTED_REWARD_MODES
    return {"reward_mode": _REWARDS if _REWARDS in modes else modes[0]}


def _action(agent: Any, command: Float32[np.ndarray, "D"]) -> Float32[np.ndarray, "A"]:
    """Return the action that sets joint targets, as ManiSkill's controllers read it."""
    controllers: dict[str, Any] = getattr(agent.controller, "controllers", {"arm": agent.controller})
    names = [joint.name for joint in agent.robot._objs[0].active_joints]
    parts: list[np.ndarray] = []
    for controller in controllers.values():
        size = int(np.prod(controller.single_action_space.shape))
        targets = command[[names.index(joint._objs[0].name) for joint in controller.joints]][:size]
        if size and controller.config.normalize_action:
            low, high = (
                np.asarray(b.cpu()) for b in (controller.action_space_low, controller.action_space_high)
            )
            targets = 2.0 * (targets - low) / (high - low) - 1.0
        parts.append(targets)
    return np.concatenate(parts).astype(np.float32)


def _numbers(layout: StateLayout) -> list[_Number]:
    """Describe each number of a state."""
    numbers: list[_Number] = []
    for articulation in layout.articulations:
        numbers += [_Number(f"a joint of '{_plain(articulation.name)}'")] * (2 * articulation.dof)
    for body in layout.bodies:
        numbers += [_Number(f"'{body.spec.name}'")] * 13
    for placed in layout.placed:
        numbers += [_Number(f"'{_plain(placed.name)}'", _ROUNDING)] * 7
    return numbers


def _plain(name: str) -> str:
    """Return a name without ManiSkill's number of the scene."""
    return name.removeprefix("scene-0_")


def _difference(first: _Rollout, second: _Rollout, numbers: Sequence[_Number]) -> str:
    """Return what differs first between two rollouts, and by how much; empty if they are equal."""
    a, b = first.states, second.states
    if a.shape != b.shape:
        return f"states of {a.shape[1]} and {b.shape[1]} numbers"
    apart = np.abs(a.astype(np.float64) - b)
    tolerances = np.array([number.tolerance for number in numbers])
    unequal = ~((a == b) | (np.isnan(a) & np.isnan(b)) | (apart <= tolerances))
    if unequal.any():
        step = int(np.flatnonzero(unequal.any(axis=1))[0])
        worst = int(np.argmax(np.where(unequal[step], apart[step], -1.0)))
        most = f"{apart[:, worst].max():.3g} m, rad or their rates"
        return f"{numbers[worst].owner} from step {step} on, by up to {most}"
    for step, (one, other) in enumerate(zip(first.successes, second.successes, strict=True)):
        if one != other:
            return f"success after step {step} is {one} in one and {other} in the other"
    return ""
