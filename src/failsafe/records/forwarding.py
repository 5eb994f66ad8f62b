"""Files of a job, in a worker that may have no access to them.

A worker may run on another machine than the process that started it, without a common file system. Functions
of a path that are marked with `forwarded` act on the file system of their machine. In a worker that has
called `forward`, they run in the process that started the worker if the path is in a folder of the job.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from failsafe.errors import StoreError

P = ParamSpec("P")
R = TypeVar("R")
Caller = Callable[[str, tuple[Any, ...], dict[str, Any]], Any]
"""Runs a forwarded function by its name, with its arguments, and returns or raises what it does."""

_functions: dict[str, Callable[..., Any]] = {}
_folders: tuple[Path, ...] = ()
_caller: Caller | None = None


def forwarded(function: Callable[Concatenate[Path, P], R]) -> Callable[Concatenate[Path, P], R]:
    """Let a function of a path, and of further arguments, run where the folders of the job are."""
    name = f"{function.__module__}.{function.__qualname__}"

    @functools.wraps(function)
    def run(path: Path, *arguments: P.args, **options: P.kwargs) -> R:
        if _caller is not None and is_inside(path, _folders):
            return _caller(name, (path, *arguments), options)
        return function(path, *arguments, **options)

    _functions[name] = function
    return run


def forward(folders: Sequence[Path], caller: Caller | None) -> None:
    """Forward the calls of this process that concern some folders.

    Args:
        folders: The folders, as the process that started this one names them.
        caller: Runs a function there; None to forward nothing.
    """
    global _folders, _caller
    _folders, _caller = tuple(folders), caller


def answer(folders: Sequence[Path], name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Run a function that a worker forwarded, and return its result.

    Args:
        folders: The folders of the worker's job.
        name: Name of the function.
        arguments: Its arguments, the path first.
        options: Its keyword arguments.

    Raises:
        StoreError: If there is no such function, or the path is outside the folders.
    """
    path = arguments[0]
    if name not in _functions or not is_inside(path, folders):
        raise StoreError(f"expected a file in a folder of the job from a worker, got {name}({path})")
    return _functions[name](*arguments, **options)


def is_inside(path: Path, folders: Sequence[Path]) -> bool:
    """Return whether a path is one of some folders or in one, judged by its name alone.

    Args:
        path: The path.
        folders: The folders.
    """
    return any(
        path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts for folder in folders
    )
