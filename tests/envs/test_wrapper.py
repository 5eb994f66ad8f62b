"""The wrapper around a ManiSkill environment: what it changes, and that it changes nothing else."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from failsafe.envs.environment import make_env
from failsafe.envs.wrapper import perturb
from failsafe.errors import UserError

pytest.importorskip("mani_skill")
pytestmark = pytest.mark.maniskill
SEED = 3


def maniskill_env(control_mode: str = "pd_joint_pos", **options: object) -> gymnasium.Env:
    import mani_skill.envs  # noqa: F401

    settings = {"obs_mode": "state_dict", "render_backend": "none", "sim_backend": "cpu"} | options
    return gymnasium.make("PickCube-v1", control_mode=control_mode, max_episode_steps=300, **settings)


def expert_joints() -> np.ndarray:
    """The expert's rollout as `pd_joint_pos` actions: seven joint targets and the gripper."""
    from failsafe.experts.tasks import load_task
    from failsafe.generation.nominal import run_nominal

    trace = run_nominal(load_task("PickCube-v1"), SEED).trace
    return np.concatenate([trace.commands[:, :7], trace.gripper_commands[:, None]], axis=1)


def run(env: gymnasium.Env, actions: np.ndarray) -> tuple[list[dict], np.ndarray, np.ndarray]:
    """Infos, widths between the fingers, and heights of the cube."""
    env.reset(seed=SEED)
    infos, widths, heights = [], [], []
    base = env.unwrapped
    for action in actions:
        infos.append(env.step(action)[4])
        widths.append(float(base.agent.robot.get_qpos()[0, -2:].sum()))
        heights.append(float(base.cube.pose.p[0, 2]))
    env.close()
    return infos, np.array(widths), np.array(heights)


@pytest.fixture(scope="module")
def actions() -> np.ndarray:
    return expert_joints()


@pytest.fixture(scope="module")
def alone(actions: np.ndarray) -> tuple[list[dict], np.ndarray, np.ndarray]:
    return run(maniskill_env(), actions)


def test_without_perturbations_nothing_changes(actions: np.ndarray, alone: tuple) -> None:
    infos, widths, heights = run(perturb(maniskill_env(), []), actions)
    assert np.array_equal(widths, alone[1])
    assert np.array_equal(heights, alone[2])
    assert heights[-1] > 0.06, "the cube is raised"
    assert infos[-1]["perturbations"] == {}


def test_early_release_opens_the_gripper_once_the_cube_is_raised(actions: np.ndarray, alone: tuple) -> None:
    infos, widths, heights = run(perturb(maniskill_env(), ["early_release:1"]), actions)
    at = infos[-1]["perturbations"]["early_release:1"]
    assert at is not None
    assert np.array_equal(heights[:at], alone[2][:at]), "nothing changes before it acts"
    assert alone[2][at] > 0.02 + 0.03 - 0.005
    assert widths[at + 6] > 0.07, "open"
    assert alone[1][at + 6] < 0.05
    assert heights[-1] < 0.03, "on the table"


def test_a_world_mode_tears_the_cube_out_of_the_grip(actions: np.ndarray, alone: tuple) -> None:
    infos, widths, heights = run(perturb(maniskill_env(), ["object_dropped:0"]), actions)
    at = infos[-1]["perturbations"]["object_dropped:0"]
    assert at is not None
    assert heights[at + 3] < alone[2][at + 3] - 0.03
    assert heights[-1] < 0.03
    assert widths[-1] < 0.02, "the gripper stays closed, on nothing"


@pytest.mark.parametrize("control_mode", ["pd_joint_pos", "pd_ee_delta_pose", "pd_ee_target_delta_pose"])
def test_drift_leads_the_tool_away_in_every_control_mode(control_mode: str) -> None:
    still = np.zeros(8 if control_mode == "pd_joint_pos" else 7, dtype=np.float32)
    paths = []
    for perturbations in ([], ["drift:0.05"]):
        env = perturb(maniskill_env(control_mode), perturbations)
        env.reset(seed=SEED)
        if control_mode == "pd_joint_pos":
            still = env.unwrapped.agent.robot.get_qpos()[0, :8].numpy()
            still[7] = 1.0
        places = []
        for _ in range(80):
            info = env.step(still)[4]
            places.append(env.unwrapped.agent.tcp.pose.p[0].numpy().copy())
        paths.append(np.array(places))
        env.close()
    at = info["perturbations"]["drift:0.05"]
    assert at is not None
    off = paths[1] - paths[0]
    assert not off[:at].any(), "nothing changes before it acts"
    # The bias grows by 5 cm/s for 1.5 s. Of a displacement of the measured pose the arm covers a third.
    least = 0.02 if control_mode == "pd_ee_delta_pose" else 0.04
    assert least < np.linalg.norm(off[:, :2], axis=1).max() < 0.12
    assert np.abs(off[:, 2]).max() < 0.03


def test_the_seed_of_the_episode_determines_the_perturbation(actions: np.ndarray) -> None:
    env = perturb(maniskill_env(), ["object_pushed"])
    places = []
    for seed in (1, 1, 2):
        env.reset(seed=seed, options={"reconfigure": True})
        for _ in range(30):
            info = env.step(actions[0])[4]
        places.append((info["perturbations"]["object_pushed"], env.unwrapped.cube.pose.p[0].numpy().tolist()))
    env.close()
    assert places[0] == places[1]
    assert places[0] != places[2]


def test_what_cannot_be_wrapped_is_one_sentence() -> None:
    with pytest.raises(UserError, match="expected a ManiSkill environment, got FailSafeEnv: use make_env"):
        perturb(make_env("ToyPick-v0"), ["slip"])
    with pytest.raises(UserError, match="expected an environment with the control mode pd_joint_pos or"):
        perturb(maniskill_env("pd_joint_delta_pos"), ["slip"])
    env = perturb(maniskill_env(), ["slip"])
    with pytest.raises(UserError, match=r"expected reset\(\)"):
        env.step(np.zeros(8))
    env.reset(seed=0)
    with pytest.raises(UserError, match="expected an action of 8 numbers, got 3"):
        env.step(np.zeros(3))
    env.close()
