"""The record of one evaluated episode: its outcome and every monitor event, without frames."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from failsafe.records.codec import Migration
from failsafe.records.event import Event, EventKind
from failsafe.records.perturbation import Perturbation


class Ending(str, enum.Enum):
    """How an episode ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    POLICY_ERROR = "policy_error"
    """The policy returned no valid action."""
    DIVERGED = "diverged"
    CRASHED = "crashed"
    """The worker process died twice during the episode."""


@dataclass(frozen=True)
class EpisodeKey:
    """Identity of an episode: equal keys denote the same episode.

    Attributes:
        task: Name of the task.
        scenario: Name of the scenario; "nominal" is the training distribution.
        policy: The base policy, as the user named it.
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
    """The outcome of an episode.

    Attributes:
        key: Which one it is.
        instruction: What the robot was told to do, in natural language.
        ending: How it ended.
        steps: Control steps.
        limited_steps: Control steps in which the policy asked for more than the robot's step limits, so that
            a part of the step was carried out; None in records of older versions.
        robot_seconds: Seconds that those take on the robot.
        policy_seconds: Seconds of computing the base policy's actions.
        monitor_seconds: Seconds for which the monitor blocked the policy.
        events: What the monitor did and saw.
        description: Why it ended so, where that needs saying.
        perturbations: Run-time perturbations that were drawn.
        injection_step: First control step on which one of them acted, None where none did.
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
    perturbations: tuple[Perturbation, ...] = ()
    injection_step: int | None = None
    limited_steps: int | None = None

    @property
    def success(self) -> bool:
        """Whether the task succeeded, at the end and after settling."""
        return self.ending is Ending.SUCCESS

    def count(self, kind: EventKind) -> int:
        """Return the number of events of one kind."""
        return sum(event.kind is kind for event in self.events)

    @property
    def top_score(self) -> float | None:
        """The monitor's highest score; None without scores."""
        return max((e.score for e in self.events if e.score is not None), default=None)


def _from_version_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Rename the fields of version 1."""
    key, events = dict(fields["key"]), [dict(event) for event in fields.get("events", ())]
    key["condition"] = key.pop("arm")
    for event in events:
        event["description"] = event.pop("words", "")
        event["kind"] = "query" if event["kind"] == "look" else event["kind"]
    fields = {**fields, "key": key, "events": events, "description": fields.get("words", "")}
    fields["injection_step"] = fields.get("onset")
    return {name: value for name, value in fields.items() if name not in ("words", "onset")}
