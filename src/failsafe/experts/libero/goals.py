"""In which order the goals of a task are achieved, and what has to be done before each."""

from __future__ import annotations

from collections.abc import Sequence

from failsafe.experts.libero.scene import LiberoScene
from failsafe.simulators.contract import GoalPredicate

PLACES = ("on", "in")
"""Relations that are achieved by putting one object on or into something."""
OPENS, CLOSES = "open", "close"
JOINTS = (OPENS, CLOSES, "turnon", "turnoff")
"""Relations that are achieved by moving a joint."""
VERBS = {OPENS: "open", CLOSES: "close", "turnon": "turn on", "turnoff": "turn off"}


def without_expert(goals: Sequence[GoalPredicate]) -> tuple[GoalPredicate, ...]:
    """Return the goals that no expert here can achieve.

    Args:
        goals: Goals of a task.
    """
    return tuple(g for g in goals if g.relation not in (*PLACES, *JOINTS) or not g.arguments)


def in_order(scene: LiberoScene, goals: Sequence[GoalPredicate]) -> list[GoalPredicate]:
    """Return goals in the order in which they can be achieved.

    What is switched or opened comes first. An object is put in its place before another is put on it. What
    something is put into is closed at the end.

    Args:
        scene: The scene.
        goals: The goals.
    """
    filled = {scene.container(g.arguments[1]) for g in goals if g.relation == "in"}

    def rank(goal: GoalPredicate) -> tuple[int, int]:
        if goal.relation in JOINTS:
            late = goal.relation == CLOSES and scene.container(goal.arguments[0]) in filled
            return (2, 0) if late else (0, int(goal.relation != CLOSES))
        below = {g.arguments[0] for g in goals if g.relation in PLACES}
        return 1, int(goal.arguments[1] in below)

    return sorted(goals, key=rank)


def opened_first(scene: LiberoScene, goal: GoalPredicate) -> GoalPredicate | None:
    """Return what has to be open before a goal can be achieved, if anything has to.

    Args:
        scene: The scene.
        goal: The goal.
    """
    if goal.relation != "in":
        return None
    container = scene.container(goal.arguments[1])
    return GoalPredicate(OPENS, (container,)) if container else None
