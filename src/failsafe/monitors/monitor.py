"""The monitor: watches an episode, takes over when the policy is failing, and hands back.

A fault of the model never changes what the policy does: the policy stays in control, and the fault is
recorded as an event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from failsafe.errors import PolicyError
from failsafe.models.contract import RecoveryModel
from failsafe.monitors.budget import BudgetMeter
from failsafe.monitors.cusum import CusumDetector
from failsafe.monitors.queries import Queries
from failsafe.monitors.settings import MonitorSettings
from failsafe.monitors.states import TRANSITIONS, MonitorAction, MonitorState, Trigger
from failsafe.monitors.waypoints import Waypoint, begin_anew, is_negligible, plan_waypoints
from failsafe.policies.contract import Frame
from failsafe.records.assessment import Assessment
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.event import Event, EventKind
from failsafe.records.observation import PolicyObservation
from failsafe.records.poses import Pose

EventCallback = Callable[[Event], None]
"""Called with an event of an episode."""


def ignore(_: Event) -> None:
    """Do nothing: the default callback."""


@dataclass(frozen=True)
class _Plan:
    """What a transition's action needs.

    Attributes:
        details: Fields of the event, from the assessment.
        probability: The model's probability of failure.
        waypoints: What the monitor executes if it acts.
        reason: Why help is needed.
        anew: Whether the waypoints are a new beginning, after which the monitor hands back at once.
    """

    details: dict[str, object] = field(default_factory=dict[str, object])
    probability: float = 0.0
    waypoints: tuple[Waypoint, ...] = ()
    reason: str = ""
    anew: bool = False


class Monitor:
    """Watches an episode step by step, and decides who controls the robot.

    The behaviour is the table `failsafe.monitors.states.TRANSITIONS`.

    Args:
        model: The recovery model.
        embodiment: The robot, with its control rate, step limits and workspace.
        threshold: Score above which an alarm is raised, accumulated log odds: a number, or a function of the
            instruction such as `Calibration.threshold`.
        settings: When to query, take over, hand back and give up.
        on_event: Called with every event.
        on_help: Called once per episode, when the monitor gives up.

    Attributes:
        model: The recovery model.
        embodiment: The robot, with its step limits and workspace.
        state: The present state.
        events: The events of this episode.
        step: Control step of this episode, from 0; -1 before the first.
    """

    def __init__(
        self,
        model: RecoveryModel,
        embodiment: EmbodimentSpec,
        threshold: float | Callable[[str], float] = 5.0,
        settings: MonitorSettings | None = None,
        on_event: EventCallback = ignore,
        on_help: EventCallback = ignore,
    ) -> None:
        self.model = model
        self.embodiment = embodiment
        self._settings = settings or MonitorSettings()
        self._threshold_of = threshold if callable(threshold) else lambda _: threshold
        self._queries = Queries(model, self._settings.deadline, self._record)
        self._on_event, self._on_help = on_event, on_help
        self._detector = CusumDetector(self._settings.drift)
        self._meter = BudgetMeter(self._settings.budget, embodiment.control_hz)
        self._actions: dict[MonitorAction, Callable[[_Plan], None]] = {
            MonitorAction.NONE: lambda _: None,
            MonitorAction.TAKE_OVER: self._take_over,
            MonitorAction.CORRECT_AGAIN: self._correct_again,
            MonitorAction.ASSIST: lambda _: None,  # the query before it is the event
            MonitorAction.HAND_BACK: self._start_cool_down,
            MonitorAction.ASK_FOR_HELP: self._ask_for_help,
        }
        self.reset("")

    def reset(self, instruction: str) -> None:
        """Start an episode.

        Args:
            instruction: The instruction of the episode.
        """
        self._instruction = instruction
        self._threshold = self._threshold_of(instruction)
        self._queries.reset(instruction)
        self._detector.reset()
        self.state = MonitorState.WATCHING
        self.events: list[Event] = []
        self.step = -1
        self._cool_down_end = 0
        self._meter.reset()
        self._corrections = 0
        self._assist_left = 0
        self._start: Pose | None = None
        self._anew = False
        self._probability_before: float | None = None
        self._asked_for_help = False

    @property
    def in_control(self) -> bool:
        """Whether the monitor acts in place of the policy."""
        return self.state.in_control

    @property
    def blocking_latency(self) -> float:
        """Seconds in this episode in which the policy waited for the model."""
        return self._queries.blocking_latency

    @property
    def needs_help(self) -> bool:
        """Whether the monitor has given up in this episode."""
        return self._asked_for_help

    def observe(self, observation: PolicyObservation) -> None:
        """Record one control step without a decision: a waypoint is being executed, or it has passed.

        Args:
            observation: What is observed before the step.
        """
        self.step += 1
        self._queries.history.add(observation)
        if self._start is None:
            self._start = observation.tcp_pose
        if self.state is MonitorState.COOLING_DOWN and self.step >= self._cool_down_end:
            self._apply(Trigger.COOLED_DOWN)

    def decide(self, observation: PolicyObservation) -> tuple[Waypoint, ...]:
        """Record one control step, and decide who controls the robot.

        Call this unless a waypoint of the last decision is left; then call `observe`.

        Args:
            observation: What is observed before the step.

        Returns:
            The waypoints to execute, one per control step; none if the policy is in control.
        """
        self.observe(observation)
        if self.in_control:
            return self._proceed(observation)
        steps, history = self.step - self._queries.last_step, self._queries.history
        timing, control_hz = self._settings.timing, self.embodiment.control_hz
        if history.full and timing.due(steps, history.observations, control_hz):
            self._queries.submit(self.step, observation)
        assessment = self._queries.assessment(wait=not self._settings.asynchronous)
        return () if assessment is None else self._weigh(assessment, observation)

    def skip(self, steps: int) -> None:
        """Return to the budget the waypoints that are left when the tool has arrived.

        Args:
            steps: Number of these waypoints.
        """
        self._meter.spend(-steps)

    def hand_back(self) -> None:
        """Return control to the policy, if the monitor has it."""
        if self.in_control:
            self._apply(Trigger.INTERRUPTED)

    # ------------------------------------------------------------------ triggers

    def _weigh(self, assessment: Assessment, observation: PolicyObservation) -> tuple[Waypoint, ...]:
        """Add an assessment to the score while the policy is in control, and take over at an alarm."""
        if self.state is MonitorState.COOLING_DOWN:
            self._record(EventKind.QUERY, **self._details(assessment, None))
            return ()
        score = self._detector.add(assessment.failure_probability)
        details = self._details(assessment, score)
        self._record(EventKind.QUERY, **details)
        if self._probability_before is not None:
            better = assessment.failure_probability < self._probability_before
            self._record(EventKind.CHECK, **{**details, "description": "better" if better else "no better"})
            self._probability_before = None
        if score <= self._threshold:
            return ()
        self._record(EventKind.ALARM, **details)
        self._detector.reset()
        meter = self._meter
        if self.state is MonitorState.STAYING_OUT or min(meter.takeovers_left, meter.steps_left) <= 0:
            return self._apply(Trigger.SPENT_ALARM, _Plan(reason=self._spent()))
        after = self._settings.retry_after
        anew = after is not None and (assessment.needs_help or meter.taken_over >= after)
        if assessment.needs_help and not anew:
            return self._apply(Trigger.HOPELESS_ALARM, _Plan(reason="the model sees no way back"))
        plan = self._plan_new_beginning if anew else self._plan_correction
        waypoints = plan(assessment, observation)
        if len(waypoints) > meter.steps_left:
            return self._apply(Trigger.SPENT_ALARM, _Plan(reason=self._spent()))
        if len(waypoints) > meter.steps_allowed_in_row:
            limit = f"at most {meter.steps_allowed_in_row} steps in a row"
            self._record(EventKind.REFUSAL, description=f"a correction of {len(waypoints)} steps, {limit}")
            waypoints = ()
        trigger = Trigger.ALARM if waypoints else Trigger.REFUSED_ALARM
        return self._apply(trigger, _Plan(details, assessment.failure_probability, waypoints, anew=anew))

    def _proceed(self, observation: PolicyObservation) -> tuple[Waypoint, ...]:
        """Decide what follows when all waypoints of a takeover are done."""
        left = self._meter.steps_left_in_row
        correction_left = self._corrections < self._settings.max_corrections
        if self._anew or not (left and (correction_left or self._assist_left)):
            return self._apply(Trigger.DONE)
        self._queries.submit(self.step, observation)
        # The robot stands still until the answer comes, asynchronous or not: the policy is not in control.
        assessment = self._queries.assessment(wait=True, step=self.step)
        if assessment is None:
            return self._apply(Trigger.DONE)
        details = self._details(assessment, None)
        self._record(EventKind.QUERY, **details)
        # Inside a takeover the threshold is p >= 0.5: an alarm has already said that the episode is failing.
        failing = assessment.failing and not assessment.needs_help
        failing = failing and not is_negligible(assessment.actions, self.embodiment)
        if correction_left and failing and (waypoints := self._plan_correction(assessment, observation)):
            if len(waypoints) > left:  # half a correction is none
                return self._apply(Trigger.DONE)
            return self._apply(Trigger.STILL_FAILING, _Plan(details, waypoints=waypoints))
        if self._hands_back(assessment):
            return self._apply(Trigger.DONE)
        rows = assessment.continuation[: min(self._assist_left, left)]
        waypoints = self._plan(assessment, rows, observation, settle=False) if rows else ()
        if 0 < len(waypoints) <= left:
            self._assist_left -= len(rows)
            return self._apply(Trigger.ASSIST, _Plan(details, waypoints=waypoints))
        return self._apply(Trigger.DONE)

    # ------------------------------------------------------------------ actions

    def _apply(self, trigger: Trigger, plan: _Plan | None = None) -> tuple[Waypoint, ...]:
        """Change the state as the table says, carry out its action, and return the waypoints to execute."""
        plan = plan or _Plan()
        transition = TRANSITIONS[self.state, trigger]
        self.state = transition.state
        self._actions[transition.action](plan)
        self._meter.spend(len(plan.waypoints))
        return plan.waypoints

    def _take_over(self, plan: _Plan) -> None:
        self._meter.begin()
        self._corrections = 1
        self._anew = plan.anew
        self._threshold = min(self._threshold, self._settings.repeat_threshold)
        self._assist_left = self._assist_steps()
        self._probability_before = plan.probability
        self._record(EventKind.TAKE_OVER, **{**plan.details, "actions": len(plan.waypoints)})

    def _assist_steps(self) -> int:
        """Return the control steps for which this takeover may go on as the expert.

        A policy that fails again after the smallest correction would undo the same correction again.
        """
        settings, meter = self._settings, self._meter
        if settings.assist:
            return round(settings.assist_seconds * self.embodiment.control_hz)
        after = settings.escalate_after
        goes_on = settings.hand_back is not None or (after is not None and meter.taken_over > after)
        return meter.steps_allowed_in_row if goes_on else 0

    def _hands_back(self, assessment: Assessment) -> bool:
        """Return whether the policy is likely enough to succeed, or nothing is known about it."""
        model, settings = self._settings.hand_back, self._settings
        if model is None:
            return False
        found = model.probability(
            self._instruction, assessment.stage, self._meter.taken_over, assessment.failure_probability
        )
        return found is None or found >= settings.hand_back_probability

    def _correct_again(self, plan: _Plan) -> None:
        self._corrections += 1
        self._record(EventKind.AGAIN, **{**plan.details, "actions": len(plan.waypoints)})

    def _start_cool_down(self, _: _Plan) -> None:
        cool_down = round(self._settings.cool_down_seconds * self.embodiment.control_hz)
        self._cool_down_end = self.step + cool_down
        self._queries.last_step = self.step
        self._record(EventKind.HAND_BACK)

    def _ask_for_help(self, plan: _Plan) -> None:
        if not self._asked_for_help:
            self._asked_for_help = True
            self._record(EventKind.HELP, description=plan.reason)
            self._on_help(self.events[-1])

    def _spent(self) -> str:
        """Return why the budget allows no further takeover."""
        if not self._meter.takeovers_left:
            return f"still failing after {self._meter.taken_over} takeovers"
        return f"still failing, and the intervention budget has {self._meter.steps_left} steps left"

    # ------------------------------------------------------------------ plans and events

    def _plan_correction(
        self, assessment: Assessment, observation: PolicyObservation
    ) -> tuple[Waypoint, ...]:
        """Return the waypoints of a correction; none, and an event, if it cannot be executed."""
        if not assessment.actions:
            self._record(EventKind.REFUSAL, description="the model gives no actions")
            return ()
        return self._plan(assessment, assessment.actions[: self._settings.max_actions], observation)

    def _plan_new_beginning(
        self, assessment: Assessment, observation: PolicyObservation
    ) -> tuple[Waypoint, ...]:
        """Return the waypoints of a new beginning; none, and an event, if it cannot be executed."""
        assert self._start is not None
        at = observation.tcp_pose
        return self._waypoints(begin_anew(at, self._start, self.embodiment), Frame.BASE.value, at, at)

    def _plan(
        self,
        assessment: Assessment,
        actions: Sequence[Sequence[float]],
        observation: PolicyObservation,
        settle: bool = True,
    ) -> tuple[Waypoint, ...]:
        """Return the waypoints of some actions of the model; none, and an event, if there are none."""
        at = observation.tcp_pose
        queried_at = at if self._queries.tcp_pose is None else self._queries.tcp_pose
        return self._waypoints(actions, assessment.frame, queried_at, at, settle)

    def _waypoints(
        self, actions: Sequence[Sequence[float]], frame: str, start: Pose, at: Pose, settle: bool = True
    ) -> tuple[Waypoint, ...]:
        """Return the waypoints of actions that count from a pose; none, and an event, if there are none."""
        try:
            return plan_waypoints(actions, frame, start, at, self.embodiment, settle)
        except PolicyError as error:
            self._record(EventKind.FAULT, description=str(error))
            return ()

    def _details(self, assessment: Assessment, score: float | None) -> dict[str, object]:
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

    def _record(self, kind: EventKind, **details: object) -> None:
        event = Event(self.step, kind, **details)  # pyright: ignore[reportArgumentType]
        self.events.append(event)
        self._on_event(event)
