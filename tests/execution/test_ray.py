"""Ray runs every job, gives the bytes of a local run, and survives the death of workers.

One Ray of two workers serves all tests of this module. Its first test is the one that `make test` runs.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.datasets.test_build import content, small
from tests.execution.jobs import Marks
from tests.execution.ray_processes import processes_of, wait_for_end

import failsafe as fs
from failsafe.datasets.build import build_dataset
from failsafe.datasets.render import RenderOptions, render_dataset
from failsafe.datasets.store import Dataset
from failsafe.errors import FailSafeError
from failsafe.execution.contract import Executor
from failsafe.execution.ray_cluster import disconnect
from failsafe.execution.ray_executor import RayExecutor
from failsafe.execution.serial import SerialExecutor
from failsafe.records.assessment import WindowSpec
from failsafe.samples.demonstrate import build_demonstrations
from failsafe.samples.demonstrations import DemonstrationConfig
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.render import build_samples

# Not by importing it: Ray reads the environment then.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra [ray]")
POLICY = "tests.evaluation.toy_study:Replayer"
MODEL = "tests.evaluation.toy_study:TinyMonitor"


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """A Ray whose workers run in a folder of their own, where relative paths of the tests lead nowhere."""
    with pytest.MonkeyPatch.context() as patch:
        start = tmp_path_factory.mktemp("start")
        patch.chdir(start)
        executor = RayExecutor(2)
        executor.run(Marks(start), ["first"])
        assert Marks(start).marks("done") == ["first"]
        yield executor
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray does not wait for the processes that it ends
            disconnect()
            gc.collect()


@pytest.fixture
def elsewhere(ray: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    """The same, in a test that has no file system in common with the workers as far as paths are relative."""
    start = Path.cwd()
    monkeypatch.chdir(tmp_path)
    yield ray
    assert not [p.name for p in start.iterdir() if p.is_dir()], "no worker wrote a file itself"


def build(out: Path, executor: Executor) -> None:
    build_dataset(small(4), out, executor=executor)


def test_generation_gives_the_same_bytes_without_a_common_file_system(elsewhere: Executor) -> None:
    build(Path("ray"), elsewhere)
    build(Path("serial"), SerialExecutor())
    assert content(Path("ray")) == content(Path("serial"))
    listening = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=False).stdout
    mine = {f"pid={number}," for number in [os.getpid(), *processes_of(os.getpid())]}
    addresses = [line.split()[3] for line in listening.splitlines() if any(pid in line for pid in mine)]
    assert all("127.0.0.1" in address for address in addresses), addresses


def demonstrate(out: Path, executor: Executor) -> None:
    config = DemonstrationConfig(("ToyPick-v0",), 3, first_seed=50, views=("front",), size=16, stride=20)
    build_demonstrations(config, out / "demonstrations", executor)


def render(out: Path, executor: Executor) -> None:
    """Render with one size, then with another: the second run replaces frames, and deletes some."""
    dataset = Dataset(out / "data")
    build(dataset.path, SerialExecutor())
    cases = list(dataset.cases())
    assert render_dataset(dataset, cases, RenderOptions("front,side", 16, 20, False), executor).images
    assert render_dataset(dataset, cases, RenderOptions("front", 24, 20, False), executor).images
    assert not render_dataset(dataset, cases, RenderOptions("front", 24, 20, False), executor).images


def sample(out: Path, executor: Executor) -> None:
    config = SampleConfig(WindowSpec(views=("front",), history=4, frames=1, size=16), only_split="test")
    assert build_samples([Path("data")], out / "samples", config, executor)


def explore(out: Path, executor: Executor) -> None:
    config = SampleConfig(
        WindowSpec(views=("front",), history=4, frames=1, size=16),
        splits=("train",),
        only_split="train",
        explore=2,
    )
    build(out / "data", SerialExecutor())
    assert build_samples([out / "data"], out / "explored", config, executor)


def evaluate(out: Path, executor: Executor) -> None:
    results = fs.evaluate(
        POLICY,
        MODEL,
        out=out / "results",
        tasks="tests.evaluation.toy_study:pick",
        seeds=range(5000, 5003),
        threshold=0.5,
        max_steps=60,
        executor=executor,
    )
    for episode in results.episodes():  # the times differ between any two runs
        results.write(dataclasses.replace(episode, policy_seconds=0.0, monitor_seconds=0.0, events=()))


def mine(out: Path, executor: Executor) -> None:
    fs.mine(
        "tests.mining.scripted:Still",
        tasks="ToyPick-v0",
        episodes=2,
        max_steps=60,
        labels=1,
        out=out / "mined",
        executor=executor,
    )


@pytest.mark.ray
@pytest.mark.parametrize("make", [demonstrate, render, sample, explore, evaluate, mine])
def test_every_job_gives_the_same_bytes_without_a_common_file_system(
    make: Callable[[Path, Executor], None], elsewhere: Executor
) -> None:
    build(Path("data"), SerialExecutor())
    make(Path("ray"), elsewhere)
    make(Path("serial"), SerialExecutor())
    found, expected = content(Path("ray")), content(Path("serial"))
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


@pytest.mark.ray
def test_a_worker_that_dies_costs_its_part_only(ray: Executor, tmp_path: Path) -> None:
    job, done, messages = Marks(tmp_path), list[str](), list[str]()
    items = ["first", "dies", "dies once", "in parts", "last"]
    ray.run(job, items, done.append, messages.append)
    assert sorted(done) == sorted(items), "each is reported once"
    assert job.marks("done") == ["dies once", "first", "last", "one", "three", "two"]
    assert job.marks("given-up") == ["dies", "in parts-two"]
    assert messages == ["one is done", "two is done", "three is done"]
    assert job.marks("try1") == ["dies", "dies once"], "tried twice each"
    assert job.marks("try2") == [], "and not a third time"


@pytest.mark.ray
def test_workers_that_die_before_they_begin_stop_the_work(ray: Executor, tmp_path: Path) -> None:
    (tmp_path / "stillborn").touch()
    with pytest.raises(FailSafeError, match="2 workers died before they had started"):
        ray.run(Marks(tmp_path), ["first", "last"])
    assert Marks(tmp_path).marks("given-up") == [], "no item is blamed"


@pytest.mark.ray
def test_killed_workers_change_no_byte(elsewhere: Executor) -> None:
    build(Path("serial"), SerialExecutor())
    killed: list[int] = []

    def kill(_: object) -> None:
        if len(killed) < 3 and (workers := processes_of(os.getpid(), "ray::Worker.run")):
            os.kill(workers[-1], signal.SIGKILL)
            killed.append(workers[-1])

    build_dataset(small(4), Path("ray"), kill, elsewhere)
    assert len(killed) == 3
    assert content(Path("ray")) == content(Path("serial"))


@pytest.mark.ray
def test_what_was_done_is_not_done_again(elsewhere: Executor) -> None:
    build(Path("data"), SerialExecutor())
    (first, *_) = Dataset(Path("data")).case_files()
    before = content(Path("data"))
    first.unlink()
    progress: list[Any] = []
    build_dataset(small(4), Path("data"), progress.append, elsewhere)
    assert content(Path("data")) == before
    assert sum(not p.resumed for p in progress if not p.category.startswith("nominal")) == 1


def interruptible() -> None:
    """Let Ctrl-C interrupt a process, whatever started the tests: a background job ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.ray
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_no_process_outlives_a_command_that_is_interrupted(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    command = [
        sys.executable,
        "-m",
        "failsafe",
        "generate",
        "ToyPick-v0",
        "--failures",
        "400",
        "--workers",
        "1",
    ]
    command += ["--executor", "ray", "--out", str(tmp_path / "data")]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, preexec_fn=interruptible)
    assert process.stderr is not None
    try:
        while not list(tmp_path.rglob("cases/*/*.npz")):
            assert process.poll() is None, process.stderr.read()
            signal.sigtimedwait([], 0.2)
        others = processes_of(process.pid)
        assert any(others)
        process.send_signal(number)
        ended = process.wait(30)
        said = process.stderr.read().decode()
    finally:
        process.kill()
        process.stderr.close()
    assert (ended, "Traceback" in said, "***" in said) == (status, False, False), said
    assert wait_for_end(others, 30) == []
    dataset = Dataset(tmp_path / "data")
    assert all(dataset.rollouts(case) for case in dataset.cases()), "what was written is whole"
