"""A process that is killed while it writes: the same call again gives the bytes of an undisturbed run."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from failsafe.datasets.build import build_dataset
from failsafe.datasets.store import Dataset
from failsafe.execution.serial import SerialExecutor
from failsafe.generation.config import GenerationConfig, default_modes
from failsafe.records.assessment import WindowSpec
from failsafe.reports.gallery import write_gallery
from failsafe.samples.demonstrate import build_demonstrations
from failsafe.samples.demonstrations import DemonstrationConfig
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.render import build_samples

TASK = "ToyPick-v0"
Verb = Callable[[Path], object]


def generate(folder: Path) -> object:
    config = GenerationConfig(
        (TASK,), 2, modes=default_modes(("object_dropped",)), labels=1, verify_rollouts=1, partitions=1
    )
    return build_dataset(config, folder / "data", executor=SerialExecutor())


def sample(folder: Path) -> object:
    config = SampleConfig(WindowSpec(("front",), history=4, frames=1, size=16), failing_share=0.0)
    return build_samples([folder.parent / "made" / "data"], folder / "samples", config, SerialExecutor())


def demonstrate(folder: Path) -> object:
    config = DemonstrationConfig((TASK,), 2, views=("front",), size=16, stride=12)
    return build_demonstrations(config, folder / "demonstrations", SerialExecutor())


def gallery(folder: Path) -> object:
    return write_gallery(Dataset(folder.parent / "made" / "data"), folder / "gallery")


def killed(verb: Verb, folder: Path, writes: int) -> None:
    """Run a verb in a process that dies between writing a file and giving it its name."""
    left, replace = writes, Path.replace

    def die(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    Path.replace = die  # pyright: ignore[reportAttributeAccessIssue] -- of this process, which dies
    verb(folder)


def content(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kills")


@pytest.mark.parametrize(
    ("verb", "moments"),
    [(generate, (1, 4, 7)), (sample, (1, 2, 4)), (demonstrate, (2, 4)), (gallery, (1, 8))],
)
def test_a_killed_run_is_completed_by_the_same_call(
    verb: Verb, moments: tuple[int, ...], folder: Path
) -> None:
    verb(folder / "made")
    for writes in moments:
        child = multiprocessing.get_context("fork").Process(
            target=killed, args=(verb, folder / f"{verb.__name__}-{writes}", writes)
        )
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "it is killed before it is done"
        assert list((folder / f"{verb.__name__}-{writes}").rglob(".*.partial"))
        verb(folder / f"{verb.__name__}-{writes}")
        name = {generate: "data", sample: "samples", demonstrate: "demonstrations"}.get(verb, "gallery")
        got = content(folder / f"{verb.__name__}-{writes}" / name)
        assert got == content(folder / "made" / name)
