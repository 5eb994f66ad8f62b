"""Fingerprints of source code, so that records of one version of a user's code are not mixed with another's.

The *sources* of a class or function are the file of the module that defines it and the files of the modules
that this one imports, directly or by way of others, as far as they are the user's own. The user's own modules
are those outside Python, FailSafe and installed packages (folders named site-packages or dist-packages), and
those of the package that holds the class itself, which may be an installed plugin.

Imports are read from the text, so nothing is imported or run. Two things are not seen: modules whose names
are computed, and data files. FailSafe's own code counts by its version, see `own_version`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

OWN = "failsafe"
"""Name of FailSafe's own version among the parts of the code of a record."""
_HOME = Path(__file__).resolve().parent
_INSTALLED = {"site-packages", "dist-packages"}
_PYTHON = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]


def own_version() -> str:
    """Return the version of FailSafe, empty where it is not installed."""
    try:
        return metadata.version("failsafe-vla")
    except metadata.PackageNotFoundError:
        return ""


@cache
def own_sources() -> str:
    """Return the SHA-256 of all of FailSafe's own source files."""
    digest = hashlib.sha256()
    for file in sorted(_HOME.rglob("*.py")):
        digest.update(f"{file.relative_to(_HOME).as_posix()}\n".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def is_own(given: object) -> bool:
    """Return whether the class of an object is FailSafe's own.

    Args:
        given: The object.
    """
    return type(given).__module__.partition(".")[0] == __name__.partition(".")[0]


def changed_code(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return what differs between the code of a record and the code of today, in words.

    Args:
        before: Fingerprint of each part of the code by its name, for example "task my_tasks:pour".
        now: The same of today.
    """
    differing = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return [
        f"the version of FailSafe ({before.get(OWN) or 'not recorded'} then, {now.get(OWN) or 'unknown'} now)"
        if name == OWN
        else f"the code of the {name}"
        for name in differing
    ]


def fingerprint_of(given: object) -> str:
    """Identify the code of an object: its class, and the SHA-256 of the sources of that class.

    Args:
        given: The object.

    Returns:
        "python:MODULE.CLASS SHA-256", without the hash where there is no source file.
    """
    cls = type(given)
    return f"python:{cls.__module__}.{cls.__qualname__} {fingerprint_of_module(cls.__module__)}".strip()


def fingerprint_of_module(module: str) -> str:
    """Return the SHA-256 of the sources of a module; empty if it is FailSafe's, or there is no source file.

    Args:
        module: Dotted name of the module.
    """
    found = sources_of_module(module)
    lines = "".join(
        f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n" for name, file in found.items()
    )
    return hashlib.sha256(lines.encode()).hexdigest() if found else ""


def sources_of_module(module: str) -> dict[str, Path]:
    """Return the source files of a module and of what it imports of the user's own, by the modules' names.

    Args:
        module: Dotted name of the module.
    """
    found: dict[str, Path] = {}
    own = module.partition(".")[0]
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = None if name in found else _file_of(name)
        if file is None or not (_is_users(file) or (name.partition(".")[0] == own and not _is_ours(file))):
            continue
        found[name] = file
        waiting += _imports(file, name)
    return dict(sorted(found.items()))


def _is_ours(file: Path) -> bool:
    return file.is_relative_to(_HOME)


def _is_users(file: Path) -> bool:
    if _INSTALLED & set(file.parts) or _is_ours(file):
        return False
    return not any(file.is_relative_to(folder) for folder in _PYTHON)


def _file_of(name: str) -> Path | None:
    """Return the source file of a module without importing it, None if there is none."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: a script that runs as __main__ has no spec
        spec = None
    origin = spec.origin if spec else getattr(sys.modules.get(top), "__file__", None)
    file, folders = (
        Path(origin or ""),
        [Path(place) for place in (spec and spec.submodule_search_locations) or ()],
    )
    for part in rest:
        inside = [folder / part for folder in folders]
        files = [path for base in inside for path in (base / "__init__.py", base.with_suffix(".py"))]
        file = next((path for path in files if path.is_file()), Path())
        folders = [file.parent] if file.name == "__init__.py" else [] if file.name else inside
    return file.resolve() if file.suffix == ".py" and file.is_file() else None


def _imports(file: Path, module: str) -> Iterator[str]:
    """Yield the names of the modules that a file imports, and of the packages that hold them."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # loading it says what is wrong
        return
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            head = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*filter(None, head), *filter(None, [node.module])])
            names |= {base, *(f"{base}.{alias.name}" if base else alias.name for alias in node.names)}
    for name in [*names, module]:
        parts = name.split(".")
        yield from (".".join(parts[: i + 1]) for i in range(len(parts)))
