"""What a monitor did and saw in an episode, as a list of events: the evidence behind every number."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class EventKind(str, enum.Enum):
    """What happened."""

    QUERY = "query"
    """The model was asked and has answered."""
    ALARM = "alarm"
    """The score passed the threshold."""
    TAKE_OVER = "take_over"
    """The correction's first action was given in place of the policy's."""
    AGAIN = "again"
    """The correction was not enough: another one follows it in the same take-over."""
    HAND_BACK = "hand_back"
    """The policy is in charge again, its queue dropped."""
    CHECK = "check"
    """A look after a take-over: whether things are better."""
    REFUSAL = "refusal"
    """An alarm that nothing was done about, with the reason."""
    FAULT = "fault"
    """The model raised, hung, or answered with what cannot be used; the policy stays in charge."""
    UNREADABLE = "unreadable"
    """The model's answer could not be read."""
    LATE = "late"
    """A verdict came after its deadline and was dropped."""
    HELP = "help"
    """The monitor has given up and asks for help."""


@dataclass(frozen=True)
class Event:
    """One event of an episode.

    Attributes:
        step: Control step, counted from the episode's beginning.
        kind: What happened.
        score: The monitor's score then, log odds that have added up; None where there is none.
        threshold: The score above which it believes.
        probability: The model's own probability of failure.
        stage: Sub-task that the model sees.
        mode: Kind of failure that the model sees.
        actions: Number of actions of the correction.
        latency: Seconds that the model took.
        description: The verdict's explanation, or the reason.
    """

    step: int
    kind: EventKind
    score: float | None = None
    threshold: float | None = None
    probability: float | None = None
    stage: str = ""
    mode: str = ""
    actions: int = 0
    latency: float = 0.0
    description: str = ""
