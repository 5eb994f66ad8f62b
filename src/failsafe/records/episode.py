"""The record of one evaluated episode: what came of it, and every event on the way. No frames."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from failsafe.records.codec import Migration
from failsafe.records.event import Event, EventKind


class Ending(str, enum.Enum):
    """How an episode ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    POLICY_ERROR = "policy_error"
    """The policy gave no action that could be used."""
    DIVERGED = "diverged"
    CRASHED = "crashed"
    """The process died twice while at work on it."""


@dataclass(frozen=True)
class EpisodeKey:
    """Which episode it is; equal keys are equal episodes.

    Attributes:
        task: Name of the task.
        scenario: What is unlike training: "nominal" or the name of a scenario.
        policy: The base policy, as it was asked for.
        condition: "never" for the policy alone, "monitor", or the name of a control.
        seed: Seed of the initial state.
    """

    task: str
    scenario: str
    policy: str
    condition: str
    seed: int


@dataclass(frozen=True)
class Episode:
    """What came of an episode.

    Attributes:
        key: Which one it is.
        instruction: The task in words.
        ending: How it ended.
        steps: Control steps.
        robot_seconds: Seconds that those take on the robot.
        policy_seconds: Seconds of computing the base policy's actions.
        monitor_seconds: Seconds in which the monitor held up the policy.
        events: What the monitor did and saw.
        description: Why it ended so, where that needs saying.
        onset: Control step in which an accident began, None where there was none.
    """

    FORMAT: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[str, Migration]] = {"Episode/1": lambda fields: _from_version_1(fields)}

    key: EpisodeKey
    instruction: str
    ending: Ending
    steps: int
    robot_seconds: float
    policy_seconds: float = 0.0
    monitor_seconds: float = 0.0
    events: tuple[Event, ...] = ()
    description: str = ""
    onset: int | None = None

    @property
    def success(self) -> bool:
        """Whether the task was done, at the end and after settling."""
        return self.ending is Ending.SUCCESS

    def count(self, kind: EventKind) -> int:
        """How many events of a kind there were."""
        return sum(event.kind is kind for event in self.events)

    @property
    def top_score(self) -> float | None:
        """The monitor's highest score, None where it has none."""
        return max((e.score for e in self.events if e.score is not None), default=None)


def _from_version_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Rename the fields that version 1 of the record named otherwise."""
    key, events = dict(fields["key"]), [dict(event) for event in fields.get("events", ())]
    key["condition"] = key.pop("arm")
    for event in events:
        event["description"] = event.pop("words", "")
        event["kind"] = "query" if event["kind"] == "look" else event["kind"]
    fields = {**fields, "key": key, "events": events, "description": fields.get("words", "")}
    fields.pop("words", None)
    return fields
