"""The Meta-World adapter: the contract, and equality with Meta-World's own `step`."""

import warnings

import numpy as np
import pytest

pytest.importorskip("metaworld")

from failsafe.errors import UnknownNameError
from failsafe.experts.tasks import load_task
from failsafe.records import poses
from failsafe.records.trace import Disturbance
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.conformance import check_simulator
from failsafe.simulators.contract import JointSpec, JointType, Role
from failsafe.simulators.metaworld.simulator import REPEATS, MetaWorldSimulator
from failsafe.simulators.metaworld.tasks import task_names

pytestmark = pytest.mark.metaworld
PICK, DRAWER = "metaworld/pick-place-v3", "metaworld/drawer-open-v3"


@pytest.fixture(scope="module")
def pick() -> MetaWorldSimulator:
    return MetaWorldSimulator(PICK)


@pytest.fixture(scope="module")
def drawer() -> MetaWorldSimulator:
    return MetaWorldSimulator(DRAWER)


@pytest.mark.parametrize("name", ["pick", "drawer"])
def test_the_adapter_keeps_the_contract(name, request):
    report = check_simulator(lambda: request.getfixturevalue(name))
    assert report.passed, [c for c in report.checks if not c.passed]


def test_the_tasks_are_those_of_meta_world():
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert sorted(task_names()) == sorted(f"metaworld/{name}" for name in ALL_V3_ENVIRONMENTS)
    with pytest.raises(UnknownNameError, match="did you mean 'metaworld/pick-place-v3'"):
        MetaWorldSimulator("metaworld/pick-plce-v3")


@pytest.mark.parametrize(("name", "seed"), [("pick", 3), ("drawer", 4)])
def test_a_control_step_is_four_environment_steps_bit_for_bit(name, seed, request):
    simulator = request.getfixturevalue(name)
    other = MetaWorldSimulator(simulator.spec.task)
    env = other.environment.env
    simulator.reset(seed)
    other.reset(seed)
    rng = np.random.default_rng(0)
    tool = simulator.observe().tcp_pose
    for step in range(25):
        tool[:3] += rng.uniform(-0.03, 0.03, 3) - [0.0, 0.0, 0.01]
        tool[3:] = [0.0, 0.0, 1.0, 0.0]  # straight down, as `env.step` holds the hand
        command = simulator.command(tool, 1.0 if step < 12 else -1.0)
        simulator.step(command)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(REPEATS):
                env.step(np.array([*command[:3], command[7]], dtype=np.float32))
        other._state.round()  # the adapter rounds the state to float32 after each control step
        assert simulator.state().tobytes() == other.state().tobytes(), step
        assert simulator.evaluate().success == other.evaluate().success


def test_a_restored_state_goes_on_bit_for_bit_in_another_simulator(pick):
    pick.reset(5)
    puck = pick.observe().objects[0]
    states, commands, touching = [], [], set()
    for step in range(24):
        height = 0.08 if step < 8 or step > 18 else 0.0
        target = poses.pose(puck[:3] + np.array([0.0, 0.0, height]), [0, 0, 1, 0])
        commands.append(pick.command(target, 1.0 if step < 14 else -1.0))
        pick.step(commands[-1])
        states.append(pick.state())
        env = pick.environment.env
        theirs = type(env).touching_object(env, env._get_id_main_object())
        assert env.touching_main_object == theirs, "ours is the same, and faster"
        touching.add(theirs)
    assert pick.held() == ("puck",)
    assert touching == {False, True}
    other = MetaWorldSimulator(PICK)
    for at in (6, 15, 19):
        other.reset(1)
        other.reset(5)
        other.restore(states[at])
        for step in range(at + 1, 24):
            other.step(commands[step])
            assert other.state().tobytes() == states[step].tobytes()


