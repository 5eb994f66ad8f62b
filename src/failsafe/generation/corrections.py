"""Candidate corrections: short action sequences from a failing state to a state where the task can go on.

A candidate leads to one of two references. If the scene is as in the nominal rollout at some step (the same
objects in the same places, the same objects in the grip), the reference is the tool pose of that step, and
the nominal plan goes on from there. If an object has moved, dropped or toppled, the expert makes a fresh plan
from the present state, and the reference is the first waypoint of that plan.
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
from failsafe.rollouts.loop import NO_STAGE
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import Exactness, Role

MAX_SECONDS = 1.2
"""Longest duration of a correction (24 actions at 20 Hz)."""
_SAME_METRES = 0.008
_SAME_RADIANS = 0.12
"""Distance from its nominal place, in the world or in the grip, up to which an object counts as in place."""
_SAME_WIDTH = 0.006
"""Difference of the gripper's opening up to which the grip counts as the same, metres."""
_SAME_GRIPPER = 0.2
"""Difference of gripper commands (-1 to +1) up to which the fingers need no time to move."""
_CLEARANCE = 0.08
"""Height to lift before moving sideways, so that the tool clears other objects, metres."""
_NEAR = 0.02
"""Distance of the tool from a carried object, beyond the object's size, metres."""
_LEAST_WIDTH = 0.002
"""Opening from which on the gripper may hold something, metres."""
_LEAST_DROP = 0.005
"""Height above its initial place from which on an object counts as carried, metres."""
_ARRIVED_METRES, _ARRIVED_RADIANS = 0.002, 0.02
"""Distance from the tool up to which an expert's target counts as waiting in place."""


@dataclass(frozen=True)
class Waypoint:
    """A target of a correction.

    Attributes:
        pose: Tool pose, robot base frame. [7]
        gripper: Gripper command, -1 (closed) to +1 (open).
    """

    pose: Pose
    gripper: float


