"""The monitor: a policy around a policy. It watches, takes over on a failure, recovers, and hands back.

It never makes things worse silently: whatever goes wrong with the model leaves the base policy in charge,
with the actions that it would have given anyway, and is an event.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from failsafe.models.contract import MAX_ROTATION, MAX_TRANSLATION, RecoveryModel
from failsafe.monitors.assessor import Assessor, Reply
from failsafe.monitors.history import History
from failsafe.monitors.timing import LookTiming
from failsafe.policies.contract import ActionSpace, Policy, PolicyObservation, check_chunk
from failsafe.records import poses
from failsafe.records.assessment import Status, Verdict
from failsafe.records.event import Event, EventKind
from failsafe.records.poses import Pose


@dataclass(frozen=True)
class Workspace:
    """The box that the tool is kept in while the monitor acts, robot base frame, metres."""

    low: tuple[float, float, float] = (0.15, -0.6, 0.005)
    high: tuple[float, float, float] = (0.95, 0.6, 0.7)

    def clip(self, pose: Pose) -> Pose:
        """The pose, drawn into the box."""
        inside = pose.copy()
        inside[:3] = np.clip(pose[:3], self.low, self.high)
        return inside


@dataclass(frozen=True)
class MonitorSettings:
    """When to look, act and give up.

    Attributes:
        timing: When the model is asked.
        smoothing: Looks that a score is averaged over.
        take_overs: The most take-overs of an episode.
        action_steps: The most actions of one take-over.
        cool_down: Control steps after a take-over in which there is no other.
        asynchronous: The policy goes on while the model thinks.
        deadline: Seconds after which a verdict is dropped.
        workspace: The box that the tool is kept in while the monitor acts.
    """

    timing: LookTiming = field(default_factory=LookTiming)
    smoothing: int = 2
    take_overs: int = 3
    action_steps: int = 24
    cool_down: int = 15
    asynchronous: bool = False
    deadline: float = 5.0
    workspace: Workspace = field(default_factory=Workspace)


def _ignore(_: Event) -> None:
    """Nobody listens."""


class MonitoredPolicy:
    """A policy with a monitor around it; itself a policy that gives one action at a time.

    Args:
        policy: The base policy. Its actions are passed on unchanged unless the monitor has taken over.
        model: The recovery model.
        threshold: Score above which an alarm is raised: a number, or one by instruction, such as
            `Calibration.threshold`.
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
        policy: Policy,
        model: RecoveryModel,
        threshold: float | Callable[[str], float] = 0.5,
        settings: MonitorSettings | None = None,
        tell: Callable[[Event], None] = _ignore,
        ask_help: Callable[[Event], None] = _ignore,
    ) -> None:
        self.base = policy
        self.events: list[Event] = []
        self.held_up = 0.0
        self._settings = settings or MonitorSettings()
        self._threshold_of = threshold if callable(threshold) else lambda _: threshold
        self._assessor = Assessor(model, self._settings.deadline)
        self._model = model
        self._tell, self._ask_help = tell, ask_help
        self._history = History(model.window_spec)
        self._space = policy.action_space
        self._begin("")

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.base.name} + {self._model.name}"

    @property
    def action_space(self) -> ActionSpace:
        """That of the base policy, one action at a time."""
        return replace(self._space, chunk=1)

    @property
    def views(self) -> Mapping[str, int]:
        """What the base policy and the model look through, each at the larger size of the two."""
        spec = self._model.window_spec
        wanted = dict(self.base.views)
        for view in spec.views:
            wanted[view] = max(wanted.get(view, 0), spec.size)
        return wanted

    @property
    def needs_help(self) -> bool:
        """Whether the monitor has given up in this episode."""
        return self._gave_up

    def reset(self, instruction: str) -> None:
        """Begin an episode."""
        self._begin(instruction)
        self.base.reset(instruction)

    def drop_queue(self) -> None:
        """Forget what was thought out before, by the policy as by the monitor."""
        self._queue.clear()
        self._way.clear()
        self.base.drop_queue()

    def act(self, observation: PolicyObservation) -> Float[np.ndarray, "1 7"]:
        """The next action: the base policy's, or the correction's while the monitor has taken over.

        Raises:
            PolicyError: If the base policy gives none that can be used.
        """
        self.step += 1
        self._history.add(observation)
        if not self._way:
            self._watch(observation)
        if self._way:
            return self._next_of_correction(observation)[None]
        if not self._queue:
            chunk = check_chunk(self.base.name, self.base.act(observation), self._space.chunk)
            self._queue.extend(chunk)
        return self._queue.popleft()[None]

    def _begin(self, instruction: str) -> None:
        self._instruction = instruction
        self._threshold = self._threshold_of(instruction)
        self._assessor.forget()
        self._history.clear()
        self.events = []
        self.held_up = 0.0
        self._queue: deque[np.ndarray] = deque()
        self._way: deque[tuple[Pose, float]] = deque()
        self._scores: deque[float] = deque(maxlen=self._settings.smoothing)
        self.step = -1
        self._last_look = 0
        self._quiet_until = 0
        self._taken_over = 0
        self._score_before: float | None = None
        self._gave_up = False

    def _watch(self, observation: PolicyObservation) -> None:
        """Ask the model if it is time to, and do what its answer calls for."""
        if self._history.full and self._settings.timing.due(
            self.step - self._last_look, self._history.moments
        ):
            self._look()
        begun = time.perf_counter()
        reply = self._assessor.reply(wait=not self._settings.asynchronous)
        self.held_up += time.perf_counter() - begun
        if reply is not None:
            self._heed(reply, observation)

    def _look(self) -> None:
        self._last_look = self.step
        if self._assessor.busy:
            self._note(EventKind.FAULT, words="the model is still at work on what it was asked before")
            return
        try:
            window = self._history.window(self._instruction)
        except Exception as error:  # a camera that fails must leave the policy in charge
            self._note(EventKind.FAULT, words=f"no window: {type(error).__name__}: {error}")
            return
        self._assessor.ask(window, self.step)

    def _heed(self, reply: Reply, observation: PolicyObservation) -> None:
        verdict = reply.verdict
        if verdict is None:
            words = f"no answer within {self._settings.deadline:g} s"
            self._note(EventKind.LATE, latency=reply.seconds, words=words)
            return
        if verdict.status is not Status.OK:
            kind = EventKind.UNREADABLE if verdict.status is Status.UNREADABLE else EventKind.FAULT
            self._note(kind, latency=verdict.latency, words=verdict.reason or verdict.raw[:200])
            return
        self._scores.append(verdict.failure_probability)
        score = float(np.mean(self._scores))
        seen = self._seen(verdict, score)
        self._note(EventKind.LOOK, **seen)
        if self._score_before is not None and self.step >= self._quiet_until:
            better = score < self._score_before
            self._note(EventKind.CHECK, **{**seen, "words": "better" if better else "no better"})
            self._score_before = None
        full = len(self._scores) == self._settings.smoothing
        if full and score > self._threshold and self.step >= self._quiet_until:
            self._alarm(verdict, seen, observation)

    def _alarm(self, verdict: Verdict, seen: dict[str, object], observation: PolicyObservation) -> None:
        self._note(EventKind.ALARM, **seen)
        if self._taken_over >= self._settings.take_overs:
            self._give_up(f"still failing after {self._taken_over} take-overs")
        elif verdict.needs_help:
            self._give_up("the model sees no way back")
        elif not verdict.actions:
            self._note(EventKind.REFUSAL, words="the model gives no actions")
        else:
            self._take_over(verdict, seen, observation)

    def _take_over(self, verdict: Verdict, seen: dict[str, object], observation: PolicyObservation) -> None:
        """Turn the correction into poses to go to, from the measured one, each within the limits."""
        at = observation.tcp_pose
        for row in verdict.actions[: self._settings.action_steps]:
            step = np.array(row[:6])
            if verdict.frame == "tcp":
                step = np.concatenate([poses.rotate(at[3:], step[:3]), poses.rotate(at[3:], step[3:])])
            wanted = poses.limit_step(at, poses.apply_delta(at, step), MAX_TRANSLATION, MAX_ROTATION)
            at = self._settings.workspace.clip(wanted)
            self._way.append((at, float(np.clip(row[6], -1, 1))))
        self._taken_over += 1
        self._queue.clear()
        self.base.drop_queue()
        self._score_before = float(np.mean(self._scores))
        self._scores.clear()
        self._note(EventKind.TAKE_OVER, **{**seen, "actions": len(self._way)})

    def _next_of_correction(self, observation: PolicyObservation) -> Float[np.ndarray, "7"]:
        pose, gripper = self._way.popleft()
        if not self._way:
            # A window that reached back before the correction would show the old failure again.
            self._quiet_until = self.step + self._settings.cool_down
            self._last_look = self.step
            self._note(EventKind.HAND_BACK)
        return self._space.from_pose(pose, gripper, observation.target_pose, observation.tcp_pose)

    def _give_up(self, reason: str) -> None:
        if self._gave_up:
            return
        self._gave_up = True
        self._note(EventKind.HELP, words=reason)
        self._ask_help(self.events[-1])

    def _seen(self, verdict: Verdict, score: float) -> dict[str, object]:
        return {
            "score": round(score, 6),
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
