"""ManiSkill's solution scripts, run without its planner, solve its tasks and say so where they do not."""

import dataclasses
import re

import numpy as np
import pytest

pytest.importorskip("mani_skill")

from mani_skill.examples.motionplanning.panda.solutions import stack_cube

from failsafe.errors import DivergedError, PlanError, UnknownNameError, UserError
from failsafe.experts.maniskill import ManiSkillExpert, maniskill_tasks
from failsafe.experts.tasks import load_task
from failsafe.generation.nominal import run_nominal
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN
from failsafe.rollouts.runner import RolloutRunner

pytestmark = pytest.mark.maniskill

SEEDS = 10
# Of seeds 0 to 9; benchmarks/results/nominal_success.jsonl has 100 of each.
LEAST = {
    "DrawSVG-v1": 2,  # of two seeds: a drawing takes its time
    "DrawTriangle-v1": 2,
    "LiftPegUpright-v1": 9,
    "PegInsertionSide-v1": 9,
    "PickCube-v1": 10,
    "PlaceSphere-v1": 10,
    "PlugCharger-v1": 8,
    "PullCube-v1": 10,
    "PullCubeTool-v1": 8,
    "PushCube-v1": 10,
    "StackCube-v1": 10,
    "StackPyramid-v1": 7,
}
STAGES = {
    "PickCube-v1": ["reach", "grasp", "close gripper", "goal"],
    "PushCube-v1": ["close gripper", "reach", "goal"],
    "StackCube-v1": ["reach", "grasp", "close gripper", "lift", "align", "open gripper"],
    "LiftPegUpright-v1": ["reach", "grasp", "close gripper", "lift", "final", "lower", "open gripper"],
}


@pytest.fixture(scope="module")
def stacking():
    task = load_task("StackCube-v1")
    yield task
    task.simulator.close()


def test_every_script_that_needs_no_download_is_an_expert():
    assert set(maniskill_tasks()) == set(LEAST)


@pytest.fixture
def quick_materials(monkeypatch):
    """One render material for the thousand dots of a drawing: each takes 30 ms to make."""
    import sapien

    material = sapien.render.RenderMaterial()
    monkeypatch.setattr(sapien.render, "RenderMaterial", lambda *args, **kwargs: material)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_materials")
@pytest.mark.parametrize("name", sorted(LEAST))
def test_the_expert_solves_its_task(name):
    task = load_task(name)
    nominals = [run_nominal(task, seed) for seed in range(2 if name.startswith("Draw") else SEEDS)]
    task.simulator.close()
    solved = [nominal.record.success for nominal in nominals]
    assert sum(solved) >= LEAST[name], [nominal.record.reason for nominal in nominals]
    for nominal in nominals:
        assert bool(nominal.record.reason) is not nominal.record.success
        plan = nominal.record.plan
        assert len(plan.instruction.split()) >= 4
        assert len(plan.stages) == len(nominal.record.spans) >= 3
        for stage in plan.stages:
            assert re.fullmatch(r"[a-z][a-z ]*[a-z]", stage.name), stage.name
            assert stage.name not in ("move", "act")
            assert 0.0 < stage.speed <= 1.0
            assert np.linalg.norm(stage.pose[3:]) == pytest.approx(1.0, abs=1e-5)
        assert [s.stop for s in nominal.record.spans[:-1]] == [s.start for s in nominal.record.spans[1:]]
    if name in STAGES:
        assert [stage.name for stage in nominals[0].record.plan.stages] == STAGES[name]


def test_the_facts_of_the_stages(stacking):
    spans = {span.name: span for span in run_nominal(stacking, 0).record.spans}
    assert spans["close gripper"].closes
    assert (spans["close gripper"].held, spans["close gripper"].held_after) == ((), ("cubeA",))
    assert spans["lift"].held == spans["align"].held_after == ("cubeA",)
    assert spans["open gripper"].opens
    assert spans["open gripper"].held_after == ()
    assert spans["lift"].travel == pytest.approx(0.1, abs=0.005)  # the script lifts by 10 cm
    grippers = [spans[name].gripper for name in ("reach", "grasp", "close gripper", "align", "open gripper")]
    assert grippers == [OPEN, OPEN, CLOSED, CLOSED, OPEN]


