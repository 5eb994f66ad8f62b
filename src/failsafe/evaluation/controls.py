"""Controls: what a monitor must be better than, and the oracles that no monitor can be better than.

Each is a recovery model in the same monitor. The oracles look behind the scenes, through `PrivilegedState`.
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

_LIFT = 0.08
_WIDE = 0.75
"""Share of the gripper travel that an open gripper exceeds at least."""
_RANDOM_SHARE = 0.2
"""Share of looks at which the random control acts."""


@dataclass
class PrivilegedState:
    """What only a control may know of the episode that is going on.

    Attributes:
        task: The task, whose simulator is in the middle of the episode.
        spare: The task once more, to try things out in.
        nominal: The nominal twin of the initial state.
        fails: Whether the policy alone fails from this initial state.
        step: Control step now.
        in_charge: Whether a take-over is going on.
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
        """Tool pose at the beginning."""
        return self.nominal.trace.tcp_poses[0].astype(np.float64)


@dataclass(frozen=True)
class AlwaysNudge:
    """Always alarms. Lifts the tool by two full steps without moving the fingers, then hands back."""

    window_spec: WindowSpec
    truth: PrivilegedState
    name: str = "always nudge"

    def assess(self, window: Window) -> Assessment:
        """The same verdict whatever there is to see, but in a take-over: six lifts on end are no nudge."""
        if self.truth.in_charge():
            return Assessment()
        robot = self.truth.embodiment
        actions = ((0.0, 0.0, robot.max_translation, 0.0, 0.0, 0.0, _fingers(window, robot)),) * 2
        return Assessment(failure_probability=1.0, mode="unknown", actions=actions)


class RandomNudge:
    """Alarms at random. Moves the tool by two full steps in a random direction.

    Args:
        window_spec: Format of the windows.
        embodiment: The robot, with its step limits.
        rng: Source of the random draws.
    """

    name = "random nudge"

    def __init__(self, window_spec: WindowSpec, embodiment: EmbodimentSpec, rng: np.random.Generator) -> None:
        self.window_spec, self._embodiment = window_spec, embodiment
        self._rng = rng

    def assess(self, window: Window) -> Assessment:
        """A draw."""
        step = self._rng.normal(size=3)
        step *= self._embodiment.max_translation / float(np.linalg.norm(step))
        row = (*step.tolist(), 0.0, 0.0, 0.0, _fingers(window, self._embodiment))
        acts = self._rng.random() < _RANDOM_SHARE
        return Assessment(failure_probability=float(acts), mode="unknown", actions=(row,) * 2)


@dataclass(frozen=True)
class FixedRetry:
    """The model's alarm, and one answer to all: open the fingers, rise, go back to the beginning."""

    model: RecoveryModel
    start: Pose
    embodiment: EmbodimentSpec
    name: str = "fixed retry"

    @property
    def window_spec(self) -> WindowSpec:
        """The windows that the model takes."""
        return self.model.window_spec

    def assess(self, window: Window) -> Assessment:
        """The model's probability with the fixed way back."""
        seen = self.model.assess(window)
        if seen.status is not Status.OK:
            return seen
        here = window.tcp_poses[-1].astype(np.float64)
        lifted = here.copy()
        lifted[2] += _LIFT
        way = [Waypoint(pose, OPEN) for pose in (here, lifted, self.start)]
        # As if they were closed: fingers that are open already are given the time all the same.
        rows = to_actions(here, CLOSED, way, self.embodiment)
        return Assessment(
            failure_probability=seen.failure_probability,
            stage=seen.stage,
            mode=seen.mode,
            actions=rows[:MAX_ACTIONS],
        )


@dataclass(frozen=True)
class OracleDetector:
    """Knows which episodes fail, and is alarmed once the expert would be done; the rest is the model's."""

    model: RecoveryModel
    truth: PrivilegedState
    name: str = "oracle detector"

    @property
    def window_spec(self) -> WindowSpec:
        """The windows that the model takes."""
        return self.model.window_spec

    def assess(self, window: Window) -> Assessment:
        """The truth, with the model's correction."""
        if self.truth.in_charge():  # the model itself says how to go on
            return self.model.assess(window)
        # A model that says nothing of actions where it sees no failure can do nothing for this oracle there.
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
    """Knows which episodes fail, and tries out in a second simulator which way back is the shortest."""

    window_spec: WindowSpec
    truth: PrivilegedState
    name: str = "oracle recovery"

    def assess(self, window: Window) -> Assessment:
        """The truth, and the way back as a label would have it."""
        truth = self.truth
        if not _is_due(truth):
            return Assessment()
        state = truth.task.simulator.state()
        recovered = recover_now(truth.spare, truth.nominal, state, _fingers(window, self.truth.embodiment))
        if recovered is None:
            return Assessment(failure_probability=1.0, mode="unknown")
        rows = _as_actions(recovered, window.tcp_poses[-1].astype(np.float64))
        return Assessment(failure_probability=1.0, mode="unknown", actions=rows[:MAX_ACTIONS])


def _as_actions(trace: Trace, at: Pose) -> tuple[tuple[float, ...], ...]:
    """What a rollout was told, as actions from a tool pose on."""
    rows: list[tuple[float, ...]] = []
    for target, gripper in zip(trace.targets.astype(np.float64), trace.gripper_commands, strict=True):
        rows.append((*poses.delta_between(at, target).tolist(), float(gripper)))
        at = target
    return tuple(rows)


def _is_due(truth: PrivilegedState) -> bool:
    return truth.fails and truth.step() >= len(truth.nominal.trace)


def _fingers(window: Window, embodiment: EmbodimentSpec) -> float:
    """Return the last gripper command, inferred from the measured opening."""
    widest = max(float(window.gripper_widths.max()), _WIDE * embodiment.gripper_travel)
    return OPEN if window.gripper_widths[-1] > 0.7 * widest else CLOSED
