"""The monitor: it watches an episode, says when to take over and where to lead the tool, and hands back.

It never makes things worse silently: whatever goes wrong with the model leaves the base policy in charge,
with the actions that it would have given anyway, and is an event.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from failsafe.errors import UserError
from failsafe.models.contract import RecoveryModel
from failsafe.monitors.assessor import Assessor, Reply
from failsafe.monitors.cusum import CusumDetector
from failsafe.monitors.history import History
from failsafe.monitors.timing import QueryTiming
from failsafe.monitors.waypoints import Waypoint, Workspace, catch_up, waypoints
from failsafe.policies.contract import Frame
from failsafe.records.assessment import Assessment, Status
from failsafe.records.event import Event, EventKind
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

_SHORT_STEPS, _SHORT_METRES, _SHORT_RADIANS = 2, 0.01, 0.1
"""A correction of so few steps that goes less far than this has nothing to correct."""


@dataclass(frozen=True)
class MonitorSettings:
    """When to look, act and give up.

    Attributes:
        timing: When the model is asked.
        drift: Log odds taken off at each look before they add up to the score (`CusumDetector`).
        threshold_again: Score above which an episode that has seen a take-over sees another alarm, if that is
            less than the threshold, which is for those who do not know yet that something is wrong.
        take_overs: The most take-overs of an episode.
        corrections: The most corrections of one take-over: after each the model looks again, and another one
            is carried out if it still sees a failure that is to be corrected.
        action_steps: The most actions of a correction.
        continuation_steps: Control steps of a take-over for which the monitor goes on as the expert would,
            looking again whenever it has done what the model said; 0 hands back as soon as the smallest
            correction is done.
        cool_down: Control steps after a take-over in which there is no other.
        asynchronous: The policy goes on while the model thinks.
        deadline: Seconds after which a verdict is dropped.
        workspace: The box that the tool is kept in while the monitor acts.
    """

    timing: QueryTiming = field(default_factory=QueryTiming)
    drift: float = 2.0
    threshold_again: float = 5.0
    take_overs: int = 6
    corrections: int = 6
    action_steps: int = 24
    continuation_steps: int = 72
    cool_down: int = 10
    asynchronous: bool = False
    deadline: float = 5.0
    workspace: Workspace = field(default_factory=Workspace)

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        least = {"drift": 0, "threshold_again": 0, "take_overs": 0, "corrections": 1}
        least |= {"action_steps": 1, "continuation_steps": 0, "cool_down": 0}
        for name, number in least.items():
            if not number <= (got := getattr(self, name)) < math.inf:
                raise UserError(f"expected a monitor's {name} of at least {number}, got {got}")
        if not 0 < self.deadline < math.inf:
            raise UserError(f"expected a monitor's deadline above 0 seconds, got {self.deadline}")


def ignore(_: Event) -> None:
    """Nobody listens."""


def _is_nothing(rows: Sequence[Sequence[float]]) -> bool:
    """Whether a correction is so small that what is missing is to go on: nothing was carried out, say."""
    moved = np.array([row[:6] for row in rows]).sum(0) if rows else np.zeros(6)
    metres, radians = np.linalg.norm(moved[:3]), np.linalg.norm(moved[3:])
    return 0 < len(rows) <= _SHORT_STEPS and bool(metres < _SHORT_METRES and radians < _SHORT_RADIANS)


class Monitor:
    """Watches an episode step by step, and says when to take over and where to lead the tool.

    Args:
        model: The recovery model.
        threshold: Score above which an alarm is raised, in log odds that have added up: a number, or one by
            instruction, such as `Calibration.threshold`.
        settings: When to look, act and give up.
        tell: Called with every event.
        ask_help: Called once an episode, when the monitor gives up.

    Attributes:
        events: What happened in this episode.
        step: Control step of this episode, from 0.
        blocking_latency: Seconds in this episode in which the policy waited for the model.
    """

    def __init__(
        self,
        model: RecoveryModel,
        threshold: float | Callable[[str], float] = 5.0,
        settings: MonitorSettings | None = None,
        tell: Callable[[Event], None] = ignore,
        ask_help: Callable[[Event], None] = ignore,
    ) -> None:
        self.model = model
        self._settings = settings or MonitorSettings()
        self._threshold_of = threshold if callable(threshold) else lambda _: threshold
        self._assessor = Assessor(model, self._settings.deadline)
        self._tell, self._ask_help = tell, ask_help
        self._history = History(model.window_spec)
        self.begin("")

    def begin(self, instruction: str) -> None:
        """Another episode begins."""
        self._instruction = instruction
        self._threshold = self._threshold_of(instruction)
        self._assessor.forget()
        self._history.clear()
        self.events: list[Event] = []
        self.blocking_latency = 0.0
        self.step = -1
        self._detector = CusumDetector(self._settings.drift)
        self._last_query = 0
        self._queried_from: Pose | None = None
        self._quiet_until = 0
        self._taken_over = 0
        self._corrections = 0
        self._continuation_left = 0
        self._probability_before: float | None = None
        self._gave_up = False

    @property
    def in_charge(self) -> bool:
        """Whether a take-over is going on."""
        return self._corrections > 0

    @property
    def needs_help(self) -> bool:
        """Whether the monitor has given up in this episode."""
        return self._gave_up

    def watch(self, observation: PolicyObservation) -> tuple[Waypoint, ...]:
        """One control step for which no waypoint is left, or none was given.

        Returns:
            Where to lead the tool instead, one waypoint a control step; nothing where the policy goes on.
        """
        self.follow(observation)
        if self.in_charge:
            way = self._go_on(observation)
            if not way:
                self.hand_back()
            return way
        since, moments = self.step - self._last_query, self._history.moments
        if self._history.full and self._settings.timing.due(since, moments):
            self._look(observation)
        reply = self._reply(wait=not self._settings.asynchronous)
        return () if reply is None else self._heed(reply, observation)

    def follow(self, observation: PolicyObservation) -> None:
        """One control step for which there is a waypoint."""
        self.step += 1
        self._history.add(observation)

    def hand_back(self) -> None:
        """The policy is in charge again."""
        self._quiet_until = self.step + self._settings.cool_down
        self._last_query = self.step
        self._corrections = 0
        self._note(EventKind.HAND_BACK)

    def _look(self, observation: PolicyObservation) -> None:
        self._last_query = self.step
        if self._assessor.busy:
            self._note(EventKind.FAULT, description="the model is still at work on what it was asked before")
            return
        try:
            window = self._history.window(self._instruction)
        except Exception as error:  # a camera that fails must leave the policy in charge
            self._note(EventKind.FAULT, description=f"no window: {type(error).__name__}: {error}")
            return
        self._queried_from = observation.tcp_pose
        self._assessor.ask(window, self.step)

    def _reply(self, wait: bool) -> Reply | None:
        begun = time.perf_counter()
        reply = self._assessor.reply(wait=wait)
        self.blocking_latency += time.perf_counter() - begun
        return reply

    def _heed(self, reply: Reply, observation: PolicyObservation) -> tuple[Waypoint, ...]:
        """Do what an answer calls for."""
        assessment = self._answered(reply)
        if assessment is None:
            return ()
        if self.step < self._quiet_until:
            # A window that reaches back before the correction shows the old failure again.
            self._note(EventKind.QUERY, **self._seen(assessment, None))
            return ()
        score = self._detector.add(assessment.failure_probability)
        seen = self._seen(assessment, score)
        self._note(EventKind.QUERY, **seen)
        if self._probability_before is not None:
            better = assessment.failure_probability < self._probability_before
            self._note(EventKind.CHECK, **{**seen, "description": "better" if better else "no better"})
            self._probability_before = None
        return self._alarm(assessment, seen, observation) if score > self._threshold else ()

    def _answered(self, reply: Reply) -> Assessment | None:
        """The verdict of a reply that has one."""
        assessment = reply.assessment
        if assessment is None:
            description = f"no answer within {self._settings.deadline:g} s"
            self._note(EventKind.LATE, latency=reply.seconds, description=description)
            return None
        if assessment.status is not Status.OK:
            kind = EventKind.UNREADABLE if assessment.status is Status.UNREADABLE else EventKind.FAULT
            self._note(
                kind, latency=assessment.latency, description=assessment.reason or assessment.raw[:200]
            )
            return None
        return assessment

    def _alarm(
        self, assessment: Assessment, seen: dict[str, object], observation: PolicyObservation
    ) -> tuple[Waypoint, ...]:
        self._note(EventKind.ALARM, **seen)
        self._detector.forget()
        if self._taken_over >= self._settings.take_overs:
            self._give_up(f"still failing after {self._taken_over} take-overs")
        elif assessment.needs_help:
            self._give_up("the model sees no way back")
        elif way := self._correction(assessment, observation):
            self._taken_over += 1
            self._threshold = min(self._threshold, self._settings.threshold_again)
            self._continuation_left = self._settings.continuation_steps
            self._probability_before = assessment.failure_probability
            self._note(EventKind.TAKE_OVER, **{**seen, "actions": len(way)})
            return way
        return ()

    def _correction(self, assessment: Assessment, observation: PolicyObservation) -> tuple[Waypoint, ...]:
        """The way of a verdict's correction; none, and an event, where it cannot be carried out."""
        if not assessment.actions:
            self._note(EventKind.REFUSAL, description="the model gives no actions")
            return ()
        way = self._way(assessment, assessment.actions[: self._settings.action_steps], observation)
        self._corrections += bool(way)
        return way

    def _way(
        self, assessment: Assessment, rows: Sequence[Sequence[float]], observation: PolicyObservation
    ) -> tuple[Waypoint, ...]:
        """Rows of a verdict as poses to go to; none, and an event, where they mean nothing here."""
        if assessment.frame not in [frame.value for frame in Frame]:
            self._note(EventKind.FAULT, description=f"the model's frame is unknown: '{assessment.frame}'")
        elif self._settings.workspace.is_far(observation.tcp_pose):
            at = ", ".join(f"{x:.2f}" for x in observation.tcp_pose[:3])
            description = f"the tool is outside the workspace, at {at}: is this the robot's base frame?"
            self._note(EventKind.FAULT, description=description)
        else:
            asked = observation.tcp_pose if self._queried_from is None else self._queried_from
            way = waypoints(rows, Frame(assessment.frame), asked, self._settings.workspace)
            return catch_up(way, observation.tcp_pose)
        return ()

    def _go_on(self, observation: PolicyObservation) -> tuple[Waypoint, ...]:
        """What comes next in a take-over: another correction, or what the expert would do, or nothing."""
        again = self._corrections < self._settings.corrections
        if not (again or self._continuation_left):
            return ()
        self._look(observation)
        # The tool waits for this answer in any case: nobody else is in charge.
        reply = self._reply(wait=True)
        assessment = self._answered(reply) if reply is not None and reply.step == self.step else None
        if assessment is None:
            return ()
        seen = self._seen(assessment, None)
        self._note(EventKind.QUERY, **seen)
        # The threshold is for those who do not know yet that something is wrong.
        wrong = assessment.failing and not assessment.needs_help and not _is_nothing(assessment.actions)
        if again and wrong and (way := self._correction(assessment, observation)):
            self._note(EventKind.AGAIN, **{**seen, "actions": len(way)})
            return way
        rows = assessment.continuation[: self._continuation_left]
        self._continuation_left -= len(rows)
        return self._way(assessment, rows, observation) if rows else ()

    def _give_up(self, reason: str) -> None:
        if self._gave_up:
            return
        self._gave_up = True
        self._note(EventKind.HELP, description=reason)
        self._ask_help(self.events[-1])

    def _seen(self, assessment: Assessment, score: float | None) -> dict[str, object]:
        return {
            "score": score,
            "threshold": self._threshold if np.isfinite(self._threshold) else None,
            "probability": round(assessment.failure_probability, 6),
            "stage": assessment.stage,
            "mode": assessment.mode,
            "actions": len(assessment.actions),
            "latency": round(assessment.latency, 6),
            "description": assessment.explanation,
        }

    def _note(self, kind: EventKind, **details: object) -> None:
        event = Event(self.step, kind, **details)  # pyright: ignore[reportArgumentType]
        self.events.append(event)
        self._tell(event)