def test_the_expert_plans_from_the_present_state(stacking):
    simulator = stacking.simulator
    simulator.reset(0)
    index = simulator.episode.object_index("cubeA")
    moved = simulator.observe().objects[index].copy()
    moved[:2] += [0.03, 0.04]
    simulator.reset(0, {"cubeA": moved})
    runner = RolloutRunner(simulator)
    stacking.expert.solve(runner)
    runner.settle()
    assert simulator.evaluate().success
    np.testing.assert_allclose(runner.stages[1].pose[:2], moved[:2], atol=0.003)


def test_the_script_is_left_as_it_was(stacking):
    before = stack_cube.PandaArmMotionPlanningSolver
    run_nominal(stacking, 0)
    assert stack_cube.PandaArmMotionPlanningSolver is before
    assert before.__module__.startswith("mani_skill.")


# ---------------------------------------------------------------- what goes wrong


def failing(task, script):
    """The task with another script for its expert."""
    expert = ManiSkillExpert("StackCube-v1")
    expert._script = script
    return dataclasses.replace(task, expert=expert)


def give_up(env, seed=None, debug=False, vis=False):
    env.reset(seed=seed)
    raise IndexError("list index out of range")


def test_a_script_that_fails_is_reported(stacking):
    nominal = run_nominal(failing(stacking, give_up), 0)
    assert not nominal.record.success
    assert nominal.record.reason == (
        "planner: the solution script failed: IndexError: list index out of range"
    )
    assert nominal.record.plan.stages == ()
    stacking.simulator.reset(0)
    runner = RolloutRunner(stacking.simulator)
    with pytest.raises(PlanError, match="the solution script failed: IndexError"):
        failing(stacking, give_up).expert.solve(runner)


def test_a_rollout_without_success_is_told_from_a_plan_that_failed(stacking):
    def do_nothing(env, seed=None, debug=False, vis=False):
        pass

    nominal = run_nominal(failing(stacking, do_nothing), 0)
    assert (nominal.record.success, nominal.record.reason) == (
        False,
        "the expert's rollout did not end in success",
    )


def test_diverged_physics_is_no_failure_of_the_planner(stacking, monkeypatch):
    def diverge(command, disturbances=()):
        raise DivergedError("StackCube-v1: the physics diverged")

    monkeypatch.setattr(stacking.simulator, "step", diverge)
    assert run_nominal(stacking, 0).record.reason == "physics: StackCube-v1: the physics diverged"


def test_a_bug_of_ours_is_not_blamed_on_the_script(stacking, monkeypatch):
    def broken(command, disturbances=()):
        raise KeyError("a bug")

    monkeypatch.setattr(stacking.simulator, "step", broken)
    with pytest.raises(KeyError, match="a bug"):
        run_nominal(stacking, 0)


def test_a_rollout_that_does_not_end_is_ended(stacking):
    stacking.simulator.reset(0)
    with pytest.raises(PlanError, match="not over after 20 control steps"):
        stacking.expert.solve(RolloutRunner(stacking.simulator, max_steps=20))


def test_what_lies_out_of_reach_ends_without_success_and_without_a_word(stacking, capsys):
    stacking.simulator.reset(0, {"cubeA": poses.pose([1.4, 0.9, 0.02])})
    runner = RolloutRunner(stacking.simulator)
    stacking.expert.solve(runner)
    assert not stacking.simulator.evaluate().success
    assert capsys.readouterr().out == ""  # standard output belongs to `--json`


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("PickCub-v1", UnknownNameError, "did you mean 'PickCube-v1'"),
        ("PokeCube-v1", UserError, "exists in maniskill but has no expert"),
    ],
)
def test_a_task_without_an_expert_is_refused(name, error, message):
    with pytest.raises(error, match=message):
        load_task(name)
    with pytest.raises(UnknownNameError, match="unknown task with a solution script"):
        ManiSkillExpert(name)
