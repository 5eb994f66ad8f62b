"""ManiSkill's tasks: names, environments, instructions."""

from __future__ import annotations

import inspect
import logging
import re
from typing import Any

from failsafe.errors import MissingAssetsError, UnknownNameError


def make_env(task: str, render_backend: str = "none") -> Any:
    """Make the unwrapped ManiSkill environment of a task, on the CPU, with joint position control.

    Args:
        task: Name of the environment.
        render_backend: "none", "cpu" or "cuda".

    Raises:
        UnknownNameError: If there is no such task.
        MissingAssetsError: If its assets are not on this machine.
    """
    import gymnasium
    from mani_skill import logger

    # ManiSkill logs hints about default poses for every environment. They do not concern users.
    logger.setLevel(logging.ERROR)
    check_known(task)
    return gymnasium.make(
        task,
        obs_mode="none",
        control_mode="pd_joint_pos",
        render_backend=render_backend,
        sim_backend="physx_cpu",
    ).unwrapped


def known_tasks() -> list[str]:
    """List the names of ManiSkill's tasks and of FailSafe's variants of them."""
    import mani_skill.envs  # noqa: F401  # pyright: ignore[reportUnusedImport]  (registers the tasks)
    from mani_skill.utils.registration import REGISTERED_ENVS

    import failsafe.simulators.maniskill.variants  # noqa: F401  # pyright: ignore[reportUnusedImport]  (these, too)

    return list(REGISTERED_ENVS)


def check_known(task: str) -> None:
    """Check that ManiSkill has a task and its assets.

    Args:
        task: Name of the environment.
        others: Names to suggest from if the task is unknown; by default all of ManiSkill's.

    Raises:
        UnknownNameError: If there is no such task.
        MissingAssetsError: If its assets are not on this machine. The message names the download command.
    """
    from mani_skill.utils.assets.data import is_data_source_downloaded
    from mani_skill.utils.registration import REGISTERED_ENVS

    known = known_tasks()
    if task not in known:
        raise UnknownNameError("task", task, known)
    asset_ids: Any = REGISTERED_ENVS[task].asset_download_ids
    if not all(is_data_source_downloaded(name) for name in asset_ids or []):
        raise MissingAssetsError(
            f"task '{task}' needs assets that are not on this machine: run "
            f"`python -m mani_skill.utils.download_asset {task}`, then try again"
        )


def read_instruction(task_class: type[Any]) -> str:
    """Return the instruction of a task, from the first paragraph of its class's documentation."""
    text = inspect.getdoc(task_class) or task_class.__name__
    text = re.sub(r"\*\*Task Description:?\*\*:?", "", text).strip()
    paragraph = " ".join(re.split(r"\n\s*\n|\*\*", text)[0].split())
    match = re.search(r"\b(?:is to|must)\s+(.+)", paragraph)
    sentence = (match.group(1) if match else paragraph).lstrip("- ").split(". ")[0].rstrip(". ")
    return sentence[0].upper() + sentence[1:]
