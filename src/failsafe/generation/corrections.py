"""Candidates for a correction: short ways from a failing state to where the task can go on.

Two kinds of reference are led to. Where the scene is as the nominal twin has it at some step (the same
objects in the same places, the same ones in the grip), that step's tool pose will do, and the plan goes on
from there. Where an object has moved, dropped or toppled, the expert is asked for a fresh plan from the
present state, and the way leads to its first waypoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.tasks import Task
from failsafe.generation.nominal import NominalRollout
from failsafe.records import poses
from failsafe.records.case import RecoveryStrategy
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.plan import OPEN, Stage
from failsafe.records.poses import Pose
from failsafe.records.trace import Trace
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import Role

MAX_ACTIONS = 24
"""The most actions of a correction (1.2 s at 20 Hz, 0.6 m at the per-step limit)."""
_SAME_METRES = 0.008
_SAME_RADIANS = 0.12
"""How far an object may be from the twin's place, in the world or in the grip, to count as in place."""
_SAME_WIDTH = 0.006
_FINGER_STEPS = 4
"""Control steps that fingers take to open or close."""
_CLEARANCE = 0.08
"""Metres to lift before going across, so as not to run into what lies about."""
_SAME_GRIPPER = 0.2


@dataclass(frozen=True)
class Waypoint:
    """Somewhere to go on the way back: tool pose and gripper."""

    pose: Pose
    gripper: float


@dataclass(frozen=True)
class Candidate:
    """A correction that has yet to prove itself.

    Attributes:
        strategy: Which reference it leads to.
        actions: K rows of 7-DoF actions, as in `Correction.actions`.
        resume_index: Stage of the nominal plan to go on with, or -1 for a fresh plan.
        resume_stage: Name of that stage.
    """

    strategy: RecoveryStrategy
    actions: tuple[tuple[float, ...], ...]
    resume_index: int
    resume_stage: str


def propose(
    task: Task, nominal: NominalRollout, trace: Trace, step: int, live: RolloutRunner
) -> list[Candidate]:
    """Candidates for one moment of a failing rollout, shortest first.

    Args:
        task: The task.
        nominal: Its nominal twin.
        trace: The failing rollout.
        step: The moment: the correction's first action takes the place of this step's command.
        live: A driver whose simulator is in the state at that moment; it is asked, not moved.
    """
    embodiment = nominal.scene.spec.embodiment
    start = trace.tcp_poses[step].astype(np.float64)
    gripper = float(trace.gripper_commands[step - 1]) if step else OPEN
    found = _to_nominal_path(nominal, trace, step, embodiment, gripper)
    first = _first_waypoint(task, live)
    if first is not None:
        strategies = [
            (RecoveryStrategy.FRESH_PLAN, _ways_to(start, first)[0]),
            (RecoveryStrategy.FRESH_PLAN_VIA_LIFT, _ways_to(start, first)[1]),
        ]
        if embodiment.has_gripper and (down := _set_down(nominal, trace, step, start, gripper)) is not None:
            strategies.append((RecoveryStrategy.SET_DOWN_AND_RETRY, down))
        for strategy, waypoints in strategies:
            actions = to_actions(start, gripper, waypoints, embodiment)
            found.append(Candidate(strategy, actions, -1, first.name))
    return sorted((c for c in found if len(c.actions) <= MAX_ACTIONS), key=lambda c: len(c.actions))


def to_actions(
    start: Pose, gripper: float, waypoints: Sequence[Waypoint], embodiment: EmbodimentSpec
) -> tuple[tuple[float, ...], ...]:
    """7-DoF actions from the measured tool pose through waypoints, each within the per-step limits.

    Fingers that have to open or close get the time for it; there is at least one action.
    """
    rows: list[tuple[float, ...]] = []
    at, fingers = start, gripper
    for waypoint in waypoints:
        moving = poses.steps_between(at, waypoint.pose, *embodiment.step_limits)
        settle = _FINGER_STEPS if abs(waypoint.gripper - fingers) > _SAME_GRIPPER else 0
        for pose in poses.interpolate(at, waypoint.pose, moving):
            rows.append((*poses.delta_between(at, pose).tolist(), waypoint.gripper))
            at = pose
        rows += [(0.0,) * 6 + (waypoint.gripper,)] * max(settle - moving, 0)
        fingers = waypoint.gripper
    return tuple(rows) or ((0.0,) * 6 + (fingers,),)


def _to_nominal_path(
    nominal: NominalRollout, trace: Trace, step: int, embodiment: EmbodimentSpec, gripper: float
) -> list[Candidate]:
    """For each stage of the plan in which the scene is the twin's, the nearest point of its path."""
    start = trace.tcp_poses[step].astype(np.float64)
    same = _in_place(nominal, trace, step)
    found: list[Candidate] = []
    for index, span in enumerate(nominal.record.spans):
        best: tuple[int, int] | None = None
        for at in range(span.start, span.stop):
            if not same[at]:
                continue
            pose = nominal.trace.tcp_poses[at].astype(np.float64)
            cost = max(1, poses.steps_between(start, pose, *embodiment.step_limits))
            if best is None or cost <= best[0]:  # the later of equals: it is further on
                best = (cost, at)
        if best is None:
            continue
        at = best[1]
        target = Waypoint(
            nominal.trace.tcp_poses[at].astype(np.float64),
            float(nominal.trace.gripper_commands[at - 1] if at else OPEN),
        )
        actions = to_actions(start, gripper, [target], embodiment)
        found.append(Candidate(RecoveryStrategy.NOMINAL_PATH, actions, index, span.name))
    # Of equally short ones, the one that is furthest on is tried first.
    return sorted(found, key=lambda c: (len(c.actions), -c.resume_index))


