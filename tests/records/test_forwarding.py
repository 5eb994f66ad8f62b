"""Files of a job are read and written where they are, and no others through that process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from failsafe.datasets.files import check_inside, remove, write_atomically
from failsafe.errors import StoreError, UserError
from failsafe.records.files import exists, read_bytes
from failsafe.records.forwarding import answer, forward

calls: list[str] = []


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The folder of a job that this process, a worker, knows as `job`, where the driver has it."""
    job, home = Path("job"), tmp_path / "home"

    def call(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        calls.append(name.rpartition(".")[2])
        there = tuple(home / a.relative_to(job) if isinstance(a, Path) else a for a in arguments)
        forward((), None)
        try:
            return answer([home], name, there, options)
        finally:
            forward([job], call)

    calls.clear()
    forward([job], call)
    yield home
    forward((), None)


def test_files_of_the_job_are_elsewhere(home: Path, tmp_path: Path) -> None:
    file = Path("job/cases/one.npz")
    assert not exists(file)
    write_atomically(file, b"content", Path("job"))
    check_inside(Path("job"), file)
    assert exists(file)
    assert read_bytes(file) == b"content"
    assert calls == ["exists", "write_atomically", "check_inside", "exists", "read_bytes"]
    forward((), None)
    assert (home / "cases" / "one.npz").read_bytes() == b"content"
    assert not Path("job").exists()
    write_atomically(tmp_path / "own", b"of this machine")
    assert len(calls) == 5


def test_errors_come_back(home: Path) -> None:
    with pytest.raises(UserError, match="there is no case"):
        read_bytes(Path("job/none"), "there is no case")
    remove(Path("job/none"))


@pytest.mark.parametrize("path", ["elsewhere/file", "job/../file", "job/a/../../file"])
def test_other_files_are_refused(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="expected a file in a folder of the job from a worker"):
        answer([Path("job")], "failsafe.datasets.files.write_atomically", (Path(path), b""), {})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="expected a file in a folder of the job from a worker"):
        answer([Path("job")], "os.remove", (Path("job/file"),), {})


def test_a_folder_may_lie_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    name = "failsafe.datasets.files.write_atomically"
    answer([Path("../job")], name, (Path("../job/file"), b"content"), {})
    assert (tmp_path / "job" / "file").read_bytes() == b"content"