def test_the_hand_turns_where_env_step_cannot(pick):
    pick.reset(3)
    start = poses.pose(pick.observe().tcp_pose[:3], [0.0, 0.0, 1.0, 0.0])
    target = poses.apply_delta(start, [0.0, 0.0, 0.05, 0.0, 0.0, 1.0])
    for step in range(40):
        pick.step(pick.command(poses.apply_delta(start, [0, 0, 0.05, 0, 0, min(0.1 * step, 1.0)]), 1.0))
    metres, radians = poses.distance(pick.observe().tcp_pose, target)
    assert metres < 0.005
    assert radians < np.radians(3)


def test_objects_come_from_the_model(pick, drawer):
    assert pick.episode.objects[0].half_extents == pytest.approx((0.02, 0.02, 0.02))
    opened = drawer.episode.objects[0]
    assert (opened.name, opened.role) == ("drawer", Role.MOVABLE)
    assert opened.joint == JointSpec(JointType.PRISMATIC, -0.16, 0.0)
    assert drawer.episode.loose_objects == ()


def test_a_drawer_that_is_forced_slides_along_its_joint_only(drawer):
    drawer.reset(2)
    before = drawer.observe().objects[0]
    hold = drawer.command(drawer.observe().tcp_pose, 1.0)
    for _ in range(4):
        drawer.step(hold, [Disturbance("drawer", (0.3, -0.2, 0.1, 0.0, 0.0, 0.0))])
    np.testing.assert_allclose((drawer.observe().objects[0] - before)[:3], [0, -0.04, 0], atol=0.001)
    assert not drawer.evaluate().success


def test_a_drawer_moves_with_its_cabinet_and_its_goal(drawer):
    drawer.reset(2)
    drawer_pose, goal = drawer.observe().objects[:2]
    moved = drawer_pose.copy()
    moved[0] += 0.1
    drawer.reset(2, {"drawer": moved})
    np.testing.assert_allclose(drawer.observe().objects[:2, 0], [moved[0], goal[0] + 0.1], atol=1e-6)


def test_images_show_the_state_that_is_asked_for(pick):
    first = pick.reset(3) and pick.state()
    pick.step(pick.command(poses.apply_delta(pick.observe().tcp_pose, [0.1, 0, 0, 0, 0, 0]), 1.0))
    camera = [pick.camera("front")]
    assert (pick.render(camera, 48) != pick.render(camera, 48, first)).any()
    np.testing.assert_array_equal(pick.render(camera, 48, first), pick.render(camera, 48, first))


@pytest.mark.parametrize(
    "task", [PICK, DRAWER, "metaworld/stick-push-v3"], ids=["matrix", "quaternion", "two objects, touch"]
)
def test_what_is_observed_and_judged_in_plain_numbers_is_what_meta_world_says(task):
    solved = load_task(task)
    simulator, expert = solved.simulator, solved.expert
    assert isinstance(simulator, MetaWorldSimulator)
    environment, env = simulator.environment, simulator.environment.env
    judge, said = environment.succeeds, []

    def compare(seen):
        ours = {name: env.__dict__.pop(name) for name in ("_get_quat_objects", "touching_object")}
        try:
            now, before = env._get_curr_obs_combined_no_goal(), dict(env.__dict__)
            theirs = np.clip(
                np.hstack([now, now, env._get_pos_goal()]),
                env.sawyer_observation_space.low,
                env.sawyer_observation_space.high,
            )
            action = np.array([0.0, 0.0, 0.0, simulator._data.ctrl[0]], dtype=np.float32)
            info = env.evaluate_state(theirs.copy(), action)[1]
            env.__dict__.clear()
            env.__dict__.update(before)
        finally:
            env.__dict__.update(ours)
        assert seen.tobytes() == theirs.tobytes()
        assert environment.evaluate(seen)["grasp_success"] == info["grasp_success"]
        said.append((judge(seen), bool(info["success"])))
        return said[-1][0]

    environment.succeeds = compare
    simulator.reset(3)
    expert.solve(RolloutRunner(simulator))
    assert said == [(theirs, theirs) for _, theirs in said]
    assert {theirs for _, theirs in said} == {False, True}
