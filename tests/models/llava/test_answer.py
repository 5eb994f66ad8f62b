import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.llava.made_up import make_sample

from failsafe.errors import RecordError
from failsafe.models.contract import MAX_ACTIONS, MAX_ROTATION, MAX_TRANSLATION, flaw
from failsafe.models.llava.answer import (
    LIMITS,
    MAX_STAGE,
    Answer,
    answer_of,
    answer_schema,
    format_answer,
    parse_answer,
    to_units,
)
from failsafe.models.llava.reading import Token, to_assessment

GOOD = '{"failing":"yes","stage":"goal","mode":"slip","actions":[[4,31,6,-210,-1,-2,-658,100]]}'


def actions(count):
    """Seven numbers over the whole range that an action may have."""
    moves = st.floats(-MAX_TRANSLATION, MAX_TRANSLATION)
    turns = st.floats(-MAX_ROTATION, MAX_ROTATION)
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
    again = parse_answer(format_answer(answer))
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
    assert parse_answer(format_answer(answer)) == answer


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_other_text_is_unreadable_and_nothing_worse(text):
    assessment = to_assessment(text, [Token(text, 0.0)])
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
        answer = parse_answer(text)
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
    answer = parse_answer(GOOD)
    assert answer.actions == ((0.0031, 0.0006, -0.021, -0.0001, -0.0002, -0.0658, 1.0),) * 4
    assert answer.sentence == "Failing during 'goal' by slip; 4 actions lead back."
    helpless = parse_answer('{ "failing": "yes", "stage": "none", "mode": "slip", "actions": [] }')
    assert helpless == Answer(True, "", "slip")
    assert helpless.needs_help
    assert helpless.sentence == "Failing by slip; no action brings it back."


def test_the_greatest_actions_are_within_the_contract():
    answer = Answer(True, "goal", "slip", (LIMITS,) * MAX_ACTIONS)
    assert answer.actions[0] == (MAX_TRANSLATION,) * 3 + (MAX_ROTATION,) * 3 + (1.0,)
    tokens = [Token('{"failing":"', 0.0), Token("yes", 0.0, {"yes": 0.0, "no": -9.0})]
    text = format_answer(answer)
    assessment = to_assessment(text, [*tokens, Token(text[len('{"failing":"yes') :], 0.0)])
    assert assessment.status.value == "ok"
    assert not flaw(assessment)
    object.__setattr__(assessment, "explanation", 5)  # what an untyped model may give
    assert "raw answer, got 5" in flaw(assessment)
    # Each number is at its limit, so together they went too far: the direction stays.
    (action,) = set(assessment.actions)
    assert math.hypot(*action[:3]) == pytest.approx(MAX_TRANSLATION)
    assert math.hypot(*action[3:6]) == pytest.approx(MAX_ROTATION)
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
        parse_answer(text)


@pytest.mark.parametrize(
    "bad", [(0.0,) * 6, (float("nan"),) * 7, (0.0, 0.0, float("inf"), 0.0, 0.0, 0.0, 1.0)]
)
def test_what_is_no_action(bad):
    with pytest.raises(RecordError, match="seven finite numbers"):
        to_units(bad)


def test_right_answers_of_samples():
    assert answer_of(make_sample(0)) == Answer(False, "reach")
    failing = answer_of(make_sample(1))
    assert failing.failing
    assert failing.mode == "translation_x"
    assert failing.actions == make_sample(1).actions
    assert answer_of(make_sample(7)).needs_help


def test_the_schema_says_what_the_parser_reads():
    schema = answer_schema(("slip", "drift"))
    assert schema["required"] == ["failing", "stage", "mode", "actions"]
    assert list(schema["properties"]) == schema["required"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["mode"]["enum"] == ["none", "slip", "drift"]
    row = schema["properties"]["actions"]["items"]
    assert (row["minItems"], row["maxItems"]) == (8, 8)
    assert row["items"] == {"type": "integer", "minimum": -1250, "maximum": 1250}
    assert "enum" not in answer_schema()["properties"]["mode"]
