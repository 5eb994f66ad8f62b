import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.llava.made_up import make_sample

from failsafe.errors import RecordError
from failsafe.models.contract import MAX_ACTIONS, flaw
from failsafe.models.llava.answer import (
    MAX_STAGE,
    Answer,
    answer_of,
    answer_schema,
    format_answer,
    parse_answer,
    to_units,
    unit_limits,
)
from failsafe.models.llava.card import CARD, LlavaCard, read_card, write_card
from failsafe.models.llava.reading import Token, to_assessment
from failsafe.records.assessment import WindowSpec
from failsafe.records.embodiment import LIBERO_PANDA, MANISKILL_PANDA

GOOD = '{"failing":"yes","stage":"goal","mode":"slip","actions":[[4,31,6,-210,-1,-2,-658,100]]}'


def actions(count):
    """Seven numbers over the whole range that an action may have."""
    moves = st.floats(-MANISKILL_PANDA.max_translation, MANISKILL_PANDA.max_translation)
    turns = st.floats(-MANISKILL_PANDA.max_rotation, MANISKILL_PANDA.max_rotation)
    row = st.tuples(moves, moves, moves, turns, turns, turns, st.floats(-1.0, 1.0))
    # Runs of equal actions are what most corrections are made of.
    runs = st.tuples(row, st.integers(1, MAX_ACTIONS)).map(lambda x: [x[0]] * x[1])
    some = st.lists(runs, max_size=6).map(lambda found: tuple(a for run in found for a in run)[:count])
    return some | st.lists(row, max_size=count).map(tuple)


stages = st.text(st.characters(codec="utf-8"), max_size=MAX_STAGE).filter(
    lambda text: text.isprintable() and text != "none"
)
modes = st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True).filter(lambda text: text != "none")


@given(actions(MAX_ACTIONS), stages, modes)
def test_a_failure_reads_back_to_the_same_numbers(given_actions, stage, mode):
    answer = Answer(True, stage, mode, tuple(to_units(a) for a in given_actions))
    again = parse_answer(format_answer(answer), MANISKILL_PANDA)
    assert again == answer
    assert format_answer(again) == format_answer(answer)
    assert len(again.actions) == len(given_actions)
    for meant, read in zip(given_actions, again.actions, strict=True):
        assert all(abs(a - b) <= 0.5e-4 + 1e-12 for a, b in zip(meant[:6], read[:6], strict=True))
        assert abs(meant[6] - read[6]) <= 0.5e-2 + 1e-12
        # Rounded once, it stays: what is read may be written and read again.
        assert to_units(read) == to_units(meant)


@given(stages)
def test_no_failure_reads_back(stage):
    answer = Answer(False, stage)
    assert parse_answer(format_answer(answer), MANISKILL_PANDA) == answer


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_other_text_is_unreadable_and_nothing_worse(text):
    assessment = to_assessment(text, [Token(text, 0.0)], MANISKILL_PANDA)
    assert assessment.status.value == "unreadable"
    assert assessment.raw == text
    assert assessment.reason
    assert not assessment.failing


@given(st.data())
def test_damage_never_gives_other_numbers(data):
    """A character left out or put in: unreadable, or an answer that the text really says."""
    at = data.draw(st.integers(0, len(GOOD) - 1))
    put = data.draw(st.sampled_from(["", *'0123456789-,[]{}":. ntfe']))
    text = GOOD[:at] + put + GOOD[at + 1 :]
    try:
        answer = parse_answer(text, MANISKILL_PANDA)
    except RecordError:
        return
    assert json.loads(text)["actions"] == json.loads(format_answer(answer))["actions"]


def test_texts_by_hand():
    assert (
        format_answer(Answer(False, "lift")) == '{"failing":"no","stage":"lift","mode":"none","actions":[]}'
    )
    down = to_units((0.0031, 0.0006, -0.021, -0.0001, -0.0002, -0.0658, 1.0))
    assert down == (31, 6, -210, -1, -2, -658, 100)
    assert format_answer(Answer(True, "goal", "slip", (down,) * 4)) == GOOD
    answer = parse_answer(GOOD, MANISKILL_PANDA)
    assert answer.actions == ((0.0031, 0.0006, -0.021, -0.0001, -0.0002, -0.0658, 1.0),) * 4
    assert answer.sentence == "Failing during 'goal' by slip; 4 actions lead back."
    helpless = parse_answer(
        '{ "failing": "yes", "stage": "none", "mode": "slip", "actions": [] }', MANISKILL_PANDA
    )
    assert helpless == Answer(True, "", "slip")
    assert helpless.needs_help
    assert helpless.sentence == "Failing by slip; no action brings it back."


