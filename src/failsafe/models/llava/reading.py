"""Convert a generated answer to an assessment: values from the text, probabilities from the tokens.

In process and behind an endpoint, an answer is a list of tokens with their log-probabilities.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from failsafe.errors import RecordError
from failsafe.models.llava.answer import Answer, parse_answer
from failsafe.records.assessment import Assessment, Status
from failsafe.records.embodiment import EmbodimentSpec

_DECISION = re.compile(r'\s*\{\s*"failing"\s*:\s*"(yes|no)"')
_MODE = re.compile(r'"mode"\s*:\s*"([^"]*")')
_OTHER = {"yes": "no", "no": "yes"}


@dataclass(frozen=True)
class Token:
    """One token of an answer.

    Attributes:
        text: Its characters.
        logprob: Natural logarithm of its probability given the tokens before it.
        others: Log-probability of alternatives at this position by text; may include the token itself.
    """

    text: str
    logprob: float
    others: Mapping[str, float] = field(default_factory=dict[str, float])


def failure_probability(tokens: Sequence[Token]) -> float | None:
    """Return the probability of `yes` against `no`: a softmax over these two tokens at the decision.

    Servers list only the most likely tokens. If the other word is not listed, its probability is at most that
    of the least likely listed token, and at most the remaining probability mass. This upper bound is used, so
    the result is never overconfident.

    Returns:
        The probability; None if no token is the decision, or it has no alternatives.
    """
    text = "".join(token.text for token in tokens)
    found = _DECISION.match(text)
    if found is None:
        return None
    start = 0
    for token in tokens:
        stop = start + len(token.text)
        if start <= found.start(1) and found.end(1) <= stop:
            break
        start = stop
    else:  # the word spans several tokens
        return None
    if not token.others:
        return None
    word = found.group(1)
    here = found.start(1) - start
    nominal = token.text[:here] + _OTHER[word] + token.text[here + len(word) :]
    other = token.others.get(nominal)
    if other is None:
        known = {**token.others, token.text: token.logprob}
        rest = 1.0 - sum(math.exp(value) for value in known.values())
        other = min(min(known.values()), math.log(max(rest, 1e-9)))
    this_one = 1.0 / (1.0 + math.exp(min(max(other - token.logprob, -700.0), 700.0)))
    return this_one if word == "yes" else 1.0 - this_one


def mode_probability(tokens: Sequence[Token], mode: str) -> float:
    """Return the probability of the generated mode given the tokens before it.

    Args:
        tokens: The tokens of the answer.
        mode: The mode.

    Returns:
        The probability; 0 if the answer does not contain the mode.
    """
    found = _MODE.search("".join(token.text for token in tokens))
    if found is None or found.group(1) != f'{mode}"':
        return 0.0
    total, start = 0.0, 0
    for token in tokens:
        stop = start + len(token.text)
        if start < found.end(1) and stop > found.start(1):
            total += token.logprob
        start = stop
    return min(math.exp(total), 1.0)


def to_assessment(
    text: str,
    tokens: Sequence[Token],
    embodiment: EmbodimentSpec,
    word_counts: bool = False,
    modes: Sequence[str] = (),
) -> Assessment:
    """Convert an answer to an assessment.

    Args:
        text: The answer.
        tokens: Its tokens. Their joined text starts like `text`. An end token may follow (vLLM lists it), and
            a token may be part of a character.
        embodiment: The robot, whose step limits bound the actions.
        word_counts: Use the word `yes` or `no` as a probability of 1 or 0 if the tokens do not provide one.
        modes: The known modes; empty: accept any.

    Returns:
        An assessment with the status "unreadable" if the text is not a valid answer, "refused" if it is valid
        and its probability is unknown.
    """
    try:
        answer = parse_answer(text, embodiment)
    except RecordError as error:
        return Assessment(status=Status.UNREADABLE, raw=text, reason=str(error))
    if answer.mode and modes and answer.mode not in modes:
        reason = f"expected one of the modes {', '.join(modes)}, got '{answer.mode}'"
        return Assessment(status=Status.UNREADABLE, raw=text, reason=reason)
    written, decided = (_DECISION.match(x) for x in (text, "".join(token.text for token in tokens)))
    same = written is not None and decided is not None and written.group() == decided.group()
    probability = failure_probability(tokens) if same else None
    if probability is None:
        if not word_counts:
            reason = "expected log-probabilities of yes and no, got none: the word alone is not a probability"
            return Assessment(status=Status.REFUSED, raw=text, reason=reason)
        probability = float(answer.failing)
    return _assessment(answer, probability, tokens, text, embodiment)


def _assessment(
    answer: Answer, probability: float, tokens: Sequence[Token], text: str, embodiment: EmbodimentSpec
) -> Assessment:
    explanation = answer.sentence
    if answer.failing != (probability >= 0.5):  # of a server that samples
        explanation = f"Answer: '{explanation}', but the failure probability is {probability:.2f}."
    return Assessment(
        failure_probability=probability,
        stage=answer.stage,
        mode=answer.mode,
        mode_probability=mode_probability(tokens, answer.mode),
        actions=tuple(_within_limits(action, embodiment) for action in answer.actions),
        needs_help=answer.needs_help,
        explanation=explanation,
        raw=text,
    )


def _within_limits(action: tuple[float, ...], embodiment: EmbodimentSpec) -> tuple[float, ...]:
    """Scale translation and rotation of an action to the limits of a step."""
    moves, turns, gripper = action[:3], action[3:6], action[6]
    metres, radians = embodiment.step_limits
    slower = min(1.0, metres / max(math.hypot(*moves), 1e-9))
    calmer = min(1.0, radians / max(math.hypot(*turns), 1e-9))
    return (*(slower * value for value in moves), *(calmer * value for value in turns), gripper)
