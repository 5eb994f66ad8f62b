"""The search for a task: grasps, placements and handles that were tried in a simulator of their own.

It is done once in a process for each task and object, always from the initial state of seed 0. What it finds
is therefore the same in every process, whatever the process did before.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, field

import numpy as np

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.libero.goals import JOINTS, PLACES, opened_first
from failsafe.experts.libero.grasps import find_grasps, orientations
from failsafe.experts.libero.handles import Handle, find_handles, operate
from failsafe.experts.libero.kinematics import Attachment, Distinct
from failsafe.experts.libero.motion import BACK_OFF, Motion
from failsafe.experts.libero.placements import Placement, find_placements
from failsafe.experts.libero.scene import LiberoScene
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import GoalPredicate
from failsafe.simulators.libero.simulator import LiberoSimulator
from failsafe.simulators.mujoco.bindings import mujoco

MOST_TRIES = 12
"""Most grasps, or ways to move a joint, that are tried in simulation for one goal."""
ENOUGH = 2
"""Successes after which the search ends."""
_TILTS, _SIDEWAYS = (0.0, 0.5), (1.0, 1.4)
"""Angles of the fingers from straight down, radians; the second ones where the first ones do not serve, as
for what is put under a roof."""
_AZIMUTHS, _ROLLS = 8, 8
_MOST_GRASPS, _MOST_TESTED = 24, 120
"""Grasps of an object that are kept, and for which the arm's kinematics are computed."""
_SIMILAR = (0.012, 0.35)
"""Distance (m, rad) up to which two grasps count as the same."""
_SECONDS = 45.0
"""Longest rollout of a try, seconds."""
_PAUSE = 0.25
"""Time for everything to settle after a joint has been set, seconds."""
_TURN_COST = 0.15
"""Cost of turning the object by one radian while it is carried."""
_UNTRIED_COST, _RANK_COST = 0.4, 0.02
_DEPARTURES = (
    np.array([0.0, 0.0, 0.08]),
    np.array([-0.17, 0.0, 0.02]),
    np.array([0.0, 0.17, 0.02]),
    np.array([0.0, -0.17, 0.02]),
)
"""Ways out of a place, world frame, metres: up, towards the robot, sideways."""
_RISES = (0.03, 0.1, 0.2)
"""Heights to which an object has to rise without touching anything, metres."""
_ASIDES = (
    np.zeros(3),
    *(
        distance * np.array([np.cos(angle), np.sin(angle), 0.0])
        for distance in (0.05, 0.1, 0.2)
        for angle in np.pi * np.array([1.0, 0.5, -0.5, 0.75, -0.75, 0.25, -0.25, 0.0])
    ),
)
"""Ways from under something, world frame, metres."""


@dataclass
class Grasp:
    """A grasp of an object.

    Attributes:
        tool: Tool pose in the frame of the object. [7]
        successes: Tries in which it held, and the goal was achieved.
    """

    tool: Pose
    successes: int = 0


@dataclass(frozen=True)
class PickAndPlace:
    """A way to achieve a goal from the present state.

    Attributes:
        grasp: The grasp; None if the object is in the grip.
        placement: Where the object is released.
        departure: Vector from there to where the object comes from, world frame, metres. [3]
        aside: Vector by which the object is moved before it rises, world frame, metres; None: it rises at
            once. [3]
    """

    grasp: Grasp | None
    placement: Placement
    departure: np.ndarray
    aside: np.ndarray | None = None


@dataclass
class Manipulation:
    """What is known of moving one object to one goal.

    Attributes:
        grasps: Grasps, best first.
        placements: Placements, best first.
    """

    grasps: list[Grasp] = field(default_factory=list[Grasp])
    placements: list[Placement] = field(default_factory=list[Placement])


