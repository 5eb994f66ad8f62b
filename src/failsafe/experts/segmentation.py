"""Segmentation: cut the rollout of a closed-loop policy or a demonstration into the stages of a plan.

The commanded poses are cut where the gripper command changes, and where the policy says that another stage
begins; a policy that does not say so is cut where the tool rests. Each path in between becomes as few
straight lines as stay near it. The plan has the rollout's timing, so that carrying it out open loop from the
same initial state solves the task again.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from failsafe.errors import PlanError
from failsafe.records import poses
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.plan import Stage, StagePlan
from failsafe.records.trace import Trace
from failsafe.rollouts.loop import NO_STAGE
from failsafe.simulators.contract import EpisodeSpec, JointSpec, JointType, Role

GRIPPER_CHANGE = 0.25
"""Change of the gripper command that begins a new stage; from closed to open it is 2."""
REST_SPEED, REST_TURN_SPEED = 0.01, 0.1
"""Commanded speed (m/s, rad/s) below which the tool rests."""
REST_SECONDS = 0.1
"""Time of rest that ends a stage."""
TOLERANCE_TRANSLATION, TOLERANCE_ROTATION = 0.003, 0.03
"""Largest distance of a simplified path from the commanded one (m, rad)."""
TOLERANCES = (16.0, 6.0, 2.0, 1.0)
"""Multiples of these tolerances, in the order in which they are tried: the fewer stages, the better."""
SHORTEST_SECONDS = 0.15
"""Shortest stage of a policy that says where its stages begin: it may go back and forth between two."""
MOVED, TURNED = 0.01, 0.1
"""Distance (m) and angle (rad) from which on an object counts as moved by a stage."""
LAST_REST_SECONDS = 0.2
"""Time of rest that is kept at the end: a rollout settles after its plan in any case."""
JUMP = 1.5
"""Multiple of the step limits from which on the command counts as dropped for the measured pose."""
ROUNDING = 5e-6
"""Relative error of a recorded path, which is stored in single precision."""
SLOWEST = 0.02
"""Smallest share of the step limits that a stage uses."""
CLOSE, OPEN = "close gripper", "open gripper"


@dataclass(frozen=True)
class _Piece:
    """The part of a rollout that becomes one stage: motion in steps [start, rest), rest in [rest, stop)."""

    start: int
    rest: int
    stop: int


def segment(
    trace: Trace, embodiment: EmbodimentSpec, episode: EpisodeSpec, tolerance: float = 1.0
) -> StagePlan:
    """Cut a rollout into stages.

    Args:
        trace: The rollout. Its `stages` are those that the policy states, if it states any.
        embodiment: The robot.
        episode: The episode that the rollout belongs to.
        tolerance: Multiple of the tolerances within which the stages follow the rollout.

    Returns:
        A plan that begins where the rollout did, its stages named after what happens in them: "approach",
        "close gripper", "carry", "push", "slide", "turn", "move", "open gripper", "retreat", "stop",
        "reach".

    Raises:
        PlanError: If the rollout has no steps.
    """
    if not len(trace):
        raise PlanError("expected a rollout with at least one control step, got an empty one")
    path = np.concatenate([trace.tcp_poses[:1], trace.targets]).astype(np.float64)
    path[:, 3:] /= np.linalg.norm(path[:, 3:], axis=1, keepdims=True)
    # Where each step starts from: the pose commanded before, or the measured one where the policy drops it.
    origins = path.copy()
    jumps = _jumps(path, embodiment)
    origins[jumps] = trace.tcp_poses[jumps]
    cuts = sorted({*_gripper_changes(trace.gripper_commands), *jumps})
    stated = int(trace.stages[0]) != NO_STAGE
    if stated:
        cuts = _with_stated_stages(cuts, trace.stages, embodiment.steps(SHORTEST_SECONDS))
    pieces = [
        straight
        for begin, end in itertools.pairwise(cuts)
        for piece in _pieces(path, origins, begin, end, embodiment, only_last=stated)
        for straight in _straight(path, origins, piece, tolerance, timed=stated)
    ]
    last = pieces[-1]
    pieces[-1] = _Piece(
        last.start, last.rest, min(last.stop, last.rest + embodiment.steps(LAST_REST_SECONDS))
    )
    effects = [_effect(trace, episode, piece) for piece in pieces]
    stages: list[Stage] = []
    for i, piece in enumerate(pieces):
        gripped = CLOSE in effects[:i] and OPEN not in effects[:i]
        # A stage without an effect leads to the next effect, or away from the last one.
        idle = ("move" if gripped else "approach") if any(effects[i:]) else "retreat"
        if not any(effects):
            idle = "reach"
        elif stated and idle == "retreat" and _travel(trace, piece) <= MOVED:
            idle = "stop"
        stage = _stage(effects[i] or idle, path, origins, trace, piece, embodiment)
        stages.append(replace(stage, from_commanded=piece.start not in jumps))
    return StagePlan(episode.instruction, tuple(stages))


def _jumps(path: np.ndarray, embodiment: EmbodimentSpec) -> list[int]:
    """Return the steps whose command is farther from the one before than a step: the tool is stopped."""
    found: list[int] = []
    for step, (before, after) in enumerate(itertools.pairwise(path)):
        metres, radians = poses.distance(before, after)
        if metres > JUMP * embodiment.max_translation or radians > JUMP * embodiment.max_rotation:
            found.append(step)
    return found


def _gripper_changes(commands: np.ndarray) -> list[int]:
    """Return the steps where a new gripper command begins, with the first step and one past the last."""
    cuts, current = [0], float(commands[0])
    for step, command in enumerate(commands.tolist()):
        if abs(command - current) > GRIPPER_CHANGE:
            cuts.append(step)
            current = command
    return [*cuts, len(commands)]


def _with_stated_stages(cuts: list[int], stages: np.ndarray, shortest: int) -> list[int]:
    """Return the cuts with those where another stage begins and lasts.

    Args:
        cuts: Cuts that have to stay.
        stages: Number of the stage of every step. [T]
        shortest: Least distance of two cuts.
    """
    kept, current = set(cuts), stages[0]
    for step in range(1, len(stages) - shortest + 1):
        lasts = bool((stages[step : step + shortest] == stages[step]).all())
        if stages[step] != current and lasts:
            current = stages[step]
            if min(abs(step - cut) for cut in kept) >= shortest:
                kept.add(step)
    return sorted(kept)


def _pieces(
    path: np.ndarray,
    origins: np.ndarray,
    begin: int,
    end: int,
    embodiment: EmbodimentSpec,
    only_last: bool = False,
) -> list[_Piece]:
    """Cut steps [begin, end) after each rest, or only separate the rest at the end from the motion."""
    hz = embodiment.control_hz
    resting = [_rests(origins[step], path[step + 1], hz) for step in range(begin, end)]
    needed = embodiment.steps(REST_SECONDS)
    pieces: list[_Piece] = []
    start = step = begin
    while step < end:
        stop = step
        while stop < end and resting[stop - begin]:
            stop += 1
        if (stop - step >= needed and not only_last) or (stop == end and stop > step):
            pieces.append(_Piece(start, step, stop))
            start = stop
        step = max(stop, step + 1)
    if start < end:
        pieces.append(_Piece(start, end, end))
    return pieces


def _rests(before: np.ndarray, after: np.ndarray, hz: float) -> bool:
    metres, radians = poses.distance(before, after)
    return metres < REST_SPEED / hz and radians < REST_TURN_SPEED / hz


def _straight(
    path: np.ndarray, origins: np.ndarray, piece: _Piece, tolerance: float, timed: bool
) -> list[_Piece]:
    """Cut a piece until every part stays near a straight line (Douglas and Peucker, 1973).

    Args:
        path: Commanded poses. [T+1, 7]
        origins: Where each step starts from. [T+1, 7]
        piece: The piece.
        tolerance: Multiple of the tolerances.
        timed: Whether every pose must be near its place on the line at that time, not only near the line.
    """
    if piece.rest - piece.start < 2:
        return [piece]
    start, end = origins[piece.start], path[piece.rest]
    delta = poses.delta_between(start, end)
    length = float(np.linalg.norm(delta[:3]))
    worst, corner = 1.0, -1
    for at in range(piece.start + 1, piece.rest):
        gone = path[at, :3] - start[:3]
        along = min(1.0, max(0.0, float(gone @ delta[:3]) / length**2)) if length > 1e-6 else 0.0
        by_time = timed or length <= TOLERANCE_TRANSLATION
        share = (at - piece.start) / (piece.rest - piece.start) if by_time else along
        metres, radians = poses.distance(poses.apply_delta(start, share * delta), path[at])
        error = max(metres / TOLERANCE_TRANSLATION, radians / TOLERANCE_ROTATION) / tolerance
        if error > worst:
            worst, corner = error, at
    if corner < 0:
        return [piece]
    before, after = _Piece(piece.start, corner, corner), _Piece(corner, piece.rest, piece.stop)
    halves = (before, after)
    return [part for half in halves for part in _straight(path, origins, half, tolerance, timed)]


def _stage(
    name: str,
    path: np.ndarray,
    origins: np.ndarray,
    trace: Trace,
    piece: _Piece,
    embodiment: EmbodimentSpec,
) -> Stage:
    """Return the stage that takes as long as the piece, within the step limits."""
    metres, radians = poses.distance(origins[piece.start], path[piece.rest])
    needed = max(metres / embodiment.max_translation, radians / embodiment.max_rotation)
    moving = piece.rest - piece.start
    # A little faster, so that rounding does not add a step.
    speed = min(1.0, max(SLOWEST, needed / moving * (1 + ROUNDING))) if moving else 1.0
    gripper = float(trace.gripper_commands[piece.stop - 1])
    target = tuple(path[piece.stop].tolist())
    return Stage(name, target, gripper, piece.stop - piece.rest, speed)


def _effect(trace: Trace, episode: EpisodeSpec, piece: _Piece) -> str:
    """Return the effect of a piece on the gripper or on an object; empty if there is none.

    The last object that moves decides, but one that is carried comes first.
    """
    gripper = float(trace.gripper_commands[piece.stop - 1])
    change = gripper - float(trace.gripper_commands[piece.start - 1]) if piece.start else 0.0
    if abs(change) > GRIPPER_CHANGE:
        return OPEN if change > 0 else CLOSE
    start, stop = trace.objects[piece.start, :, :3], trace.objects[piece.stop, :, :3]
    tool = trace.tcp_poses[piece.stop, :3] - trace.tcp_poses[piece.start, :3]
    effect = ""
    for index in map(episode.object_index, episode.names(Role.MOVABLE)):
        step = stop[index] - start[index]
        joint = episode.objects[index].joint
        if joint is not None:
            if moves := _moved_by_joint(trace, piece, index, joint):
                effect = moves
            continue
        if np.linalg.norm(step) <= MOVED:
            continue
        lifted = stop[index, 2] - trace.objects[0, index, 2] > MOVED / 2
        if lifted and np.linalg.norm(step - tool) <= MOVED:
            return "carry"
        effect = "push"
    return effect


def _moved_by_joint(trace: Trace, piece: _Piece, index: int, joint: JointSpec) -> str:
    """Return what a piece does to an articulated part: "slide", "turn", or an empty text for nothing."""
    before, after = (trace.objects[at, index].astype(np.float64) for at in (piece.start, piece.stop))
    metres, radians = poses.distance(before, after)
    if joint.type is JointType.REVOLUTE:
        return "turn" if radians > TURNED else ""
    return "slide" if metres > MOVED else ""


def _travel(trace: Trace, piece: _Piece) -> float:
    """Return how far the tool moves in a piece, metres."""
    tool = trace.tcp_poses[piece.start : piece.stop + 1, :3]
    return float(np.linalg.norm(tool - tool[0], axis=1).max())
