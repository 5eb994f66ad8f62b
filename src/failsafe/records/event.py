"""The event log of a monitor. Every reported number about a monitor is computed from it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class EventKind(str, enum.Enum):
    """Type of an event."""

    QUERY = "query"
    """The model answered a query."""
    ALARM = "alarm"
    """The score exceeded the threshold."""
    TAKE_OVER = "take_over"
    """The first action of a correction replaced the policy's."""
    AGAIN = "again"
    """Another correction follows within the same takeover."""
    HAND_BACK = "hand_back"
    """The policy controls the robot again. Its queued actions were dropped."""
    CHECK = "check"
    """Query after a takeover: whether the failure persists."""
    REFUSAL = "refusal"
    """An alarm without a takeover; the description says why."""
    FAULT = "fault"
    """The model raised, timed out, or returned an invalid assessment. The policy stays in control."""
    UNREADABLE = "unreadable"
    """The model's answer did not parse."""
    LATE = "late"
    """An assessment arrived after its deadline and was dropped."""
    HELP = "help"
    """The monitor has given up and asks for help."""


@dataclass(frozen=True)
class Event:
    """One event of an episode.

    Attributes:
        step: Control step, counted from the beginning of the episode.
        kind: Type of the event.
        score: The monitor's CUSUM score (accumulated log odds); None without a score.
        threshold: The score above which the monitor alarms.
        probability: The model's probability of failure.
        stage: Stage that the model recognizes.
        mode: Failure mode that the model recognizes.
        actions: Number of actions of the correction.
        latency: Time that the model took, seconds.
        description: The model's explanation, or the reason for the event.
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
