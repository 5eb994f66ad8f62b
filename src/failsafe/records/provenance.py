"""The provenance of a dataset: commit, versions, machine."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from failsafe.registry import used_plugins
from failsafe.sources import own_sources

_PACKAGES = ("failsafe-vla", "numpy", "mani_skill", "sapien", "torch", "pyarrow")


@dataclass(frozen=True)
class Provenance:
    """The software and machine that wrote a dataset.

    Attributes:
        commit: Commit of the FailSafe checkout, empty for an installed release.
        dirty: Whether that checkout had uncommitted changes.
        versions: Versions of Python and of the packages that affect results.
        platform: Operating system and processor.
        plugins: Version of each plugin of which an entry took part, by package.
        sources: SHA-256 of FailSafe's own source files, empty in records of earlier versions.
    """

    commit: str
    dirty: bool
    versions: dict[str, str]
    platform: str
    plugins: dict[str, str] = field(default_factory=dict[str, str])
    sources: str = ""


def collect_provenance() -> Provenance:
    """Return the provenance of the running process."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit, dirty = _checkout()
    plugins = {plugin.distribution: plugin.version for plugin in used_plugins()}
    machine = f"{platform.system()}-{platform.machine()}"
    return Provenance(commit, dirty, versions, machine, plugins, own_sources())


def missing_plugins(plugins: Mapping[str, str]) -> list[str]:
    """Return the plugins that are not installed, each as "NAME==VERSION" for pip.

    Args:
        plugins: Version of each plugin by package, as in `Provenance.plugins`.
    """
    missing: list[str] = []
    for name, version in sorted(plugins.items()):
        try:
            importlib.metadata.version(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):  # ValueError: an empty name
            missing.append(f"{name}=={version}")
    return missing


def command_line() -> str:
    """Return the command line of the running process, as a user would type it."""
    import shlex

    name = Path(sys.argv[0]).name
    return shlex.join(["failsafe" if name in ("__main__.py", "failsafe") else name, *sys.argv[1:]])


def _checkout() -> tuple[str, bool]:
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        tracked = _git(folder, "ls-files", "--error-unmatch", __file__)
        dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "", False
    return (commit, dirty) if tracked else ("", False)


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=10,
        check=True,
    )
    return done.stdout.strip()
