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
from failsafe.monitors.evidence import Evidence
from failsafe.monitors.history import History
from failsafe.monitors.timing import LookTiming
from failsafe.monitors.waypoints import Waypoint, Workspace, catch_up, waypoints
from failsafe.policies.contract import Frame, PolicyObservation
from failsafe.records.assessment import Status, Verdict
from failsafe.records.event import Event, EventKind
from failsafe.records.poses import Pose

_SHORT_STEPS, _SHORT_METRES, _SHORT_RADIANS = 2, 0.01, 0.1
"""A correction of so few steps that goes less far than this has nothing to correct."""


@dataclass(frozen=True)
class MonitorSettings:
    """When to look, act and give up.

    Attributes:
        timing: When the model is asked.
        allowance: Log odds taken off at each look before they add up to the score (`Evidence`).
        threshold_again: Score above which an episode that has seen a take-over sees another alarm, if that is
            less than the threshold, which is for those who do not know yet that something is wrong.
        take_overs: The most take-overs of an episode.
        corrections: The most corrections of one take-over: after each the model looks again, and another one
            is carried out if it still sees a failure that is to be corrected.
        action_steps: The most actions of a correction.
        follow_steps: Control steps of a take-over for which the monitor goes on as the expert would, looking
            again whenever it has done what the model said; 0 hands back as soon as the smallest correction
            is done.
        cool_down: Control steps after a take-over in which there is no other.
        asynchronous: The policy goes on while the model thinks.
        deadline: Seconds after which a verdict is dropped.
        workspace: The box that the tool is kept in while the monitor acts.
    """

    timing: LookTiming = field(default_factory=LookTiming)
    allowance: float = 2.0
    threshold_again: float = 5.0
    take_overs: int = 6
    corrections: int = 6
    action_steps: int = 24
    follow_steps: int = 72
    cool_down: int = 10
    asynchronous: bool = False
    deadline: float = 5.0
    workspace: Workspace = field(default_factory=Workspace)

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        least = {"allowance": 0, "threshold_again": 0, "take_overs": 0, "corrections": 1}
        least |= {"action_steps": 1, "follow_steps": 0, "cool_down": 0}
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
        held_up: Seconds in this episode in which the policy waited for the model.
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
        self.held_up = 0.0
        self.step = -1
        self._evidence = Evidence(self._settings.allowance)
        self._last_look = 0
        self._looked_from: Pose | None = None
        self._quiet_until = 0
        self._taken_over = 0
        self._corrections = 0
        self._follow_left = 0
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
        since, moments = self.step - self._last_look, self._history.moments
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
        self._last_look = self.step
        self._corrections = 0
        self._note(EventKind.HAND_BACK)

    def _look(self, observation: PolicyObservation) -> None:
        self._last_look = self.step
        if self._assessor.busy:
            self._note(EventKind.FAULT, words="the model is still at work on what it was asked before")
            return
        try:
            window = self._history.window(self._instruction)
        except Exception as error:  # a camera that fails must leave the policy in charge
            self._note(EventKind.FAULT, words=f"no window: {type(error).__name__}: {error}")
            return
        self._looked_from = observation.tcp_pose
        self._assessor.ask(window, self.step)

    def _reply(self, wait: bool) -> Reply | None:
        begun = time.perf_counter()
        reply = self._assessor.reply(wait=wait)
        self.held_up += time.perf_counter() - begun
        return reply

    def _heed(self, reply: Reply, observation: PolicyObservation) -> tuple[Waypoint, ...]:
        """Do what an answer calls for."""
        verdict = self._answered(reply)
        if verdict is None:
            return ()
        if self.step < self._quiet_until:
            # A window that reaches back before the correction shows the old failure again.
            self._note(EventKind.LOOK, **self._seen(verdict, None))
            return ()
        score = self._evidence.add(verdict.failure_probability)
        seen = self._seen(verdict, score)
        self._note(EventKind.LOOK, **seen)
        if self._probability_before is not None:
            better = verdict.failure_probability < self._probability_before
            self._note(EventKind.CHECK, **{**seen, "words": "better" if better else "no better"})
            self._probability_before = None
        return self._alarm(verdict, seen, observation) if score > self._threshold else ()

    def _answered(self, reply: Reply) -> Verdict | None:
        """The verdict of a reply that has one."""
        verdict = reply.verdict
        if verdict is None:
            words = f"no answer within {self._settings.deadline:g} s"
            self._note(EventKind.LATE, latency=reply.seconds, words=words)
            return None
        if verdict.status is not Status.OK:
            kind = EventKind.UNREADABLE if verdict.status is Status.UNREADABLE else EventKind.FAULT
            self._note(kind, latency=verdict.latency, words=verdict.reason or verdict.raw[:200])
            return None
        return verdict

    def _alarm(
        self, verdict: Verdict, seen: dict[str, object], observation: PolicyObservation
    ) -> tuple[Waypoint, ...]:
        self._note(EventKind.ALARM, **seen)
        self._evidence.forget()
        if self._taken_over >= self._settings.take_overs:
            self._give_up(f"still failing after {self._taken_over} take-overs")
        elif verdict.needs_help:
            self._give_up("the model sees no way back")
        elif way := self._correction(verdict, observation):
            self._taken_over += 1
            self._threshold = min(self._threshold, self._settings.threshold_again)
            self._follow_left = self._settings.follow_steps
            self._probability_before = verdict.failure_probability
            self._note(EventKind.TAKE_OVER, **{**seen, "actions": len(way)})
            return way
        return ()

    def _correction(self, verdict: Verdict, observation: PolicyObservation) -> tuple[Waypoint, ...]:
        """The way of a verdict's correction; none, and an event, where it cannot be carried out."""
        if not verdict.actions:
            self._note(EventKind.REFUSAL, words="the model gives no actions")
            return ()
        way = self._way(verdict, verdict.actions[: self._settings.action_steps], observation)
        self._corrections += bool(way)
        return way

    def _way(
        self, verdict: Verdict, rows: Sequence[Sequence[float]], observation: PolicyObservation
    ) -> tuple[Waypoint, ...]:
        """Rows of a verdict as poses to go to; none, and an event, where they mean nothing here."""
        if verdict.frame not in [frame.value for frame in Frame]:
            self._note(EventKind.FAULT, words=f"the model's frame is unknown: '{verdict.frame}'")
        elif self._settings.workspace.is_far(observation.tcp_pose):
            at = ", ".join(f"{x:.2f}" for x in observation.tcp_pose[:3])
            words = f"the tool is outside the workspace, at {at}: is this the robot's base frame?"
            self._note(EventKind.FAULT, words=words)
        else:
            asked = observation.tcp_pose if self._looked_from is None else self._looked_from
            way = waypoints(rows, Frame(verdict.frame), asked, self._settings.workspace)
            return catch_up(way, observation.tcp_pose)
        return ()

    def _go_on(self, observation: PolicyObservation) -> tuple[Waypoint, ...]:
        """What comes next in a take-over: another correction, or what the expert would do, or nothing."""
        again = self._corrections < self._settings.corrections
        if not (again or self._follow_left):
            return ()
        self._look(observation)
        # The tool waits for this answer in any case: nobody else is in charge.
        reply = self._reply(wait=True)
        verdict = self._answered(reply) if reply is not None and reply.step == self.step else None
        if verdict is None:
            return ()
        seen = self._seen(verdict, None)
        self._note(EventKind.LOOK, **seen)
        # The threshold is for those who do not know yet that something is wrong.
        wrong = verdict.failing and not verdict.needs_help and not _is_nothing(verdict.actions)
        if again and wrong and (way := self._correction(verdict, observation)):
            self._note(EventKind.AGAIN, **{**seen, "actions": len(way)})
            return way
        rows = verdict.follow[: self._follow_left]
        self._follow_left -= len(rows)
        return self._way(verdict, rows, observation) if rows else ()

    def _give_up(self, reason: str) -> None:
        if self._gave_up:
            return
        self._gave_up = True
        self._note(EventKind.HELP, words=reason)
        self._ask_help(self.events[-1])

    def _seen(self, verdict: Verdict, score: float | None) -> dict[str, object]:
        return {
            "score": score,
            "threshold": self._threshold if np.isfinite(self._threshold) else None,
            "probability": round(verdict.failure_probability, 6),
            "stage": verdict.stage,
            "mode": verdict.mode,
            "actions": len(verdict.actions),
            "latency": round(verdict.latency, 6),
            "words": verdict.explanation,
        }

    def _note(self, kind: EventKind, **details: object) -> None:
        event = Event(self.step, kind, **details)  # pyright: ignore[reportArgumentType]
        self.events.append(event)
        self._tell(event)
