"""ManiSkill's tasks: names, environments, assets."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Generator
from typing import Any

from failsafe.errors import (
    FailSafeError,
    MissingAssetsError,
    MissingRendererError,
    UnknownNameError,
    UserError,
    cause_of,
)
from failsafe.simulators.maniskill.robots import CONTROL_MODE, check_robot, unsupported_robot

_NO_RENDERER = "failed to find a rendering device"
"""SAPIEN's message where there is no Vulkan device."""


def make_env(task: str, render_backend: str = "none", **settings: Any) -> Any:
    """Make the unwrapped ManiSkill environment of a task, on the CPU, with joint position control.

    Args:
        task: Name of the environment.
        render_backend: "none", "cpu" or "cuda".
        **settings: Further arguments of the environment.

    Raises:
        UnknownNameError: If there is no such task.
        MissingAssetsError: If assets of the task or its robot are not on this machine.
        MissingRendererError: If this machine has no Vulkan device.
        UserError: If the adapter does not support the robot of the task, the task cannot be built, without a
            renderer for example, or its `evaluate` returns no dictionary.
    """
    import gymnasium
    from mani_skill import logger

    # ManiSkill logs hints about default poses for every environment. They do not concern users.
    logger.setLevel(logging.ERROR)
    check_known(task)
    with _building(task, render_backend), _without_questions(task):
        try:
            env: Any = gymnasium.make(
                task,
                obs_mode="none",
                control_mode=CONTROL_MODE,
                render_backend=render_backend,
                sim_backend="physx_cpu",
                **settings,
            ).unwrapped
        except AssertionError as error:
            if f"{CONTROL_MODE} not in supported modes" not in str(error):
                raise
            modes = str(error).partition("modes: ")[2]
            problem = f"a robot without the control mode {CONTROL_MODE} (it has {modes})"
            raise unsupported_robot(task, problem) from error
        except TypeError as error:
            if not _is_of_evaluate(error):
                raise
            raise UserError(
                f"task '{task}': expected evaluate() to return a dictionary with 'success', one boolean, got "
                "nothing, or something else: return whether the task is solved as 'success'"
            ) from error
        except RuntimeError as error:
            if _NO_RENDERER not in str(error):
                raise
            raise MissingRendererError(
                f"expected a Vulkan device (ManiSkill needs one to build '{task}', even without images), "
                f"got none ({error}): run `failsafe doctor` for the command that installs a software renderer"
            ) from error
    check_robot(task, env.agent)
    return env


@contextlib.contextmanager
def _building(task: str, render_backend: str) -> Generator[None, None, None]:
    """Raise whatever the task's own code raises while it is built as one sentence."""
    try:
        yield
    except FailSafeError:
        raise
    except Exception as error:
        without = ", which FailSafe builds without a renderer" if render_backend == "none" else ""
        raise UserError(
            f"task '{task}': expected a scene{without}, got {cause_of(error)}: choose another task, or mend "
            "its code"
        ) from error


def _is_of_evaluate(error: TypeError) -> bool:
    """Whether ManiSkill's `get_info` raised an error itself, which takes a dictionary from `evaluate`."""
    raised = error.__context__ or error  # Gymnasium raises another one with more words
    frame = raised.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_code.co_name == "get_info"


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

    Raises:
        UnknownNameError: If there is no such task.
        MissingAssetsError: If its assets are not on this machine. The message names the download command.
    """
    from mani_skill.utils.assets.data import (
        DATA_SOURCES,
        expand_data_group_into_individual_data_source_ids,
        is_data_source_downloaded,
    )
    from mani_skill.utils.registration import REGISTERED_ENVS

    known = known_tasks()
    if task not in known:
        raise UnknownNameError("task", task, known)
    for asset in REGISTERED_ENVS[task].asset_download_ids or []:
        # An asset may be a group of others.
        sources: Any = (
            [asset] if asset in DATA_SOURCES else expand_data_group_into_individual_data_source_ids(asset)
        )
        if not all(is_data_source_downloaded(source) for source in sources):
            raise _missing_assets(f"task '{task}'", task)


def _missing_assets(owner: str, uid: str) -> MissingAssetsError:
    return MissingAssetsError(
        f"{owner} needs assets that are not on this machine: run "
        f"`python -m mani_skill.utils.download_asset {uid}`, then try again"
    )


@contextlib.contextmanager
def _without_questions(task: str) -> Generator[None, None, None]:
    """Raise an error where ManiSkill would ask on standard input whether to download assets, or exit.

    Its messages on standard output, which belongs to the command, become part of the error.
    """
    from mani_skill.utils import download_asset
    from mani_skill.utils.assets.data import DATA_GROUPS

    printed = io.StringIO()

    def refuse(message: str) -> bool:
        words = message.split()  # "Robot NAME has assets available for download. ...", or a list of assets
        robot = words[1] if words[:1] == ["Robot"] else ""
        if robot and not DATA_GROUPS.get(robot):
            raise _missing_files(task, printed.getvalue())
        raise _missing_assets(f"the robot '{robot}'" if robot else f"task '{task}'", robot or task)

    asked, download_asset.prompt_yes_no = download_asset.prompt_yes_no, refuse
    try:
        with contextlib.redirect_stdout(printed):
            yield
    except (SystemExit, KeyError) as error:
        # ManiSkill prints where it expects the robot, then exits, or fails to find the name of its assets.
        if "definition file not found" not in printed.getvalue():
            raise
        raise _missing_files(task, printed.getvalue()) from error
    finally:
        download_asset.prompt_yes_no = asked


def _missing_files(task: str, printed: str) -> MissingAssetsError:
    said = " ".join(printed.partition("Exiting")[0].split())
    return MissingAssetsError(
        f"task '{task}' needs files that are not on this machine: {said}; ManiSkill has no download for "
        "them, so check urdf_path or mjcf_path of the robot's class"
    )
