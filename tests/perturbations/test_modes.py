"""Every mode changes the physics in the way its name says, in more than one engine."""

import dataclasses
import importlib.util

import numpy as np
import pytest
from tests.perturbations.bench import Bench
from tests.perturbations.effects import SHOWN

from failsafe.perturbations import MODES, Scene
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.perturbation import Level, Perturbation
from failsafe.records.plan import CLOSED, OPEN, Stage, StagePlan, StageSpan
from failsafe.simulators.contract import EpisodeSpec, Exactness, ObjectSpec, Role, SimulatorSpec

ASKED_FOR = {
    *("translation_x", "translation_y", "translation_z", "rotation_x", "rotation_y", "rotation_z"),
    *("misperceived_position", "wrong_object", "wrong_goal", "step_omitted"),
    *("no_op", "gripper_stays_open", "early_release", "late_close", "drift"),
    *("slip", "object_pushed", "object_knocked_over", "object_dropped"),
}


@pytest.fixture(scope="module")
def benches():
    made: dict[str, Bench] = {}
    yield made
    for bench in made.values():
        bench.task.simulator.close()


def in_every_task():
    for mode, (effect, tasks) in SHOWN.items():
        for task in tasks:
            marks = [] if task.startswith("Toy") else [pytest.mark.maniskill]
            yield pytest.param(effect, task, id=f"{mode}-{task}", marks=marks)


@pytest.mark.parametrize(("effect", "task"), list(in_every_task()))
def test_a_mode_does_what_its_name_says(benches, effect, task):
    if not task.startswith("Toy") and importlib.util.find_spec("mani_skill") is None:
        pytest.skip("needs the extra [maniskill]")
    if task not in benches:
        benches[task] = Bench(task)
    effect(benches[task])


def test_every_mode_is_shown_in_both_engines():
    assert set(MODES) == ASKED_FOR
    for mode in MODES:
        _, tasks = SHOWN[mode]
        assert {task.startswith("Toy") for task in tasks} == {True, False}, mode


def test_levels_go_along_the_robots_loop():
    levels = {level: {m for m in MODES if MODES[m].level is level} for level in Level}
    assert {level: len(modes) for level, modes in levels.items()} == {
        Level.BELIEF: 3,
        Level.PLAN: 7,
        Level.ACTUATION: 5,
        Level.WORLD: 4,
    }


# ---------------------------------------------------------------- where a mode applies


def span(name, travel=0.1, before=OPEN, gripper=OPEN, held=(), held_after=()):
    return StageSpan(name, 0, 10, travel, 0.0, before, gripper, held, held_after)


def scene(spans, *objects, controls_rotation=True):
    """A scene of facts alone. Objects are given as (name, role)."""
    stages = tuple(Stage(s.name, (0.5, 0.0, 0.1, 0.0, 1.0, 0.0, 0.0), s.gripper, 2) for s in spans)
    dimensions = (*(True,) * 3, *(controls_rotation,) * 3, True)
    return Scene(
        spec=SimulatorSpec(
            task="made up",
            exactness=Exactness.REPLAY,
            embodiment=EmbodimentSpec(
                robot="made up",
                control_hz=20.0,
                max_translation=0.02,
                max_rotation=0.1,
                gripper_travel=0.08,
                gripper_seconds=0.2,
                workspace_low=(-1.0, -1.0, -1.0),
                workspace_high=(1.0, 1.0, 1.0),
                action_dimensions=dimensions,
            ),
            command_size=4,
        ),
        episode=EpisodeSpec(
            seed=0,
            instruction="do it",
            objects=tuple(ObjectSpec(name, role, (0.02, 0.02, 0.02)) for name, role in objects),
        ),
        plan=StagePlan("do it", stages),
        spans=tuple(spans),
        objects=np.tile([0.5, 0.0, 0.02, 1.0, 0.0, 0.0, 0.0], (len(objects), 1)),
        tcp_pose=np.array([0.4, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0]),
    )


WAIT, REACH = span("wait", travel=0.0), span("reach")
CLOSE = span("close", travel=0.0, gripper=CLOSED, held_after=("cube",))
CARRY = span("carry", before=CLOSED, gripper=CLOSED, held=("cube",), held_after=("cube",))
LET_GO = span("let go", travel=0.0, before=CLOSED, held=("cube",))
CUBE, BRICK = ("cube", Role.MOVABLE), ("brick", Role.MOVABLE)
GOAL, WALL = ("goal", Role.GOAL), ("wall", Role.FIXED)
PICK = (WAIT, REACH, CLOSE, CARRY, LET_GO)


def applies(mode, made):
    return [made.spans[i].name for i in range(len(made.spans)) if MODES[mode].applies(made, i)]