class TaskSearch:
    """What the search has found for a task so far.

    Args:
        task: Name of the task.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self._manipulations: dict[GoalPredicate, Manipulation] = {}
        self._handles: dict[GoalPredicate, list[Handle]] = {}

    def manipulation(self, goal: GoalPredicate) -> Manipulation:
        """Return grasps and placements for a goal."""
        if goal not in self._manipulations:
            self._manipulations[goal] = self._search(self._begin(goal), goal)
        return self._manipulations[goal]

    def handles(self, goal: GoalPredicate) -> list[Handle]:
        """Return ways to move the joint of a goal, best first."""
        if goal not in self._handles:
            self._handles[goal] = self._search_handles(self._begin(goal), goal)
        return self._handles[goal]

    def _begin(self, goal: GoalPredicate) -> LiberoScene:
        """Return the scene in the initial state of seed 0, with what has to be open first."""
        scene = workspace(self._task)
        scene.simulator.reset(0)
        first = opened_first(scene, goal)
        joint = None
        if first is not None and not scene.holds(first) and (part := scene.part(first.arguments[0])):
            joint = part[0], scene.joint_target(first, part[0])
        if goal.relation in JOINTS and scene.holds(goal) and (part := scene.part(goal.arguments[0])):
            # Nothing is to be done at the beginning, but something may be later.
            joint = part[0], scene.other_joint_position(goal, part[0])
        if joint is not None and joint[1] is not None:
            scene.data.qpos[int(scene.model.jnt_qposadr[joint[0]])] = joint[1]
            mujoco.mj_forward(scene.model, scene.data)
            pause = scene.simulator.spec.embodiment.steps(_PAUSE)
            RolloutRunner(scene.simulator, record=False).settle(pause)
        return scene

    def _search(self, scene: LiberoScene, goal: GoalPredicate) -> Manipulation:
        name = goal.arguments[0]
        simulator = scene.simulator
        body = scene.body(name)
        goals = simulator.environment.goals
        sharing = [g for g in goals if g.relation in PLACES and g.arguments[1] == goal.arguments[1]]
        share = (sharing.index(goal), len(sharing)) if goal in sharing else (0, 1)
        placements = find_placements(scene, name, goal, share)
        found = Manipulation(geometric_grasps(scene, body), placements)
        state = simulator.state()
        failed: set[int] = set()
        sideways: list[Grasp] = []
        for _ in range(MOST_TRIES):
            if sum(g.successes for g in found.grasps) >= ENOUGH:
                break
            way = choose(scene, goal, found, without=failed)
            if way is None and not sideways:
                sideways = geometric_grasps(scene, body, _SIDEWAYS)
                found.grasps += sideways
                way = choose(scene, goal, found, without=failed)
            if way is None or way.grasp is None:
                break
            failed.add(id(way.grasp))
            runner = RolloutRunner(simulator, record=False, max_steps=_most_steps(scene))
            with contextlib.suppress(PlanError, DivergedError):
                carry_out(Motion(scene, runner), goal, way)
                runner.settle()
                if scene.holds(goal) and not simulator.held():
                    way.grasp.successes += 1
            simulator.restore(state)
        # What was tried in vain is not tried again.
        found.grasps = [g for g in found.grasps if g.successes or id(g) not in failed]
        found.grasps.sort(key=lambda grasp: -grasp.successes)
        return found

    def _search_handles(self, scene: LiberoScene, goal: GoalPredicate) -> list[Handle]:
        simulator = scene.simulator
        candidates = find_handles(scene, goal)
        good: list[Handle] = []
        state = simulator.state()
        for handle in candidates[:MOST_TRIES]:
            runner = RolloutRunner(simulator, record=False, max_steps=_most_steps(scene))
            succeeds = False
            with contextlib.suppress(PlanError, DivergedError):
                operate(Motion(scene, runner), goal, handle)
                runner.settle()
                succeeds = scene.holds(goal)
            simulator.restore(state)
            if succeeds:
                good.append(handle)
            if len(good) == ENOUGH:
                break
        return good


@functools.lru_cache(maxsize=1)
def workspace(task: str) -> LiberoScene:
    """Return the scene of a simulator in which the search for a task tries things.

    One is kept in a process, because a simulator takes half a gigabyte.

    Args:
        task: Name of the task.
    """
    return LiberoScene(LiberoSimulator(task))


def _most_steps(scene: LiberoScene) -> int:
    return scene.simulator.spec.embodiment.steps(_SECONDS)


@functools.cache
def search_of(task: str) -> TaskSearch:
    """Return the search for a task, one in a process.

    Args:
        task: Name of the task.
    """
    return TaskSearch(task)


def geometric_grasps(scene: LiberoScene, body: int, tilts: tuple[float, ...] = _TILTS) -> list[Grasp]:
    """Return grasps that fit the shape of an object, and that the arm reaches now, best first.

    Args:
        scene: The scene.
        body: Id of the object's body.
        tilts: Angles of the fingers from straight down, radians.
    """
    surface = scene.surface(body)
    center = surface.points.mean(axis=0)
    center[:2] = scene.data.xipos[body][:2]
    at = scene.pose(body)
    kept: list[Pose] = []
    tested = Distinct(*_SIMILAR)
    for hand in find_grasps(surface.points, center, orientations(tilts, _AZIMUTHS, _ROLLS)):
        tool = scene.tool_of(hand)
        if not tested.add(tool):
            continue
        scene.arm.begin()
        if not (scene.arm.free(tool) and scene.arm.free(_backed_off(scene, tool))):
            continue
        kept.append(tool)
        if len(kept) == _MOST_GRASPS or len(tested) == _MOST_TESTED:
            break
    return [Grasp(poses.relative(at, tool)) for tool in kept]


def choose(
    scene: LiberoScene,
    goal: GoalPredicate,
    known: Manipulation,
    without: set[int] | None = None,
    attached: Attachment | None = None,
) -> PickAndPlace | None:
    """Return the best way to achieve a goal that the arm can go now; None if there is none.

    Args:
        scene: The scene.
        goal: The goal.
        known: Grasps and placements.
        without: Ids of grasps that are left out.
        attached: The object, if it is in the grip.
    """
    body = scene.body(goal.arguments[0])
    now, reference = scene.pose(body), scene.reference(goal.arguments[1])
    arm = scene.arm
    arm.begin()
    targets = [poses.compose(reference, p.offset) for p in known.placements]
    costs = [
        p.cost + _TURN_COST * poses.distance(now, t)[1]
        for p, t in zip(known.placements, targets, strict=True)
    ]
    if attached is not None:
        for i in np.argsort(costs, kind="stable"):
            departure = _departure(scene, _tool_at(targets[i], attached), attached)
            if departure is not None:
                return PickAndPlace(None, known.placements[i], departure)
        return None
    left_out = without or set()
    pairs = sorted(
        (costs[j] + _RANK_COST * i + (0.0 if grasp.successes else _UNTRIED_COST), i, j)
        for i, grasp in enumerate(known.grasps)
        if id(grasp) not in left_out
        for j in range(len(targets))
    )
    reachable: dict[int, bool] = {}
    lifts: dict[int, np.ndarray | None] = {}
    for _, i, j in pairs:
        grasp = known.grasps[i]
        tool = poses.compose(now, grasp.tool)
        if i not in reachable:
            arm.begin()
            reachable[i] = arm.free(tool) and arm.free(_backed_off(scene, tool))
        if not reachable[i]:
            continue
        arm.begin()
        held = Attachment(body, poses.relative(tool, now))
        if i not in lifts:
            lifts[i] = _way_up(scene, tool, held)
        if lifts[i] is None:
            continue
        departure = _departure(scene, _tool_at(targets[j], held), held)
        if departure is not None:
            return PickAndPlace(grasp, known.placements[j], departure, lifts[i])
    return None


def carry_out(motion: Motion, goal: GoalPredicate, way: PickAndPlace) -> None:
    """Pick an object, unless it is in the grip, and place it.

    Args:
        motion: Moves the tool.
        goal: The goal.
        way: How to achieve it.

    Raises:
        PlanError: If the grasp does not hold.
    """
    scene, name = motion.scene, goal.arguments[0]
    body, called = scene.body(name), readable(name)
    if way.grasp is not None:
        motion.pick(called, body, poses.compose(scene.pose(body), way.grasp.tool), way.aside)
    attached = motion.attachment(body)
    target = poses.compose(scene.reference(goal.arguments[1]), way.placement.offset)
    motion.place(called, _tool_at(target, attached), way.departure, attached)


def readable(name: str) -> str:
    """Return the name of an object as it reads in a sentence: "black bowl" for "black_bowl_1".

    Args:
        name: Name of an object or region.
    """
    words = [word for word in name.split("_") if not word.isdigit()]
    return " ".join(word for word in words if word not in ("region", "main"))


def _tool_at(target: Pose, attached: Attachment) -> Pose:
    return poses.compose(target, poses.inverse(attached.offset))


def _backed_off(scene: LiberoScene, tool: Pose) -> Pose:
    back = tool.copy()
    back[:3] -= BACK_OFF * scene.forward(tool)
    return back


def _way_up(scene: LiberoScene, tool: Pose, held: Attachment) -> np.ndarray | None:
    """Return the vector by which a held object is moved before it rises: zero if nothing is above it."""
    for aside in _ASIDES:
        free = True
        for share, height in ((0.5, _RISES[0]), *((1.0, rise) for rise in _RISES)):
            out = tool.copy()
            out[:3] += share * aside
            out[2] += height
            free = free and scene.arm.free(out, 0.5, held)
        if free:
            return aside
    return None


def _departure(scene: LiberoScene, tool: Pose, attached: Attachment) -> np.ndarray | None:
    """Return the way out of a place, if the arm can hold the object there and move it that way."""
    slightly_up = tool.copy()
    slightly_up[2] += 0.003
    if not scene.arm.free(slightly_up, 0.5, attached):
        return None
    for departure in _DEPARTURES:
        free = True
        for share in (0.5, 1.0):
            out = slightly_up.copy()
            out[:3] += share * departure
            free = free and scene.arm.free(out, 0.5, attached)
        if free:
            return departure
    return None