@dataclass(frozen=True)
class Candidate:
    """A correction before its verification.

    Attributes:
        strategy: The reference that it leads to.
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
    """Return the candidates for one step of a failing rollout, shortest first.

    Args:
        task: The task.
        nominal: Its nominal rollout.
        trace: The failing rollout.
        step: Control step whose command the correction's first action replaces.
        live: A runner whose simulator is in the state at that step, and is so again afterwards.
    """
    embodiment = nominal.scene.spec.embodiment
    start = trace.tcp_poses[step].astype(np.float64)
    gripper = float(trace.gripper_commands[step - 1]) if step else OPEN
    found = _to_nominal_path(nominal, trace, step, embodiment, gripper)
    first = _first_waypoint(task, live)
    if first is not None:
        strategies = [
            (RecoveryStrategy.FRESH_PLAN, _direct_path(first)),
            (RecoveryStrategy.FRESH_PLAN_VIA_LIFT, _path_over_lift(start, first)),
        ]
        if embodiment.has_gripper and (down := _set_down(nominal, trace, step, start, gripper)) is not None:
            strategies.append((RecoveryStrategy.SET_DOWN_AND_RETRY, down))
        paths = [(strategy, to_actions(start, gripper, path, embodiment)) for strategy, path in strategies]
        if first.acted:
            paths.append((RecoveryStrategy.FRESH_PLAN, first.acted))
        found += [Candidate(strategy, actions, -1, first.name) for strategy, actions in paths]
    most = embodiment.steps(MAX_SECONDS)
    return sorted((c for c in found if len(c.actions) <= most), key=lambda c: len(c.actions))


def to_actions(
    start: Pose, gripper: float, waypoints: Sequence[Waypoint], embodiment: EmbodimentSpec
) -> tuple[tuple[float, ...], ...]:
    """Return 7-DoF actions from a tool pose through waypoints, each within the robot's step limits.

    Fingers that have to open or close get the time for it. There is at least one action.

    Args:
        start: Measured tool pose, robot base frame. [7]
        gripper: Gripper command given last.
        waypoints: The waypoints, in order.
        embodiment: The robot.

    Returns:
        Rows of actions, as in `Correction.actions`.
    """
    rows: list[tuple[float, ...]] = []
    at, fingers = start, gripper
    for waypoint in waypoints:
        moving = poses.steps_between(at, waypoint.pose, *embodiment.step_limits)
        moves_fingers = embodiment.has_gripper and abs(waypoint.gripper - fingers) > _SAME_GRIPPER
        settle = embodiment.steps(embodiment.gripper_seconds) if moves_fingers else 0
        for pose in poses.interpolate(at, waypoint.pose, moving):
            rows.append((*poses.delta_between(at, pose).tolist(), waypoint.gripper))
            at = pose
        rows += [(0.0,) * 6 + (waypoint.gripper,)] * max(settle - moving, 0)
        fingers = waypoint.gripper
    return tuple(rows) or ((0.0,) * 6 + (fingers,),)


def _to_nominal_path(
    nominal: NominalRollout, trace: Trace, step: int, embodiment: EmbodimentSpec, gripper: float
) -> list[Candidate]:
    """Return one candidate for each stage in which the scene is as now: to the nearest point of its path."""
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
            if best is None or cost <= best[0]:  # of equal costs the later step: the task is further on
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
    # Of equally short candidates, the one that resumes latest comes first.
    return sorted(found, key=lambda c: (len(c.actions), -c.resume_index))


def _in_place(nominal: NominalRollout, trace: Trace, step: int) -> Bool[np.ndarray, "T"]:
    """Return at which nominal steps the scene is as now: held objects in the grip, others in the world."""
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
        then = path.objects[:steps, i].astype(np.float64)
        free_same = (np.linalg.norm(then[:, :3] - now[:3], axis=1) <= _SAME_METRES) & (
            poses.angles_between(then[:, 3:], np.broadcast_to(now[3:], then[:, 3:].shape)) <= _SAME_RADIANS
        )
        in_grip = poses.relative(tool, now)
        held_same = np.zeros(steps, dtype=bool)
        for at in np.flatnonzero(held):
            nominal_grip = poses.relative(path.tcp_poses[at].astype(np.float64), then[at])
            metres, radians = poses.distance(in_grip, nominal_grip)
            widths = abs(float(trace.gripper_widths[step] - path.gripper_widths[at]))
            held_same[at] = metres <= _SAME_METRES and radians <= _SAME_RADIANS and widths <= _SAME_WIDTH
        same &= np.where(held, held_same, free_same)
    return same


def _set_down(
    nominal: NominalRollout, trace: Trace, step: int, start: Pose, gripper: float
) -> list[Waypoint] | None:
    """Lower a carried object to its initial height, release it, and rise; None if nothing is carried."""
    width = float(trace.gripper_widths[step])
    for i, spec in enumerate(nominal.scene.episode.objects):
        if spec.role is not Role.MOVABLE:
            continue
        now = trace.objects[step, i].astype(np.float64)
        near = float(np.linalg.norm(now[:3] - start[:3])) < 2 * max(spec.half_extents) + _NEAR
        drop = float(now[2] - trace.objects[0, i, 2])
        if not near or width < _LEAST_WIDTH or drop < _LEAST_DROP:
            continue
        low, high = start.copy(), start.copy()
        low[2] -= drop
        high[2] = low[2] + _CLEARANCE
        return [Waypoint(low, gripper), Waypoint(low, OPEN), Waypoint(high, OPEN)]
    return None


class _FirstStage(Exception):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage


class _Probe(RolloutRunner):
    """A runner that stops the expert at the first waypoint, or where an expert that acts has reached one.

    An expert that asks for stages moves nothing. One that acts in closed loop has no waypoints: it is let go
    on until its next stage begins or the gripper moves, at most as long as a correction may take. That needs
    a simulator whose state can be restored exactly afterwards.
    """

    def __init__(self, live: RolloutRunner) -> None:
        super().__init__(live.simulator, record=False)
        self.gripper = live.gripper
        self.waited: Stage | None = None
        self.acted: list[tuple[float, ...]] = []
        """Actions that were carried out. [K, 7]"""
        robot = live.simulator.spec.embodiment
        self._most = robot.steps(MAX_SECONDS)
        self._fingers = robot.steps(robot.gripper_seconds) if robot.has_gripper else 0
        self._restores = live.simulator.spec.exactness is Exactness.RESTORE
        self._stage: int | None = None

    def do(self, stage: Stage) -> None:
        """Stop the expert at a target that is away from the tool; a wait in place counts as done."""
        metres, radians = poses.distance(self.observation.tcp_pose, stage.pose)
        if metres > _ARRIVED_METRES or radians > _ARRIVED_RADIANS:
            raise _FirstStage(stage)
        self.waited = stage

    def act(self, delta: np.ndarray, gripper: float, stage: int = NO_STAGE) -> None:
        """Carry out an action, or stop the expert."""
        if not self._restores:
            target = poses.apply_delta(self.commanded, delta)
            raise _FirstStage(Stage("act", tuple(target.tolist()), gripper, 0))
        if self._stage is None:
            self._stage = stage
        began = len(self.acted) > self._fingers
        moves_fingers = began and abs(gripper - self.gripper) > _SAME_GRIPPER
        if len(self.acted) == self._most or moves_fingers or (began and stage != self._stage):
            raise _FirstStage(Stage("act", tuple(self.commanded.tolist()), self.gripper, 0))
        super().act(delta, gripper, stage)
        self.acted.append((*delta.tolist(), gripper))

    def settle(self, steps: int | None = None) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class _First:
    pose: Pose
    gripper: float
    name: str
    acted: tuple[tuple[float, ...], ...] = ()


def _direct_path(first: _First) -> list[Waypoint]:
    return [Waypoint(first.pose, first.gripper)]


def _path_over_lift(start: Pose, first: _First) -> list[Waypoint]:
    """Return the path to the first waypoint of a plan: up, across, down."""
    lifted, over = start.copy(), first.pose.copy()
    lifted[2] += _CLEARANCE
    over[2] = max(over[2], lifted[2])
    return [Waypoint(pose, first.gripper) for pose in (start, lifted, over, first.pose)]


def _first_waypoint(task: Task, live: RolloutRunner) -> _First | None:
    """Return the expert's first waypoint from the present state; None if the expert has no plan.

    An expert may wait first until an object is at rest. Its first waypoint is then the present pose, because
    what follows the wait cannot be known without moving the simulator.
    """
    simulator, state = live.simulator, live.simulator.state()
    probe = _Probe(live)
    first: _First | None = None
    try:
        task.expert.solve(probe)
    except _FirstStage as stopped:
        stage = stopped.stage
        first = _First(stage.pose, stage.gripper, stage.name, tuple(probe.acted))
    except (PlanError, DivergedError):
        pass
    if probe.acted:
        simulator.restore(state)
    if first is None and probe.waited is not None:
        first = _First(live.observation.tcp_pose.copy(), probe.waited.gripper, probe.waited.name)
    return first
