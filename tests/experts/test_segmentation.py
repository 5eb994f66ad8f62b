"""Cutting a rollout into stages: a made-up one by hand, and the toy's, whose plans must succeed again."""

from dataclasses import replace

import numpy as np
import pytest

from failsafe.errors import PlanError
from failsafe.experts.contract import PlanExpert
from failsafe.experts.segmentation import segment
from failsafe.experts.toy import ToyPickExpert, ToyPickPolicy, ToyPushExpert, ToyStackExpert
from failsafe.records.trace import Trace
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.toy import TASKS, ToyPick

TOY = ToyPick()
ROBOT, EPISODE = TOY.spec.embodiment, replace(TOY.episode, instruction="pick it up")
DOWN = [0.0, 1.0, 0.0, 0.0]


def made_up(positions: list[list[float]], grippers: list[float], held_from: int | None = None) -> Trace:
    """A tool without lag; a box at (0.5, 0, 0.025) that follows it from a step on."""
    targets = np.array([[*p, *DOWN] for p in positions[1:]], dtype=np.float32)
    tcp = np.array([[*p, *DOWN] for p in positions], dtype=np.float32)
    objects = np.zeros((len(positions), 2, 7), dtype=np.float32)
    objects[:, :, 3] = 1.0
    objects[:, 0, :3] = [0.5, 0.0, 0.025]
    if held_from is not None:
        objects[held_from:, 0, :3] += tcp[held_from:, :3] - tcp[held_from, :3]
    steps = len(targets)
    return Trace(
        commands=np.zeros((steps, 8), dtype=np.float32),
        targets=targets,
        gripper_commands=np.array(grippers, dtype=np.float32),
        stages=np.full(steps, -1, dtype=np.int16),
        tcp_poses=tcp,
        gripper_widths=np.zeros(steps + 1, dtype=np.float32),
        objects=objects,
        states=np.zeros((steps + 1, 4), dtype=np.float32),
    )


def line(start: list[float], end: list[float], steps: int) -> list[list[float]]:
    return np.linspace(start, end, steps + 1)[1:].tolist()


def test_gripper_changes_and_rests_cut_a_made_up_pick():
    above, grasp, goal = [0.5, 0.0, 0.125], [0.5, 0.0, 0.025], [0.5, 0.1, 0.225]
    positions = [
        [0.4, 0.0, 0.125],
        *line([0.4, 0.0, 0.125], above, 5),  # 2 cm a step
        *([above] * 3),
        *line(above, grasp, 10),  # 1 cm a step
        *([grasp] * 6),
        *line(grasp, goal, 8),
        *([goal] * 12),
    ]
    grippers = [1.0] * 18 + [-1.0] * 26
    plan = segment(made_up(positions, grippers, held_from=24), ROBOT, EPISODE)
    assert plan.instruction == "pick it up"
    assert [s.name for s in plan.stages] == ["approach", "approach", "close gripper", "carry"]
    assert [s.gripper for s in plan.stages] == [1.0, 1.0, -1.0, -1.0]
    assert [s.hold for s in plan.stages] == [3, 0, 6, 4]  # of the rest at the end only as much as is needed
    for stage, end in zip(plan.stages, (above, grasp, grasp, goal), strict=True):
        np.testing.assert_allclose(stage.target, [*end, *DOWN], atol=1e-6)
    assert plan.stages[0].speed == pytest.approx(0.02 / 0.025, rel=1e-5)
    assert plan.stages[1].speed == pytest.approx(0.01 / 0.025, rel=1e-5)


def test_a_release_and_what_follows_have_their_names():
    low, high = [0.5, 0.0, 0.025], [0.5, 0.0, 0.125]
    positions = [
        high,
        *line(high, low, 5),
        *([low] * 4),
        *line(low, high, 5),
        *([high] * 4),
        *line(high, low, 5),
    ]
    grippers = [1.0] * 5 + [-1.0] * 9 + [1.0] * 9
    trace = made_up(positions, grippers, held_from=9)
    trace.objects[15:] = trace.objects[14]
    names = [s.name for s in segment(trace, ROBOT, EPISODE).stages]
    assert names == ["approach", "close gripper", "carry", "open gripper", "retreat"]


def test_a_bent_path_becomes_its_corners_and_no_more():
    corner, end = [0.5, 0.0, 0.2], [0.5, 0.2, 0.2]
    positions = [[0.4, 0.0, 0.2], *line([0.4, 0.0, 0.2], corner, 5), *line(corner, end, 10)]
    plan = segment(made_up(positions, [1.0] * 15), ROBOT, EPISODE)
    assert len(plan.stages) == 2
    np.testing.assert_allclose(plan.stages[0].target[:3], corner, atol=1e-6)
    np.testing.assert_allclose(plan.stages[1].target[:3], end, atol=1e-6)
    # less than 3 mm of wobble is no corner
    wobbling = np.array(positions)
    wobbling[3, 2] += 0.002
    assert len(segment(made_up(wobbling.tolist(), [1.0] * 15), ROBOT, EPISODE).stages) == 2


def test_a_gripper_that_flutters_a_little_begins_no_stage():
    positions = [[0.4, 0.0, 0.2], *line([0.4, 0.0, 0.2], [0.5, 0.0, 0.2], 5)]
    plan = segment(made_up(positions, [1.0, 0.9, 1.0, 0.95, 1.0]), ROBOT, EPISODE)
    assert len(plan.stages) == 1


def test_an_object_that_moves_along_the_table_is_pushed():
    positions = [[0.4, 0.0, 0.02], *line([0.4, 0.0, 0.02], [0.6, 0.0, 0.02], 10)]
    plan = segment(made_up(positions, [-1.0] * 10, held_from=5), ROBOT, EPISODE)
    assert [s.name for s in plan.stages] == ["push"]


def test_a_rollout_without_steps_has_no_plan():
    trace = RolloutRunner(ToyPick()).trace()
    with pytest.raises(
        PlanError, match=r"^expected a rollout with at least one control step, got an empty one$"
    ):
        segment(trace, ROBOT, EPISODE)


@pytest.mark.parametrize(
    ("task", "expert", "seeds", "names"),
    [
        ("ToyPick-v0", ToyPickPolicy, 40, {"approach", "close gripper", "carry"}),
        ("ToyPick-v0", ToyPickExpert, 10, {"approach", "close gripper", "carry"}),
        ("ToyPush-v0", ToyPushExpert, 10, {"approach", "push", "retreat"}),
        (
            "ToyStack-v0",
            ToyStackExpert,
            10,
            {"approach", "close gripper", "carry", "open gripper", "retreat"},
        ),
    ],
)
def test_the_plan_carried_out_open_loop_succeeds_again(task, expert, seeds, names):
    sim, solved, again = TASKS[task](), 0, 0
    for seed in range(seeds):
        sim.reset(seed)
        runner = RolloutRunner(sim)
        expert().solve(runner)
        runner.settle()
        if not sim.evaluate().success:
            continue
        solved += 1
        plan = segment(runner.trace(), sim.spec.embodiment, sim.episode)
        assert {s.name for s in plan.stages} == names
        assert len(plan.stages) <= 10
        sim.reset(seed)
        open_loop = RolloutRunner(sim)
        PlanExpert(plan).solve(open_loop)
        open_loop.settle()
        again += sim.evaluate().success
    assert solved >= 0.95 * seeds
    assert again >= 0.95 * solved
