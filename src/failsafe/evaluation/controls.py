"""Controls: other recovery models and base policies, which show what a monitor's gain comes from.

`OracleDetector` and others read the ground truth through `PrivilegedState`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from failsafe.experts.tasks import Task
from failsafe.generation.corrections import Waypoint, to_actions
from failsafe.generation.nominal import NominalRollout
from failsafe.models.contract import MAX_ACTIONS, RecoveryModel
from failsafe.monitors.waypoints import is_negligible
from failsafe.policies.contract import Policy
from failsafe.policies.wrapped import WrappedPolicy
from failsafe.records.assessment import Assessment, Status, Window, WindowSpec
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.episode import Episode
from failsafe.records.observation import PolicyObservation
from failsafe.records.plan import CLOSED, OPEN
from failsafe.records.poses import Pose
from failsafe.rollouts.runner import settle_steps

_LIFT = 0.08
_WIDE = 0.75
"""Share of the gripper travel that an open gripper exceeds at least."""
_OPEN_SHARE = 0.7
"""Share of the widest opening from which on a gripper counts as open."""
_RANDOM_SHARE = 0.2
"""Share of queries at which the random control acts."""
_ORACLE_DELAY_SECONDS = 0.5
"""Time from a perturbation to the alarm of the oracle detector: the model's window then shows what it did."""


@dataclass
class PrivilegedState:
    """Ground truth of the running episode, for controls and oracles only.

    Attributes:
        task: The task; its simulator runs the episode.
        nominal: The nominal rollout from the same initial state.
        alone: The same episode with the policy alone.
        step: Returns the current control step.
        in_charge: Returns whether the monitor is in control.
    """

    task: Task
    nominal: NominalRollout
    alone: Episode
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
class ModelAlone:
    """Control in which the recovery model acts alone, from its first query to the end of the episode.

    It executes its correction where it sees a failure, else what the expert would do next.

    Attributes:
        model: The model under test.
        embodiment: The robot.
        name: Its name.
    """

    model: RecoveryModel
    embodiment: EmbodimentSpec
    name: str = "model alone"

    @property
    def window_spec(self) -> WindowSpec:
        """Windows that the model takes."""
        return self.model.window_spec

    def assess(self, window: Window) -> Assessment:
        """Return the model's next actions, as the correction of a failure."""
        seen = self.model.assess(window)
        if seen.status is not Status.OK:
            return seen
        corrects = seen.failing and not seen.needs_help and not is_negligible(seen.actions, self.embodiment)
        rows = seen.actions if corrects and seen.actions else seen.continuation
        return Assessment(
            failure_probability=1.0, stage=seen.stage, mode=seen.mode, actions=rows, frame=seen.frame
        )


class HoldPolicy(WrappedPolicy):
    """Control in place of the base policy: the arm holds its pose, and the gripper what it has.

    Args:
        policy: The base policy, whose action space and views it takes.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._widest = 0.0

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"hold in place of {self._base.name}"

    def reset(self, instruction: str) -> None:
        """Start an episode.

        Args:
            instruction: The instruction of the episode.
        """
        self._widest = 0.0

    def drop_queue(self) -> None:
        """Do nothing: there are no queued actions."""

    def act(self, observation: PolicyObservation) -> Float[np.ndarray, "1 7"]:
        """Return the action that keeps the commanded pose, and the gripper open or closed as it is."""
        self._widest = max(self._widest, observation.gripper_width)
        gripper = OPEN if observation.gripper_width > _OPEN_SHARE * self._widest else CLOSED
        target = observation.target_pose
        return self._base.action_space.from_pose(target, gripper, target, observation.tcp_pose)[None]


@dataclass(frozen=True)
class OracleDetector:
    """Oracle that raises an alarm in every episode that fails; the correction is the model's.

    The alarm is due half a second after the perturbation or, without one, once the expert would be done.

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
        if self.truth.in_charge():  # whether another correction follows is the model's decision
            return self.model.assess(window)
        # Some models give actions only if they see a failure; this asks for actions in any case.
        assess = getattr(self.model, "assess_as_failing", self.model.assess)
        seen: Assessment = assess(window)
        if seen.status is not Status.OK:
            return seen
        return Assessment(
            failure_probability=float(_is_due(self.truth)),
            stage=seen.stage,
            mode=seen.mode,
            actions=seen.actions,
            frame=seen.frame,
        )


def _is_due(truth: PrivilegedState) -> bool:
    """Return whether the policy fails and the alarm of the oracle detector is due."""
    injected = truth.alone.injection_step
    if injected is not None:
        due = injected + truth.embodiment.steps(_ORACLE_DELAY_SECONDS)
    else:  # the expert would be done, and have settled for the full time
        due = truth.nominal.record.spans[-1].stop + settle_steps(truth.task.simulator)
    return not truth.alone.success and truth.step() >= due


def _gripper_command(window: Window, embodiment: EmbodimentSpec) -> float:
    """Return the last gripper command, inferred from the measured opening."""
    widest = max(float(window.gripper_widths.max()), _WIDE * embodiment.gripper_travel)
    return OPEN if window.gripper_widths[-1] > _OPEN_SHARE * widest else CLOSED
