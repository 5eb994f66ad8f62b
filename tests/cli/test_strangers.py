"""Datasets of strangers: they run no code, and nothing outside their folder is read, written or deleted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Verb

from failsafe.datasets.store import Dataset
from failsafe.records.names import folder_name
from failsafe.records.trace import pack, unpack

VERBS = ("coverage", "gallery", "render")


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def craft(path: Path, change: Callable[[dict[str, Any]], object], to: Path | None = None) -> Path:
    """Change the record of a file, and move the file."""
    arrays = unpack(path.read_bytes(), str(path))
    record = json.loads(arrays["record"].tobytes())
    change(record)
    text = json.dumps(record).encode()
    data = pack({**arrays, "record": np.frombuffer(text, dtype=np.uint8)})
    path.unlink()
    to = to or path
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(data)
    return to


EVIL = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nmake = None\n"


@pytest.mark.parametrize("name", ["evil:make", "os:abort"])
@pytest.mark.parametrize(
    "verb",
    [
        ("replay", "CASE"),
        ("render",),
        ("samples", "--out", "samples"),
        ("samples", "--out", "s", "--no-images"),
    ],
)
def test_the_task_of_a_record_is_not_imported(verb: tuple[str, ...], name: str, data: Path) -> None:
    old = Dataset(data).case_files()[0].parent.name
    for part in ("cases", "nominal"):
        for path in sorted((data / part).glob("*/*.npz")):
            craft(path, lambda r: r.update(task=name), data / part / folder_name(name) / path.name)
        shutil.rmtree(data / part / old)
    (data / "evil.py").write_text(EVIL, encoding="utf-8")
    case = Dataset(data).case_files()[0].stem
    first, *rest = (case if word == "CASE" else word for word in verb)
    workers = () if first == "replay" else ("--workers", "1")
    done = subprocess.run(
        [sys.executable, "-m", "failsafe", first, ".", *rest, *workers],
        cwd=data, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert not (data / "ran").exists()
    assert done.returncode == 2, done.stderr
    assert f"--trust {name}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", [("coverage", "."), ("generate", "--manifest", "manifest.json", "--out", "new")]
)
def test_the_tasks_and_modes_of_a_manifest_are_not_imported(words: tuple[str, ...], data: Path) -> None:
    manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
    manifest["config"]["modes"]["evil:make"] = {"weight": 1.0}
    (data / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (data / "evil.py").write_text(EVIL, encoding="utf-8")
    command = [sys.executable, "-m", "failsafe", *words]
    done = subprocess.run(command, cwd=data, capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, "--trust evil:make" in done.stderr) == (2, True), done.stderr
    assert not (data / "ran").exists()
    subprocess.run([*command, "--trust", "evil:make"], cwd=data, capture_output=True)
    assert (data / "ran").exists(), "it is imported once it is trusted"


def test_no_library_is_looked_for_in_the_working_directory(data: Path) -> None:
    for name in ("yaml", "rich", "numpy", "evil"):
        (data / f"{name}.py").write_text(EVIL, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "failsafe", "coverage", "."], cwd=data, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not (data / "ran").exists()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("case_id", ["../../../outside/x", "/tmp/outside/x", "a\\b", "x" * 300])
def test_an_id_that_is_a_path_is_refused_and_skipped_on_request(
    verb: str, case_id: str, data: Path, run: Verb, tmp_path: Path
) -> None:
    craft(Dataset(data).case_files()[0], lambda r: r.update(case_id=case_id))
    status, _, err = run(verb, str(data))
    assert status == 2
    assert "expected an id of a case of at most 180 letters" in err
    if verb != "render":
        assert run(verb, str(data), "--skip-damaged")[0] == 0
    assert not (tmp_path / "outside").exists()


def test_a_record_in_the_file_of_another_is_refused(data: Path, run: Verb) -> None:
    first, second, *_ = Dataset(data).case_files()
    shutil.copy(first, second)
    status, _, err = run("coverage", str(data))
    assert (status, "got one that belongs to" in err) == (2, True)


def test_links_out_of_the_dataset_are_not_followed(data: Path, run: Verb, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "failing").mkdir(parents=True)
    files = {
        outside / "failing" / "old.webp": b"kept",
        outside / "index.html": b"kept",
        outside / "secret": b"x",
    }
    for path, content in files.items():
        path.write_bytes(content)
    case = next(c for c in Dataset(data).cases() if c.verified)
    shutil.rmtree(data / "frames", ignore_errors=True)  # other tests may have rendered the dataset
    frames = data / "frames" / case.task / case.case_id
    frames.parent.mkdir(parents=True)
    frames.symlink_to(outside)
    view = ("--size", "16", "--cameras", "front", "--workers", "1")
    status, _, err = run("render", str(data), *view)
    assert (status, "links out of a dataset are not followed" in err) == (2, True), err
    frames.unlink()
    assert run("render", str(data), *view)[0] == 0
    (data / "gallery").symlink_to(outside)
    assert run("gallery", str(data))[0] == 2
    (data / "gallery").unlink()
    (frames / "failing" / "front.webp").unlink()
    (frames / "failing" / "front.webp").symlink_to(outside / "secret")
    assert run("gallery", str(data), "--out", str(tmp_path / "page"))[0] == 2
    (data / "tables").rename(tmp_path / "tables")
    (data / "tables").symlink_to(outside)
    manifest = ("generate", "--manifest", str(data / "manifest.json"), "--out", str(data), "--workers", "1")
    assert run(*manifest)[0] == 2
    path = Dataset(data).case_files()[0]
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)
    assert run("coverage", str(data))[0] == 2
    assert {path: path.read_bytes() for path in files} == files
    assert len(list(outside.rglob("*"))) == len(files) + 2, "nothing was written"
