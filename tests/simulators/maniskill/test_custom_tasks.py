"""A user's own task is the same task in the adapter as in ManiSkill's `env.reset` and `env.step`."""

import contextlib
import re

import numpy as np
import pytest

pytest.importorskip("mani_skill")

import sapien
from tests.simulators.maniskill import custom_tasks

from failsafe.errors import UserError
from failsafe.experts.own_step import compare_own_step
from failsafe.experts.tasks import load_task
from failsafe.records import poses
from failsafe.simulators.maniskill.instructions import is_checked
from failsafe.simulators.maniskill.simulator import ManiSkillSimulator
from failsafe.simulators.maniskill.tasks import make_env

pytestmark = pytest.mark.maniskill

STEPS = 20


@pytest.fixture(autouse=True)
def quick_materials(monkeypatch):
    """One render material for everything: each takes 30 ms to make."""
    material = sapien.render.RenderMaterial()
    monkeypatch.setattr(sapien.render, "RenderMaterial", lambda *args, **kwargs: material)


@contextlib.contextmanager
def opened(task):
    simulator = ManiSkillSimulator(task)
    try:
        yield simulator
    finally:
        simulator.close()


def hold(simulator, steps):
    """Hold still; return the command."""
    command = simulator.command(simulator.observe().tcp_pose, 1.0)
    for _ in range(steps):
        simulator.step(command)
    return command


@pytest.mark.parametrize("hook", custom_tasks.HOOKS)
def test_what_a_hook_moves_is_moved_as_by_env_step(hook):
    name = f"Plate{hook}-v1"
    with opened(name) as simulator:
        simulator.reset(3)
        first = simulator.state()
        command = hold(simulator, STEPS)
        plate = simulator.env.plate.pose.p[0, 1]
        assert plate == pytest.approx(1.0 + custom_tasks.SPEED * STEPS / 20.0, abs=1e-4)
        compared = simulator.compare_with_own_step(3, np.tile(command, (STEPS, 1)))
        assert (compared.steps, compared.difference) == (STEPS, "")
        # The plate is in the state, so that pictures show it where it was.
        last = simulator.state()
        simulator.reset(3)
        np.testing.assert_array_equal(simulator.state(), first)
        simulator.restore(last)
        assert simulator.env.plate.pose.p[0, 1] == plate


def test_the_tasks_code_runs_in_its_place():
    with opened("Order-v1") as simulator:
        simulator.reset(0)
        command = simulator.command(simulator.observe().tcp_pose, 1.0)
        command[0] = 0.25
        simulator.step(command)
        simulator.evaluate()  # asking again runs nothing
        ours = list(simulator.env.log)
        substeps = simulator.env._sim_steps_per_control
    env = make_env("Order-v1", reward_mode="none")
    env.reset(seed=0)
    env.step(np.array([*command[:-2], 1.0], dtype=np.float32))
    assert ours[1:] == env.log[1:]
    env.close()
    assert ours[1:] == [
        ("before control", 0.25, 0),
        *[("before substep", 0.25, 0), ("after substep", 0.25, 0)] * substeps,
        ("after control", 0.25, 0),
        ("evaluate", 0.25, 1),
    ]
    assert ours[0][0] == "evaluate"


def test_a_latch_is_cleared_by_every_reset_and_set_by_every_step():
    with opened("Latch-v1") as simulator:
        simulator.reset(0)
        assert not simulator.evaluate().success
        cube = simulator.observe().objects[0]
        simulator.reset(0, {"cube": poses.pose([*cube[:2], 0.3])})
        hold(simulator, 10)  # it falls, and lies on the table at the end
        assert simulator.observe().objects[0, 2] < 0.1
        assert simulator.evaluate().success
        simulator.reset(0)
        assert not simulator.evaluate().success


def test_a_task_that_counts_its_steps_succeeds():
    with opened("Patience-v1") as simulator:
        for _ in range(2):
            simulator.reset(0)
            seen = []
            for _ in range(7):
                hold(simulator, 1)
                seen.append(simulator.evaluate().success)
            assert seen == [False] * 5 + [True] * 2


def test_words_and_nothing_are_no_terms():
    with opened("Words-v1") as simulator:
        evaluation = simulator.evaluate()
    assert set(evaluation.terms) == {"success", "height"}
    assert evaluation.terms["height"] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("NoSuccess-v1", r"'NoSuccess-v1': expected evaluate\(\) .* 'success', one boolean, got the keys"),
        ("WordSuccess-v1", "one boolean, got success='yes'"),
        ("NoEvaluation-v1", "'NoEvaluation-v1': .*one boolean, got nothing, or something else"),
    ],
)
def test_a_task_that_does_not_say_when_it_is_solved_is_refused(task, message):
    with pytest.raises(UserError, match=message):
        ManiSkillSimulator(task)


def test_a_task_states_its_instruction():
    with opened("Asked-v1") as simulator:
        assert simulator.reset(4).instruction == "pick up cube number 4"
        assert simulator.reset(5).instruction == "pick up cube number 5"
    with opened("Documented-v1") as simulator:
        assert simulator.episode.instruction == "The robot must e.g. lift the cube. Then it is to wait."
    with opened("WithoutDocstring-v1") as simulator:
        assert simulator.episode.instruction == ""  # `Task` refuses it, or has one


@pytest.mark.parametrize(
    "name",
    [
        "PegInsertionSide-v1",  # a new scene in every reset
        "PickCubeFetch-v1",
        "PlaceSphere-v1",
        "PlugCharger-v1",
        "PullCubeTool-v1",
        "StackPyramid-v1",
        "examples.poke_cube:make",
    ],
)
def test_a_checked_task_equals_env_step(name):
    task = load_task(name)
    assert task.simulator.spec.checked
    assert compare_own_step(task, 1).difference == ""
    task.simulator.close()


def test_only_the_class_that_was_checked_is_checked():
    assert is_checked("PickCube-v1", custom_tasks.PickCubeEnv)
    assert not is_checked("PickCube-v1", custom_tasks.Latch)
    assert not is_checked("Latch-v1", custom_tasks.Latch)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("Dice-v1", r"two runs of ManiSkill's own env.step from seed 0 differ \('plate'"),
        ("Leak-v1", "two resets to seed 0 give different episodes .*'plate' from step 1 on, by up to 0.02"),
        ("PlainBool-v1", "own env.step raises AttributeError from seed 0 .*: change the task"),
        ("Random-v1", "^$"),
        ("OwnStep-v1", r"own env.step and FailSafe's adapter differ from seed 0 \('cube' from step 1 on"),
    ],
)
def test_what_differs_from_env_step_is_told(task, message):
    with opened(task) as simulator:
        simulator.reset(0)
        command = hold(simulator, 1)
        difference = simulator.compare_with_own_step(0, np.tile(command, (STEPS, 1))).difference
    assert re.search(message, difference), difference
