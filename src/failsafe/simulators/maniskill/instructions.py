"""The instructions of ManiSkill's tasks."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Generator
from typing import Any

from failsafe.errors import FailSafeError, UserError, cause_of

_HEADING = "**Task Description:**"
"""Heading that ManiSkill's documentation puts before the description of a task."""
_PICK = "Grasp a red cube with the Panda robot and move it to a target goal position"

INSTRUCTIONS = {
    "DrawSVG-v1": "Draw the triangle with a red line",
    "DrawTriangle-v1": "Draw the triangle with a red line",
    "LiftPegUpright-v1": "Move a peg laying on the table to any upright position on the table",
    "PegInsertionSide-v1": (
        "Pick up a orange-white peg and insert the orange end into the box with a hole in it"
    ),
    "PickBlueCube-v1": _PICK,
    "PickCube-v1": _PICK,
    "PickCubeFetch-v1": _PICK,
    "PickHeavyCube-v1": _PICK,
    "PickLargeCube-v1": _PICK,
    "PickSlipperyCube-v1": _PICK,
    "PickSmallCube-v1": _PICK,
    "PickSphere-v1": _PICK,
    "PickTallCube-v1": _PICK,
    "PlaceSphere-v1": "Place the sphere into the shallow bin",
    "PlugCharger-v1": (
        "Pick up one of the misplaced shapes on the board/kit and insert it into the correct empty slot"
    ),
    "PokeCube-v1": "Poke a red cube with a peg and push it to a target goal position",
    "PullCube-v1": "Pull a cube onto a target",
    "PullCubeTool-v1": (
        "Given an L-shaped tool that is within the reach of the robot, leverage the tool to pull a cube that "
        "is out of it's reach"
    ),
    "PushCube-v1": "Push and move a cube to a goal region in front of it",
    "StackCube-v1": (
        "Pick up a red cube and stack it on top of a green cube and let go of the cube without it falling"
    ),
    "StackPyramid-v1": (
        "Pick up a red cube, place it next to the green cube, and stack the blue cube on top of the red and "
        "green cube without it falling off"
    ),
}
"""The instructions of the checked tasks: ManiSkill's tasks with an expert, and FailSafe's variants of them.
Published checkpoints and datasets know these texts. They never change."""


def is_checked(task: str, task_class: type[Any]) -> bool:
    """Return whether the adapter's tests have compared a task with ManiSkill's own step.

    Args:
        task: Name of the environment.
        task_class: Its class. A user's class may be registered under the name of a ManiSkill task.
    """
    return task in INSTRUCTIONS and task_class.__module__.startswith(
        ("mani_skill.envs.", "failsafe.simulators.maniskill.")
    )


@contextlib.contextmanager
def task_code(task: str, name: str) -> Generator[None, None, None]:
    """Raise whatever a task's own code raises in the context as one sentence.

    Args:
        task: Name of the environment.
        name: Name of the code that runs.

    Raises:
        UserError: If it raises anything.
    """
    try:
        yield
    except FailSafeError:
        raise
    except Exception as error:
        raise UserError(
            f"task '{task}': expected its {name} to run, got {cause_of(error)}: its code has to be mended"
        ) from error


def find_instruction(task: str, env: Any) -> str:
    """Return the instruction of the current episode; empty if the task states none.

    A checked task has its entry in `INSTRUCTIONS`. Any other task is asked for `get_language_instruction`. If
    it has no such method, the first paragraph of the docstring of its own class is the instruction. An
    inherited docstring describes another task, so it does not count.

    Args:
        task: Name of the environment.
        env: The unwrapped environment.

    Raises:
        UserError: If the method raises an exception; it may take no arguments.
    """
    if is_checked(task, type(env)):
        return INSTRUCTIONS[task]
    if hasattr(env, "get_language_instruction"):
        with task_code(task, "get_language_instruction()"):
            stated: Any = env.get_language_instruction()
        # ManiSkill's own tasks return a list, with one instruction for each environment.
        first: Any = stated if isinstance(stated, str) else next(iter(stated or ()), "")
        if isinstance(first, str) and first.strip():
            return first.strip()
    text = inspect.cleandoc(type(env).__dict__.get("__doc__") or "").removeprefix(_HEADING).strip()
    return " ".join(text.partition("\n\n")[0].split())
