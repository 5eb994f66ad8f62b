"""Controls and oracles: baselines below a monitor, and upper bounds above it.

Each is a recovery model in the same monitor. Oracles read the ground truth through `PrivilegedState`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from failsafe.experts.tasks import Task
from failsafe.generation.corrections import Waypoint, to_actions
from failsafe.generation.nominal import NominalRollout
from failsafe.generation.oracle import recover_now
from failsafe.models.contract import MAX_ACTIONS, RecoveryModel
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Status, Window, WindowSpec
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.plan import CLOSED, OPEN
from failsafe.records.poses import Pose
from failsafe.records.trace import Trace
from failsafe.rollouts.runner import settle_steps

_LIFT = 0.08
_WIDE = 0.75
"""Share of the gripper travel that an open gripper exceeds at least."""
_RANDOM_SHARE = 0.2
"""Share of queries at which the random control acts."""


@dataclass
class PrivilegedState:
    """Ground truth of the running episode, for controls and oracles only.

    Attributes:
        task: The task; its simulator runs the episode.
        spare: The same task with another simulator, to try out recoveries.
        nominal: The nominal rollout from the same initial state.
        fails: Whether the policy alone fails from this initial state.
        step: Returns the current control step.
        in_charge: Returns whether the monitor is in control.
    """

    task: Task
    spare: Task
    nominal: NominalRollout
    fails: bool
    step: Callable[[], int]
    in_charge: Callable[[], bool] = lambda: False

    @property
    def embodiment(self) -> EmbodimentSpec:
        """The robot."""
        return self.task.simulator.spec.embodiment

    @property
    def start(self) -> Pose:
        """Tool pose at the start of the episode, robot base frame."""
        return self.nominal.trace.tcp_poses[0].astype(np.float64)


@dataclass(frozen=True)
class AlwaysNudge:
    """Control that always raises an alarm: lifts the tool by two full steps with the gripper as it is.

    Attributes:
        window_spec: Windows that it takes.
        truth: Ground truth of the episode.
        name: Its name.
    """

    window_spec: WindowSpec
    truth: PrivilegedState
    name: str = "always nudge"

    def assess(self, window: Window) -> Assessment:
        """Return the lift; during a takeover, return no failure, so that it is lifted once."""
        if self.truth.in_charge():
            return Assessment()
        robot = self.truth.embodiment
        actions = ((0.0, 0.0, robot.max_translation, 0.0, 0.0, 0.0, _gripper_command(window, robot)),) * 2
        return Assessment(failure_probability=1.0, mode="unknown", actions=actions)


class RandomNudge:
    """Control that raises an alarm at random, and moves the tool by two full steps in a random direction.

    Args:
        window_spec: Windows that it takes.
        embodiment: The robot, with its step limits.
        rng: Random generator.
    """

    name = "random nudge"

    def __init__(self, window_spec: WindowSpec, embodiment: EmbodimentSpec, rng: np.random.Generator) -> None:
        self.window_spec, self._embodiment = window_spec, embodiment
        self._rng = rng

    def assess(self, window: Window) -> Assessment:
        """Draw whether to act, and the direction."""
        step = self._rng.normal(size=3)
        step *= self._embodiment.max_translation / float(np.linalg.norm(step))
        row = (*step.tolist(), 0.0, 0.0, 0.0, _gripper_command(window, self._embodiment))
        acts = self._rng.random() < _RANDOM_SHARE
        return Assessment(failure_probability=float(acts), mode="unknown", actions=(row,) * 2)


@dataclass(frozen=True)
class FixedRetry:
    """Control with the model's alarms and one fixed recovery: open the gripper, rise, return to the start.

    Attributes:
        model: The model under test.
        start: Tool pose at the start of the episode, robot base frame.
        embodiment: The robot.
        name: Its name.
    """

    model: RecoveryModel
    start: Pose
    embodiment: EmbodimentSpec
    name: str = "fixed retry"

    @property
    def window_spec(self) -> WindowSpec:
        """Windows that the model takes."""
        return self.model.window_spec

    def assess(self, window: Window) -> Assessment:
        """Return the model's failure probability with the fixed recovery."""
        seen = self.model.assess(window)
        if seen.status is not Status.OK:
            return seen
        here = window.tcp_poses[-1].astype(np.float64)
        lifted = here.copy()
        lifted[2] += _LIFT
        waypoints = [Waypoint(pose, OPEN) for pose in (here, lifted, self.start)]
        # CLOSED as the present command, so that opening takes its time even if the gripper is open.
        rows = to_actions(here, CLOSED, waypoints, self.embodiment)
        return Assessment(
            failure_probability=seen.failure_probability,
            stage=seen.stage,
            mode=seen.mode,
            actions=rows[:MAX_ACTIONS],
        )