@pytest.mark.parametrize(
    ("robot", "limits"),
    [
        (MANISKILL_PANDA, (250, 250, 250, 1250, 1250, 1250, 100)),
        (LIBERO_PANDA, (866, 866, 866, 8660, 8660, 8660, 100)),
    ],
    ids=["maniskill", "libero"],
)
def test_the_greatest_actions_are_within_the_contract(robot, limits):
    assert unit_limits(robot) == limits
    answer = Answer(True, "goal", "slip", (limits,) * MAX_ACTIONS).within(robot)
    tokens = [Token('{"failing":"', 0.0), Token("yes", 0.0, {"yes": 0.0, "no": -9.0})]
    text = format_answer(answer)
    assessment = to_assessment(text, [*tokens, Token(text[len('{"failing":"yes') :], 0.0)], robot)
    assert assessment.status.value == "ok"
    assert not flaw(assessment)
    object.__setattr__(assessment, "explanation", 5)  # what an untyped model may give
    assert "raw answer, got 5" in flaw(assessment)
    # Each number is at its limit, so together they went too far: the direction stays.
    (action,) = set(assessment.actions)
    assert math.hypot(*action[:3]) == pytest.approx(robot.max_translation)
    assert math.hypot(*action[3:6]) == pytest.approx(robot.max_rotation)
    assert action[0] == action[1] == action[2]
    assert action[3] == action[4] == action[5]
    assert action[6] == 1.0


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "does not parse"),
        (GOOD[:-1], "does not parse"),
        (GOOD + " Good luck!", "does not parse"),
        (GOOD.replace("yes", "Yes"), "yes or no"),
        (GOOD.replace('"yes"', "true"), "yes or no"),
        (GOOD.replace('"slip"', '"none"'), "expected a mode if and only if failing is yes"),
        (GOOD.replace('"slip"', '"Slip!"'), "lower-case letters"),
        (GOOD.replace('"slip"', '""'), "empty text"),
        (GOOD.replace('"goal"', '"a\\nb"'), "printable"),
        (GOOD.replace('"goal"', '"' + "g" * 81 + '"'), "printable"),
        (GOOD.replace("yes", "no"), "expected a mode if and only if failing is yes"),
        (GOOD.replace("yes", "no").replace("slip", "none"), "actions only if failing is yes"),
        (GOOD.replace("[[4,31", "[[4.0,31"), "whole numbers"),
        (GOOD.replace("[[4,31", "[[4,true"), "whole numbers"),
        (GOOD.replace("[[4,31", "[[4,NaN"), "whole numbers"),
        (GOOD.replace("[[4,", "[[0,"), "count from 1"),
        (GOOD.replace("[[4,", "[[25,"), "count from 1"),
        (GOOD.replace("[[4,", "[[13,").replace("]]", "],[12,1,1,1,1,1,1,1]]"), "at most 24 actions"),
        (GOOD.replace("[[4,", "[["), "seven numbers"),
        (GOOD.replace(",31,", ",251,"), "within"),
        (GOOD.replace("-658", "-1251"), "within"),
        (GOOD.replace(",100]", ",101]"), "within"),
        (GOOD.replace("[[4,31,6,-210,-1,-2,-658,100]]", "[[]]"), "seven numbers"),
        (GOOD.replace("[[4,31,6,-210,-1,-2,-658,100]]", "{}"), "to be a list"),
        (GOOD.replace('"mode":"slip",', ""), "in this order"),
        (GOOD.replace('"mode":"slip"', '"mode":"slip","mode":"drift"'), "in this order"),
        (GOOD.replace('{"failing"', '{"note":"x","failing"'), "in this order"),
        ("[" * 3000, "does not parse"),
        (GOOD + " " * 5000, "at most 4096 characters"),
        ("9" * 4090, "in this order"),
    ],
)
def test_what_is_no_answer(text, because):
    with pytest.raises(RecordError, match=because):
        parse_answer(text, MANISKILL_PANDA)


@pytest.mark.parametrize(
    "bad", [(0.0,) * 6, (float("nan"),) * 7, (0.0, 0.0, float("inf"), 0.0, 0.0, 0.0, 1.0)]
)
def test_what_is_no_action(bad):
    with pytest.raises(RecordError, match="seven finite numbers"):
        to_units(bad)


def test_right_answers_of_samples():
    assert answer_of(make_sample(0), MANISKILL_PANDA) == Answer(False, "reach")
    failing = answer_of(make_sample(1), MANISKILL_PANDA)
    assert failing.failing
    assert failing.mode == "translation_x"
    assert failing.actions == make_sample(1).actions
    assert answer_of(make_sample(7), MANISKILL_PANDA).needs_help


def test_the_schema_says_what_the_parser_reads():
    schema = answer_schema(MANISKILL_PANDA, ("slip", "drift"))
    assert schema["required"] == ["failing", "stage", "mode", "actions"]
    assert list(schema["properties"]) == schema["required"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["mode"]["enum"] == ["none", "slip", "drift"]
    row = schema["properties"]["actions"]["items"]
    assert (row["minItems"], row["maxItems"]) == (8, 8)
    assert row["items"] == {"type": "integer", "minimum": -1250, "maximum": 1250}
    assert "enum" not in answer_schema(MANISKILL_PANDA)["properties"]["mode"]


def test_an_action_of_one_robot_is_out_of_range_for_another():
    far = GOOD.replace(",31,", ",400,")  # 40 mm in one step
    with pytest.raises(RecordError, match="within"):
        parse_answer(far, MANISKILL_PANDA)
    assert parse_answer(far, LIBERO_PANDA).actions[0][0] == 0.04
    sample = replace(make_sample(1), actions=((0.04, 0.0, 0.0, 0.3, 0.0, 0.0, 1.0),))
    with pytest.raises(RecordError, match="within"):
        answer_of(sample, MANISKILL_PANDA)
    assert answer_of(sample, LIBERO_PANDA).rows == ((400, 0, 0, 3000, 0, 0, 100),)
    assert answer_schema(LIBERO_PANDA)["properties"]["actions"]["items"]["items"]["maximum"] == 8660


def test_a_card_states_the_robot_and_earlier_ones_mean_the_panda(tmp_path):
    write_card(tmp_path, LlavaCard(WindowSpec(), embodiment=LIBERO_PANDA))
    assert read_card(tmp_path).embodiment == LIBERO_PANDA
    text = json.loads((tmp_path / CARD).read_text())
    del text["embodiment"]
    (tmp_path / CARD).write_text(json.dumps(text))
    assert read_card(tmp_path).embodiment == MANISKILL_PANDA
