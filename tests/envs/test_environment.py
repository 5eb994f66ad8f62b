"""The Gymnasium environment keeps Gymnasium's rules, and an episode follows from its seed."""

from __future__ import annotations

import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from failsafe.envs.environment import FailSafeEnv, make_env
from failsafe.errors import UnknownNameError, UserError
from failsafe.experts.tasks import Task, load_task
from failsafe.generation.nominal import run_nominal
from failsafe.records import poses

SEED = 7


def expert_actions(name: str, seed: int) -> list[np.ndarray]:
    """The expert's rollout as actions: from each commanded pose to the next."""
    trace = run_nominal(load_task(name), seed).trace
    targets = np.concatenate([trace.tcp_poses[:1], trace.targets]).astype(float)
    moves = [poses.delta_between(a, b) for a, b in itertools.pairwise(targets)]
    grippers = trace.gripper_commands
    return [np.array([*move, grip], dtype=np.float32) for move, grip in zip(moves, grippers, strict=True)]


def run(env: FailSafeEnv, actions: list[np.ndarray], seed: int = SEED) -> list[tuple]:
    first, info = env.reset(seed=seed)
    steps = [(first, 0.0, False, False, info)]
    for action in [*actions, *[np.array([0, 0, 0, 0, 0, 0, actions[-1][6]], np.float32)] * 40]:
        steps.append(env.step(action))
        if steps[-1][2] or steps[-1][3]:
            break
    return steps


def test_it_keeps_the_rules_of_gymnasium_with_pictures_and_perturbations() -> None:
    env = make_env(
        "ToyPick-v0", ["slip", "early_release:0.7"], cameras=["front", "hand"], image_size=32,
        render_mode="rgb_array",
    )  # fmt: skip
    check_env(env, skip_render_check=True)
    observation, info = env.reset(seed=3)
    assert observation["images"]["hand"].shape == (32, 32, 3)
    assert set(observation["objects"]) == {"box", "goal"}
    assert info["instruction"] == "pick up the box and hold it at the goal"
    image = env.render()
    assert image is not None
    assert image.std() > 5
    assert env.metadata["render_fps"] == 20


def test_the_expert_succeeds_and_the_episode_terminates_with_a_reward_of_one() -> None:
    steps = run(make_env("ToyPick-v0"), expert_actions("ToyPick-v0", SEED))
    assert steps[-1][2], "terminated"
    assert not steps[-1][3]
    assert sum(step[1] for step in steps) == steps[-1][1] == 1.0
    assert steps[-1][4]["success"]
    assert steps[-1][4]["perturbations"] == {}


def test_a_perturbation_makes_the_same_actions_fail_and_says_when_it_acted() -> None:
    steps = run(make_env("ToyPick-v0", ["early_release:1"]), expert_actions("ToyPick-v0", SEED))
    assert not steps[-1][2]
    acted = steps[-1][4]["perturbations"]["early_release:1"]
    assert acted is not None
    widths = [step[0]["gripper_width"][0] for step in steps]
    assert widths[acted + 3] > widths[acted] + 0.01, "the gripper opens"
    assert steps[acted][4]["perturbations"]["early_release:1"] is None, "not before it acts"


def test_an_episode_follows_from_its_seed() -> None:
    env = make_env("ToyPick-v0", ["drift", "object_pushed"])
    actions = expert_actions("ToyPick-v0", SEED)
    once, again, other = run(env, actions), run(env, actions), run(env, actions, SEED + 1)
    tools = [[step[0]["tcp_pose"].tolist() for step in steps] for steps in (once, again, other)]
    assert tools[0] == tools[1]
    assert tools[0] != tools[2]
    env.reset(seed=1)
    drawn = [env.reset()[1]["seed"] for _ in range(2)]
    env.reset(seed=1)
    assert [env.reset()[1]["seed"] for _ in range(2)] == drawn
    assert drawn[0] != drawn[1]


def test_actions_are_bounded_by_the_robot() -> None:
    env = make_env("ToyPick-v0")
    before, _ = env.reset(seed=SEED)
    assert env.action_space.high.tolist() == pytest.approx([0.025] * 3 + [0.125] * 3 + [1.0])
    after, *_ = env.step(np.array([5, 0, 0, 0, 0, 0, 1], np.float32))
    assert np.linalg.norm(after["tcp_pose"][:3] - before["tcp_pose"][:3]) <= 0.0251


def test_it_truncates_at_the_step_limit() -> None:
    env = make_env("ToyPush-v0", max_steps=3)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_objects_can_be_placed() -> None:
    env = make_env("ToyPick-v0")
    place = poses.pose([0.5, 0.1, 0.025])
    observation, _ = env.reset(seed=0, options={"objects": {"box": place}})
    assert observation["objects"]["box"].tolist() == pytest.approx(place.tolist())
    with pytest.raises(UnknownNameError, match="did you mean 'objects'"):
        env.reset(options={"object": {}})


def test_a_task_of_ones_own_and_gymnasiums_own_wrappers() -> None:
    task = load_task("ToyPush-v0")
    env = gymnasium.wrappers.TimeLimit(make_env(Task(task.simulator, task.expert)), 5)
    env.reset(seed=0)
    assert [env.step(env.action_space.sample())[3] for _ in range(5)][-1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"perturbations": ["slop"]}, "did you mean 'slip'"),
        ({"perturbations": ["translation_x"]}, "expected a mode that needs no plan"),
        ({"perturbations": ["slip", "slip"]}, "expected each perturbation once"),
        ({"cameras": ["frnt"]}, "did you mean 'front'"),
        ({"render_mode": "human"}, "expected the render mode 'rgb_array'"),
        ({"max_steps": 0}, "step limit of at least 1"),
    ],
)
def test_mistakes_are_one_sentence(options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_env("ToyPick-v0", **options)


def test_a_step_before_reset_and_an_action_that_is_none() -> None:
    env = make_env("ToyPick-v0")
    with pytest.raises(UserError, match=r"expected reset\(\)"):
        env.step(np.zeros(7, np.float32))
    env.reset(seed=0)
    with pytest.raises(UserError, match="7 finite numbers"):
        env.step(np.full(7, np.nan, np.float32))


@pytest.mark.maniskill
def test_pickcube_keeps_the_rules_too() -> None:
    env = make_env("PickCube-v1", ["slip"])
    check_env(env, skip_render_check=True)
    steps = run(env, expert_actions("PickCube-v1", SEED))
    assert steps[-1][4]["perturbations"]["slip"] is not None