@dataclass(frozen=True)
class OracleDetector:
    """Oracle that raises an alarm in failing episodes, at the step where the expert would be done.

    The correction is the model's.

    Attributes:
        model: The model under test.
        truth: Ground truth of the episode.
        name: Its name.
    """

    model: RecoveryModel
    truth: PrivilegedState
    name: str = "oracle detector"

    @property
    def window_spec(self) -> WindowSpec:
        """Windows that the model takes."""
        return self.model.window_spec

    def assess(self, window: Window) -> Assessment:
        """Return the true failure with the model's correction."""
        if self.truth.in_charge():  # the continuation is the model's
            return self.model.assess(window)
        # Some models give actions only if they see a failure; this asks for actions in any case.
        assess = getattr(self.model, "assess_as_failing", self.model.assess)
        seen: Assessment = assess(window)
        return Assessment(
            failure_probability=float(_is_due(self.truth)),
            stage=seen.stage,
            mode=seen.mode,
            actions=seen.actions,
        )


@dataclass(frozen=True)
class OracleRecovery:
    """Oracle that knows failing episodes, and finds the shortest recovery with a second simulator.

    Attributes:
        window_spec: Windows that it takes.
        truth: Ground truth of the episode.
        name: Its name.
    """

    window_spec: WindowSpec
    truth: PrivilegedState
    name: str = "oracle recovery"

    def assess(self, window: Window) -> Assessment:
        """Return the true failure with the shortest recovery that succeeds."""
        truth = self.truth
        if not _is_due(truth):
            return Assessment()
        state = truth.task.simulator.state()
        recovered = recover_now(
            truth.spare, truth.nominal, state, _gripper_command(window, self.truth.embodiment)
        )
        if recovered is None:
            return Assessment(failure_probability=1.0, mode="unknown")
        rows = _as_actions(recovered, window.tcp_poses[-1].astype(np.float64))
        return Assessment(failure_probability=1.0, mode="unknown", actions=rows[:MAX_ACTIONS])


def _as_actions(trace: Trace, at: Pose) -> tuple[tuple[float, ...], ...]:
    """Return the commands of a rollout as actions from a tool pose on."""
    rows: list[tuple[float, ...]] = []
    for target, gripper in zip(trace.targets.astype(np.float64), trace.gripper_commands, strict=True):
        rows.append((*poses.delta_between(at, target).tolist(), float(gripper)))
        at = target
    return tuple(rows)


def _is_due(truth: PrivilegedState) -> bool:
    """Return whether the policy fails, and the expert would be done and have settled for the full time."""
    done = truth.nominal.record.spans[-1].stop + settle_steps(truth.task.simulator)
    return truth.fails and truth.step() >= done


def _gripper_command(window: Window, embodiment: EmbodimentSpec) -> float:
    """Return the last gripper command, inferred from the measured opening."""
    widest = max(float(window.gripper_widths.max()), _WIDE * embodiment.gripper_travel)
    return OPEN if window.gripper_widths[-1] > 0.7 * widest else CLOSED
