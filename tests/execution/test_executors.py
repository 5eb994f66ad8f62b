"""Every executor runs every item once, in this order of callbacks; the results are the same bytes."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.datasets.test_build import content, small
from tests.execution.jobs import Marks

import failsafe
from failsafe.datasets.build import build_dataset
from failsafe.errors import UnknownNameError, UserError
from failsafe.execution.contract import SILENT, Executor, Job, Reporter
from failsafe.execution.loading import EXECUTORS, load_executor
from failsafe.execution.processes import ProcessExecutor
from failsafe.execution.serial import SerialExecutor
from failsafe.execution.threads import single_threaded

EVERY = ["serial", "processes", pytest.param("ray", marks=pytest.mark.ray)]
"""Ray takes seconds to start: see `test_ray`."""


@dataclass(frozen=True)
class Counting:
    """Reports its item twice."""

    folders = ()

    def run(self, item: int, reporter: Reporter = SILENT) -> None:
        reporter.report((item, "first"))
        reporter.report((item, os.environ["OMP_NUM_THREADS"]))

    def give_up(self, item: int, part: str = "") -> bool:
        raise AssertionError(item)


@pytest.mark.parametrize("name", EVERY)
def test_an_executor_runs_each_item_once_and_reports_before_it_is_done(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    executor = load_executor(name)
    assert isinstance(executor, Executor)
    assert isinstance(Counting(), Job)
    taken: list[int] = []
    events: list[object] = []

    def items() -> Iterator[int]:
        for item in range(5):
            taken.append(item)
            yield item

    executor.run(Counting(), items(), lambda item: events.append((item, "done")), events.append)
    assert taken == list(range(5))
    assert len(events) == 15
    for item in range(5):
        own = [what for number, what in events if number == item]  # type: ignore[misc]
        assert own == ["first", "1", "done"], "and every worker has one thread"
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("name", EVERY)
def test_an_error_of_the_job_stops_the_run(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown task 'Pick'"):
        load_executor(name, 1).run(Marks(tmp_path), ["unknown", "last"])
    with pytest.raises((ZeroDivisionError, RuntimeError), match="a bug"):
        load_executor(name, 1).run(Marks(tmp_path), ["bug", "last"])
    assert Marks(tmp_path).marks("done") == []


def test_serial_makes_the_bytes_of_processes(tmp_path: Path) -> None:
    build_dataset(small(4), tmp_path / "serial", executor=SerialExecutor())
    build_dataset(small(4), tmp_path / "processes", executor=ProcessExecutor(2))
    assert content(tmp_path / "serial") == content(tmp_path / "processes")


def test_an_executor_is_found_by_name_or_path_or_is_one() -> None:
    assert set(EXECUTORS) == {"serial", "processes", "ray"}
    chosen = load_executor("processes", 3)
    assert isinstance(chosen, ProcessExecutor)
    assert chosen.workers == 3
    assert load_executor(chosen, 5) is chosen
    assert isinstance(load_executor("failsafe.execution.serial:SerialExecutor"), SerialExecutor)
    with pytest.raises(UnknownNameError, match="unknown executor 'proceses': did you mean 'processes'"):
        load_executor("proceses")
    with pytest.raises(UserError, match=r"expected an object with the method run.*, got list"):
        load_executor("tests.execution.test_executors:nothing")


def nothing(workers: int | None) -> list[int]:
    return []


@pytest.mark.parametrize(
    ("name", "workers", "message"),
    [
        ("processes", 0, "expected at least 1 worker, got 0"),
        ("ray", 0, "expected at least 1 worker, got 0"),
        ("serial", 2, "expected 1 worker for the executor 'serial', got 2: choose 'processes'"),
    ],
)
def test_a_number_of_workers_that_cannot_be(name: str, workers: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_executor(name, workers)


def test_the_number_of_threads_that_the_user_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with single_threaded():
        assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("3", "1")
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


def test_a_torch_that_is_loaded_gets_its_threads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with single_threaded():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


ALLOWED = {
    "execution/processes.py": "the executor",
    "diagnostics/checks.py": "two threads that wait for subprocesses",
}


def test_no_other_module_has_a_pool_of_its_own() -> None:
    root = Path(failsafe.__file__).parent
    found: set[str] = set()
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in ("multiprocessing", "concurrent", "joblib") for name in names):
                found.add(str(file.relative_to(root)))
            if isinstance(node, ast.Attribute) and node.attr in ("fork", "spawnv", "posix_spawn"):
                found.add(str(file.relative_to(root)))
    assert found == set(ALLOWED)
