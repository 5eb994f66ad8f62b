"""LIBERO's expert: grasps from geometry, goals in order, and a task solved from any state."""

import importlib
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("libero")

from failsafe.errors import UserError
from failsafe.experts.contract import PlanExpert
from failsafe.experts.libero.expert import LiberoExpert
from failsafe.experts.libero.goals import in_order, opened_first
from failsafe.experts.libero.grasps import find_grasps, orientations
from failsafe.experts.libero.kinematics import Distinct
from failsafe.experts.libero.scene import LiberoScene
from failsafe.experts.libero.search import geometric_grasps, workspace
from failsafe.experts.libero.surfaces import surface_of
from failsafe.experts.tasks import Task, load_task
from failsafe.generation.nominal import NominalRollout, run_nominal
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import GoalPredicate

pytestmark = pytest.mark.libero

TASK = "libero_object/0"


@pytest.fixture(scope="module")
def task() -> Iterator[Task]:
    made = load_task(TASK)
    yield made
    made.simulator.close()


@pytest.fixture(scope="module")
def nominal(task: Task) -> NominalRollout:
    return run_nominal(task, 1)


def test_fingers_close_across_the_shorter_side_of_a_box() -> None:
    mujoco = importlib.import_module("mujoco")
    geom = '<geom type="box" size=".05 .02 .03"/>'
    box = f'<mujoco><worldbody><body name="box">{geom}</body></worldbody></mujoco>'
    model = mujoco.MjModel.from_xml_string(box)
    surface = surface_of(model, int(model.body("box").id))
    np.testing.assert_allclose(np.abs(surface.points).max(axis=0), [0.05, 0.02, 0.03])
    best = find_grasps(surface.points, np.zeros(3), orientations((0.0,), 1, 2))[0]
    assert best.width == pytest.approx(0.04)
    np.testing.assert_allclose(np.abs(best.rotation[:, 1]), [0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(best.rotation[:, 2], [0, 0, -1], atol=1e-9)
    np.testing.assert_allclose(best.position[:2], 0, atol=0.006)


def test_a_wall_wider_than_the_opening_has_no_grasp() -> None:
    grid = np.stack(np.meshgrid(*[np.linspace(-0.06, 0.06, 20)] * 3), axis=-1).reshape(-1, 3)
    assert find_grasps(grid, np.zeros(3), orientations((0.0,), 1, 1)) == []


def test_poses_that_are_nearly_the_same_count_once() -> None:
    found = Distinct(0.01, 0.3)
    pose = np.array([0.5, 0, 0.1, 0, 1, 0, 0])
    turned = np.array([0.5, 0, 0.1, 0, np.sqrt(0.5), np.sqrt(0.5), 0])
    assert found.add(pose)
    assert not found.add(pose + 0.005 * np.eye(7)[0])
    assert found.add(turned)
    assert len(found) == 2


def test_the_task_is_solved_at_rest_in_readable_stages(nominal: NominalRollout) -> None:
    assert nominal.record.success, nominal.record.reason
    names = [stage.name for stage in nominal.record.plan.stages]
    wanted = ["reach", "grasp", "lift", "carry", "place"]
    assert [w for w in wanted if f"{w} alphabet soup" in names] == wanted
    held = {span.name: span.held for span in nominal.record.spans}
    assert held["place alphabet soup"] == ("alphabet_soup_1",)
    assert held["retreat"] == ()


def test_the_plan_alone_repeats_the_rollout(task: Task, nominal: NominalRollout) -> None:
    task.simulator.reset(1)
    runner = RolloutRunner(task.simulator)
    PlanExpert(nominal.record.plan).solve(runner)
    steps = runner.step_count
    np.testing.assert_array_equal(runner.trace().states, nominal.trace.states[: steps + 1])


def test_it_plans_again_with_the_object_in_the_grip(task: Task, nominal: NominalRollout) -> None:
    carry = next(span for span in nominal.record.spans if span.name == "carry alphabet soup")
    task.simulator.reset(1)
    task.simulator.restore(nominal.trace.states[carry.start])
    runner = RolloutRunner(task.simulator)
    task.expert.solve(runner)
    runner.settle()
    assert task.simulator.evaluate().success
    assert "grasp alphabet soup" not in [stage.name for stage in runner.stages]


def test_planning_does_not_change_the_simulation(task: Task, nominal: NominalRollout) -> None:
    class Stopped(Exception):
        pass

    class Stops(RolloutRunner):
        def do(self, stage: object) -> None:
            raise Stopped

    task.simulator.reset(1)
    before = task.simulator.state()
    with pytest.raises(Stopped):
        task.expert.solve(Stops(task.simulator))
    np.testing.assert_array_equal(task.simulator.state(), before)


def test_grasps_do_not_depend_on_the_states_before(task: Task) -> None:
    """To the bit: nearly equal grasps would change places, and with them the recorded commands."""
    found = []
    for first in (0, 71):
        task.simulator.reset(first)
        scene = LiberoScene(task.simulator)
        body = scene.body("alphabet_soup_1")
        scene.surface(body)
        scene.obstacles()
        task.simulator.reset(3)
        found.append(np.array([grasp.tool for grasp in geometric_grasps(scene, body)]))
    np.testing.assert_array_equal(found[0], found[1])
    assert len(found[0]) > 5


def test_goals_come_in_an_order_in_which_they_can_be_achieved(task: Task) -> None:
    scene = workspace(TASK)
    place = GoalPredicate("in", ("milk_1", "basket_1_contain_region"))
    stack = GoalPredicate("on", ("butter_1", "milk_1"))
    switch = GoalPredicate("turnon", ("basket_1",))
    assert in_order(scene, [stack, place, switch]) == [switch, place, stack]
    assert opened_first(scene, place) is None


def test_a_goal_without_an_expert_is_named(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    up = GoalPredicate("up", ("milk_1",))
    monkeypatch.setattr(task.simulator.environment, "goals", (up,))
    with pytest.raises(UserError, match="no expert for up milk_1"):
        LiberoExpert(TASK)