def _in_place(nominal: NominalRollout, trace: Trace, step: int) -> Bool[np.ndarray, "T"]:
    """At which of the twin's steps the scene is as now: held objects in the grip, others in the world."""
    path, steps = nominal.trace, len(nominal.trace)
    same = np.ones(steps, dtype=bool)
    held_at = [set[str]() for _ in range(steps)]
    for span in nominal.record.spans:
        for at in range(span.start, span.stop):
            held_at[at] = set(span.held)
    tool = trace.tcp_poses[step].astype(np.float64)
    for i, spec in enumerate(nominal.scene.episode.objects):
        if spec.role is not Role.MOVABLE:
            continue
        held = np.array([spec.name in names for names in held_at])
        now = trace.objects[step, i].astype(np.float64)
        theirs = path.objects[:steps, i].astype(np.float64)
        free_same = (np.linalg.norm(theirs[:, :3] - now[:3], axis=1) <= _SAME_METRES) & (
            poses.angles_between(theirs[:, 3:], np.broadcast_to(now[3:], theirs[:, 3:].shape))
            <= _SAME_RADIANS
        )
        in_grip = poses.relative(tool, now)
        held_same = np.zeros(steps, dtype=bool)
        for at in np.flatnonzero(held):
            there = poses.relative(path.tcp_poses[at].astype(np.float64), theirs[at])
            metres, radians = poses.distance(in_grip, there)
            widths = abs(float(trace.gripper_widths[step] - path.gripper_widths[at]))
            held_same[at] = metres <= _SAME_METRES and radians <= _SAME_RADIANS and widths <= _SAME_WIDTH
        same &= np.where(held, held_same, free_same)
    return same


def _set_down(
    nominal: NominalRollout, trace: Trace, step: int, start: Pose, gripper: float
) -> list[Waypoint] | None:
    """Lower what is carried to where it stood at first, let go, and rise; None if nothing is carried."""
    width = float(trace.gripper_widths[step])
    for i, spec in enumerate(nominal.scene.episode.objects):
        if spec.role is not Role.MOVABLE:
            continue
        now = trace.objects[step, i].astype(np.float64)
        near = float(np.linalg.norm(now[:3] - start[:3])) < 2 * max(spec.half_extents) + 0.02
        drop = float(now[2] - trace.objects[0, i, 2])
        if not near or width < 0.002 or drop < 0.005:
            continue
        low, high = start.copy(), start.copy()
        low[2] -= drop
        high[2] = low[2] + _CLEARANCE
        return [Waypoint(low, gripper), Waypoint(low, OPEN), Waypoint(high, OPEN)]
    return None


class _FirstStage(Exception):
    def __init__(self, stage: Stage, gripper: float) -> None:
        super().__init__()
        self.stage, self.gripper = stage, gripper


class _Probe(RolloutRunner):
    """A driver that carries out nothing and stops the expert at its first waypoint."""

    def __init__(self, live: RolloutRunner) -> None:
        super().__init__(live.simulator)
        self.gripper = live.gripper
        self.waited: Stage | None = None

    def do(self, stage: Stage) -> None:
        """Stop the expert where it wants to go; let it believe that it has waited."""
        metres, radians = poses.distance(self.observation.tcp_pose, stage.pose)
        if metres > 0.002 or radians > 0.02:
            raise _FirstStage(stage, stage.gripper)
        self.waited = stage

    def act(self, delta: np.ndarray, gripper: float) -> None:
        """Stop the expert at its first small step."""
        target = poses.apply_delta(self.commanded, delta)
        raise _FirstStage(Stage("act", tuple(target.tolist()), gripper, 0), gripper)

    def settle(self, steps: int | None = None) -> None:
        """Nothing: time stands still."""


@dataclass(frozen=True)
class _First:
    pose: Pose
    gripper: float
    name: str


def _ways_to(start: Pose, first: _First) -> tuple[list[Waypoint], list[Waypoint]]:
    """Straight to the first waypoint of a plan, and over a lift."""
    lifted, over = start.copy(), first.pose.copy()
    lifted[2] += _CLEARANCE
    over[2] = max(over[2], lifted[2])
    target = Waypoint(first.pose, first.gripper)
    rise = [Waypoint(pose, first.gripper) for pose in (start, lifted, over)]
    return [target], [*rise, target]


def _first_waypoint(task: Task, live: RolloutRunner) -> _First | None:
    """Where the expert would go first from the present state; None if it has no plan.

    For an expert that waits first, until something has come to rest, that is where it is: what follows the
    wait is not to be had without moving the simulator.
    """
    probe = _Probe(live)
    try:
        task.expert.solve(probe)
    except _FirstStage as first:
        return _First(first.stage.pose, first.gripper, first.stage.name)
    except (PlanError, DivergedError):
        pass
    if probe.waited is None:
        return None
    return _First(live.observation.tcp_pose.copy(), probe.waited.gripper, probe.waited.name)
