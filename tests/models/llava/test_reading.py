import math

import pytest

from failsafe.models.llava.answer import Answer, format_answer
from failsafe.models.llava.reading import Token, failure_probability, mode_probability, to_assessment
from failsafe.records.assessment import Status
from failsafe.records.embodiment import MANISKILL_PANDA

REST_OF_NO = '","stage":"lift","mode":"none","actions":[]}'


def tokens_of(*parts):
    return [part if isinstance(part, Token) else Token(part, -0.1) for part in parts]


@pytest.mark.parametrize(
    ("word", "others", "expected"),
    [
        # Two logits 2 apart: 1 / (1 + e^-2), whatever else takes its share.
        ("yes", {"yes": -0.5, "no": -2.5, "maybe": -1.2}, 0.8807970779778823),
        ("no", {"no": -0.5, "yes": -2.5}, 0.11920292202211755),
        ("yes", {"yes": 0.0, "no": -10000.0}, 1.0),
        # Not listed: it has at most what the last one listed has ...
        ("yes", {"yes": math.log(0.6), "so": math.log(0.2)}, 0.6 / 0.8),
        # ... and at most what is left.
        ("yes", {"yes": math.log(0.6), "so": math.log(0.38)}, 0.6 / 0.62),
        ("no", {"so": math.log(0.38), "no": math.log(0.6)}, 0.02 / 0.62),
    ],
)
def test_probability_by_hand(word, others, expected):
    tokens = tokens_of('{"', "failing", '":"', Token(word, others[word], others), REST_OF_NO)
    assert failure_probability(tokens) == pytest.approx(expected, abs=1e-9)


def test_tokens_may_be_cut_elsewhere():
    tokens = tokens_of('{ "failing":', Token(' "yes', -0.5, {' "yes': -0.5, ' "no': -2.5}), '", "stage"')
    assert failure_probability(tokens) == pytest.approx(0.88079707797)
    # The same word elsewhere says nothing.
    assert (
        failure_probability(tokens_of('{"stage":"', Token("yes", -0.5, {"yes": -0.5, "no": -2.5}), '"}'))
        is None
    )


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        tokens_of('{"failing":"', Token("yes", -0.5), REST_OF_NO),
        tokens_of('{"failing":"', Token("ye", -0.5, {"ye": -0.5, "no": -2.5}), "s", REST_OF_NO),
        tokens_of('{"failing":"', Token("maybe", -0.5, {"yes": -0.5, "no": -2.5}), REST_OF_NO),
    ],
)
def test_unknown_is_none(tokens):
    assert failure_probability(tokens) is None


def test_probability_of_the_mode():
    tokens = [
        Token('{"failing":"yes","stage":"goal","mode":"', -3.0),
        Token("translation", math.log(0.8)),
        Token("_x", math.log(0.5)),
        Token('","', math.log(0.9)),
        Token('actions":[]}', -3.0),
    ]
    assert mode_probability(tokens, "translation_x") == pytest.approx(0.8 * 0.5 * 0.9)
    assert mode_probability(tokens, "slip") == 0.0
    assert mode_probability(tokens_of('{"failing":"no"}'), "slip") == 0.0


def test_the_probability_is_the_tokens_not_the_words():
    """A server that samples may write "no" where "yes" is likelier."""
    tokens = tokens_of(
        '{"failing":"', Token("no", math.log(0.3), {"yes": math.log(0.7), "no": math.log(0.3)}), REST_OF_NO
    )
    assessment = to_assessment("".join(token.text for token in tokens), tokens, MANISKILL_PANDA)
    assert assessment.failure_probability == pytest.approx(0.7)
    assert assessment.failing
    assert (
        assessment.explanation == "Answer: 'All is well during 'lift'.', but the failure probability is 0.70."
    )


@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>", ""])
def test_a_token_that_ends_the_answer_may_be_listed(end):
    """vLLM lists the log-probability of the token that ends the answer, which is not in its text."""
    decided = Token("no", math.log(0.8), {"yes": math.log(0.1), "no": math.log(0.8)})
    tokens = tokens_of('{"failing":"', decided, REST_OF_NO)
    text = "".join(token.text for token in tokens)
    assessment = to_assessment(text, [*tokens, Token(end, -0.01)], MANISKILL_PANDA)
    assert assessment == to_assessment(text, tokens, MANISKILL_PANDA)
    assert assessment.failure_probability == pytest.approx(0.1 / 0.9)


def test_letters_that_take_several_tokens():
    decided = Token("yes", math.log(0.8), {"yes": math.log(0.8), "no": math.log(0.1)})
    tokens = tokens_of(
        '{"failing":"', decided, '","stage":"W', "\ufffd", "\ufffd", 'rfel","mode":"slip","actions":[]}'
    )
    assessment = to_assessment(
        '{"failing":"yes","stage":"W\u00fcrfel","mode":"slip","actions":[]}', tokens, MANISKILL_PANDA
    )
    assert (assessment.status, assessment.stage) == (Status.OK, "W\u00fcrfel")
    assert assessment.failure_probability == pytest.approx(0.8 / 0.9)
    assert assessment.mode_probability > 0


def test_tokens_of_another_text_tell_nothing():
    tokens = tokens_of('{"failing":"', Token("no", -0.1, {"yes": -2.0, "no": -0.1}), REST_OF_NO)
    assert (
        to_assessment(format_answer(Answer(True, "lift", "slip")), tokens, MANISKILL_PANDA).status
        is Status.REFUSED
    )


def test_a_kind_that_there_is_not_cannot_be_read():
    decided = Token("yes", math.log(0.8), {"yes": math.log(0.8), "no": math.log(0.1)})
    tokens = tokens_of('{"failing":"', decided, '","stage":"lift","mode":"banana","actions":[]}')
    text = "".join(token.text for token in tokens)
    assessment = to_assessment(text, tokens, MANISKILL_PANDA, modes=("slip", "drift"))
    assert (assessment.status, assessment.reason) == (
        Status.UNREADABLE,
        "expected one of the modes slip, drift, got 'banana'",
    )
    assert not assessment.failing
    assert to_assessment(text, tokens, MANISKILL_PANDA).mode == "banana"


def test_a_word_is_no_probability_unless_asked_for():
    text = format_answer(Answer(True, "lift", "slip"))
    refused = to_assessment(text, [], MANISKILL_PANDA)
    assert refused.status is Status.REFUSED
    assert "log-probabilities" in refused.reason
    assert refused.raw == text
    taken = to_assessment(text, [], MANISKILL_PANDA, word_counts=True)
    assert (taken.status, taken.failure_probability, taken.mode, taken.needs_help) == (
        Status.OK,
        1.0,
        "slip",
        True,
    )
    assert taken.explanation == "Failing during 'lift' by slip; no action brings it back."
