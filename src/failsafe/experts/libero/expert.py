"""The expert for LIBERO's tasks: achieves one goal predicate after the other, from any state."""

from __future__ import annotations

from failsafe.errors import PlanError, UserError
from failsafe.experts.libero.goals import JOINTS, PLACES, in_order, opened_first, without_expert
from failsafe.experts.libero.handles import operate
from failsafe.experts.libero.motion import Motion
from failsafe.experts.libero.placements import free_placements
from failsafe.experts.libero.scene import LiberoScene
from failsafe.experts.libero.search import (
    Manipulation,
    carry_out,
    choose,
    geometric_grasps,
    readable,
    search_of,
)
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.contract import GoalPredicate
from failsafe.simulators.libero.environment import task_environment
from failsafe.simulators.libero.simulator import LiberoSimulator

_ROUNDS = 3
"""Times that one goal is tried, each time in another way."""
_LONGEST = 24
"""Most goals and preparations in one plan."""


class LiberoExpert:
    """Solves a LIBERO task from its goal predicates and the geometry of the scene.

    Args:
        task: Name of the task.

    Raises:
        UserError: If a part of the task's goal has no expert. The message says which.
    """

    def __init__(self, task: str) -> None:
        if missing := without_expert(task_environment(task).goals):
            raise UserError(
                f"task '{task}' has no expert for {', '.join(map(_sentence, missing))}: expected goals about "
                f"{', '.join((*PLACES, *JOINTS))}; give an expert of your own with MODULE:FUNCTION"
            )
        self._task = task
        self._scene: LiberoScene | None = None

    def solve(self, runner: RolloutRunner) -> None:
        """Achieve every goal that does not hold, release what is held, and move away.

        Raises:
            PlanError: If a goal cannot be achieved from the present state.
        """
        simulator = runner.simulator
        assert isinstance(simulator, LiberoSimulator)
        if self._scene is None or self._scene.simulator is not simulator:
            self._scene = LiberoScene(simulator)
        scene = self._scene
        motion = Motion(scene, runner)
        goals = in_order(scene, simulator.episode.goals)
        tried: dict[GoalPredicate, int] = {}
        failed: set[int] = set()
        for _ in range(_LONGEST):
            goal = self._next(scene, goals)
            if goal is None:
                break
            tried[goal] = tried.get(goal, 0) + 1
            if tried[goal] > _ROUNDS:
                raise PlanError(f"the goal '{_sentence(goal)}' was not achieved in {_ROUNDS} tries")
            if goal.relation in JOINTS:
                self._move_joint(motion, goal, tried[goal] - 1)
            else:
                self._put(motion, goal, failed)
        else:
            raise PlanError(f"the goals were not achieved in {_LONGEST} motions")
        self._empty_hand(motion)

    def _next(self, scene: LiberoScene, goals: list[GoalPredicate]) -> GoalPredicate | None:
        """Return what to do next: a goal that does not hold at rest, or what it needs first."""
        held = scene.simulator.held()
        for goal in goals:
            if scene.holds(goal) and goal.arguments[0] not in held:
                continue
            first = opened_first(scene, goal)
            return goal if first is None or scene.holds(first) else first
        return None

    def _move_joint(self, motion: Motion, goal: GoalPredicate, tries: int) -> None:
        self._empty_hand(motion)
        handles = search_of(self._task).handles(goal)
        if not handles:
            raise PlanError(f"no way was found to {goal.relation} {goal.arguments[0]}")
        operate(motion, goal, handles[tries % len(handles)])

    def _put(self, motion: Motion, goal: GoalPredicate, failed: set[int]) -> None:
        scene, name = motion.scene, goal.arguments[0]
        body = scene.body(name)
        known = search_of(self._task).manipulation(goal)
        if not known.placements:
            raise PlanError(f"no place was found for {_sentence(goal)}")
        if name in scene.simulator.held():
            way = choose(scene, goal, known, attached=motion.attachment(body))
            if way is not None:
                carry_out(motion, goal, way)
                return
        self._empty_hand(motion)
        way = choose(scene, goal, known, without=failed)
        if way is None:
            # The object lies in another way than in the search.
            grasps = geometric_grasps(scene, body)
            way = choose(scene, goal, Manipulation(grasps, known.placements))
            if way is None:
                # What was put there before is in the way.
                way = choose(scene, goal, Manipulation(grasps, free_placements(scene, name, goal)))
        else:
            failed.add(id(way.grasp))
        if way is None:
            raise PlanError(f"the arm finds no way for {_sentence(goal)}")
        try:
            carry_out(motion, goal, way)
        except PlanError:
            if not motion.runner.steps_left:
                raise

    def _empty_hand(self, motion: Motion) -> None:
        for name in motion.scene.simulator.held():
            if motion.scene.is_loose(name):
                motion.set_down(motion.scene.body(name), readable(name))
            else:
                motion.release()


def _sentence(goal: GoalPredicate) -> str:
    return " ".join([goal.relation, *goal.arguments])