@pytest.mark.parametrize(
    ("modes", "stages"),
    [
        (("slip", "object_dropped", "early_release"), ["carry"]),
        (("gripper_stays_open", "late_close"), ["close"]),
        (("object_pushed", "object_knocked_over"), ["wait", "reach"]),
        (("translation_x", "translation_z", "rotation_x", "rotation_z", "drift"), ["reach", "carry"]),
        (("step_omitted",), ["reach", "close", "carry", "let go"]),
        (("no_op",), ["wait", "reach", "close", "carry", "let go"]),
        (("misperceived_position", "wrong_goal"), ["reach"]),
        (("wrong_object",), []),
    ],
    ids=lambda value: value[0] if value and isinstance(value, tuple) else "",
)
def test_a_mode_applies_by_facts(modes, stages):
    for mode in modes:
        assert applies(mode, scene(PICK, CUBE, GOAL)) == stages, mode


def test_nothing_closes_on_air():
    made = scene((REACH, span("close", travel=0.0, gripper=CLOSED)), CUBE)
    assert applies("late_close", made) == applies("gripper_stays_open", made) == []


def test_a_tool_that_cannot_turn_is_not_turned():
    for axis in "xyz":
        assert applies(f"rotation_{axis}", scene(PICK, CUBE, controls_rotation=False)) == []
        assert applies(f"translation_{axis}", scene(PICK, CUBE, controls_rotation=False))


def test_objects_are_taken_for_each_other_where_there_are_two():
    assert applies("wrong_object", scene(PICK, CUBE, BRICK)) == ["reach"]
    assert MODES["wrong_object"].candidates(scene(PICK, CUBE, BRICK), 1) == ("cube",)
    assert applies("wrong_object", scene((REACH,), CUBE, BRICK)) == []  # none is taken hold of
    assert applies("wrong_object", scene(PICK, CUBE, WALL)) == []


@pytest.mark.parametrize(
    ("objects", "goals"),
    [
        ((CUBE, GOAL, WALL), ("goal",)),
        ((CUBE, WALL), ("wall",)),
        ((CUBE, BRICK), ("brick",)),
        ((CUBE,), ()),
    ],
)
def test_a_goal_is_a_mark_or_a_fixture_or_what_is_stacked_on(objects, goals):
    made = scene(PICK, *objects)
    assert MODES["wrong_goal"].candidates(made, 1) == goals
    assert applies("wrong_goal", made) == (["reach"] if goals else [])


def test_only_what_is_not_in_the_grip_is_pushed():
    made = scene(PICK, CUBE, BRICK, GOAL)
    assert [MODES["object_pushed"].candidates(made, i) for i in (1, 3)] == [("cube", "brick"), ("brick",)]
    assert applies("object_pushed", made) == [s.name for s in PICK]


# ---------------------------------------------------------------- how a mode acts


def act(mode, made, stage, magnitude, direction=0.0, name=""):
    unit = MODES[mode].unit
    drawn = Perturbation(mode, stage, made.spans[stage].name, 0.0, magnitude, unit, direction, name)
    return MODES[mode](drawn, made)


def test_an_offset_ends_with_the_next_stage_that_moves_the_fingers():
    made = scene(PICK, CUBE)
    edited = act("translation_y", made, 1, 0.05).edit(made.plan)
    assert [round(s.target[1], 6) for s in edited.stages] == [0.0, 0.05, 0.05, 0.0, 0.0]
    edited = act("translation_y", made, 3, -0.05).edit(made.plan)
    assert [round(s.target[1], 6) for s in edited.stages] == [0.0, 0.0, 0.0, -0.05, -0.05]


def test_a_first_stage_left_out_keeps_the_tool_where_it_is():
    made = scene((REACH, CLOSE), CUBE)
    edited = act("step_omitted", made, 0, 1.0).edit(made.plan)
    assert edited.stages[0].target == (0.4, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0)
    assert (edited.stages[0].name, edited.stages[0].gripper, edited.stages[0].hold) == (
        "reach (left out)",
        OPEN,
        0,
    )
    assert edited.stages[1:] == made.plan.stages[1:]


def test_swapped_objects_keep_their_heights():
    made = scene(PICK, CUBE, BRICK)
    made.objects[1, :3] = [0.3, 0.2, 0.05]
    believed = act("wrong_object", made, 1, 1.0, name="cube").believe()
    np.testing.assert_allclose(believed["cube"][:3], [0.3, 0.2, 0.02])
    np.testing.assert_allclose(believed["brick"][:3], [0.5, 0.0, 0.05])


def test_a_second_mode_of_a_name_is_refused():
    with pytest.raises(ValueError, match="already a mode 'slip'"):
        MODES.register("slip")(MODES["slip"])


def test_a_perturbation_reads_as_a_clause():
    drawn = Perturbation("object_pushed", 1, "reach", 0.5, 0.042, "m", 1.0, "cube")
    assert drawn.description == "object pushed (cube): 0.042 m, 50% into 'reach'"
    assert dataclasses.replace(drawn, object="", mode="drift").description.startswith("drift: 0.042 m")
