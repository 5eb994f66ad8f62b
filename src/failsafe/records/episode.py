"""The record of one evaluated episode: its outcome and every monitor event, without frames."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from failsafe.records.codec import Migration
from failsafe.records.event import Event, EventKind
from failsafe.records.names import check_seed, check_steps
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
        condition: "never" for the policy alone, "monitor", or the name of another condition.
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

    # In earlier formats the monitor went on as the expert after its corrections: the condition "assist".
    FORMAT: ClassVar[int] = 3
    MIGRATIONS: ClassVar[Mapping[str, Migration]] = {
        "Episode/1": lambda fields: _name_assist(_from_version_1(fields)),
        "Episode/2": lambda fields: _name_assist(fields),
    }

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

    def __post_init__(self) -> None:
        """Refuse a seed and steps that no episode has.

        Raises:
            RecordError: On such a number.
        """
        check_seed(self.key.seed)
        check_steps(self.steps, self.injection_step, self.limited_steps, *(e.step for e in self.events))

    @property
    def success(self) -> bool:
        """Whether the task succeeded, at the end and after settling."""
        return self.ending is Ending.SUCCESS

    @property
    def takeovers(self) -> tuple[tuple[int, int], ...]:
        """First step of each takeover, and one past its last; it may last to the end of the episode."""
        found: list[tuple[int, int]] = []
        start: int | None = None
        for event in self.events:
            if event.kind is EventKind.TAKE_OVER:
                start = event.step
            elif event.kind is EventKind.HAND_BACK and start is not None:
                found.append((start, event.step))
                start = None
        return tuple(found if start is None else [*found, (start, max(start, self.steps))])

    @property
    def intervention_steps(self) -> int:
        """Control steps in which the monitor acts."""
        return sum(stop - start for start, stop in self.takeovers)

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


_ASSISTED = {"monitor": "assist", "oracle-detector": "oracle-detector-assist"}
"""Conditions of earlier formats in which the monitor went on as the expert, and what they are called now."""


def _name_assist(fields: dict[str, Any]) -> dict[str, Any]:
    """Name the condition of an episode from before the monitor handed back after its corrections."""
    key = fields["key"]
    return {**fields, "key": {**key, "condition": _ASSISTED.get(key["condition"], key["condition"])}}
