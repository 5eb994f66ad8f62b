"""Whole runs on the toy: the same bytes however they were made, and nothing lost whatever happens."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from failsafe.datasets.build import build_dataset, merge_datasets
from failsafe.datasets.manifest import read_manifest
from failsafe.datasets.store import Dataset
from failsafe.errors import PlanError, StoreError, UserError
from failsafe.execution.processes import ProcessExecutor
from failsafe.execution.serial import SerialExecutor
from failsafe.experts.contract import Expert
from failsafe.experts.tasks import load_task
from failsafe.generation.config import GenerationConfig, default_modes
from failsafe.generation.partition import Progress
from failsafe.records.branches import count_branches
from failsafe.records.case import Outcome
from failsafe.rollouts.runner import RolloutRunner

MODES = ("translation_x", "no_op", "object_dropped", "early_release")


def small(failures: int = 8, **settings: object) -> GenerationConfig:
    fields = {"tasks": ("ToyPick-v0",), "failures": failures, "modes": default_modes(MODES)}
    return GenerationConfig(**(fields | {"labels": 2, "verify_rollouts": 2} | settings))  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset but the manifest and the lock, without the lines that name the commit."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name not in ("manifest.json", ".lock"))
    return {
        str(p.relative_to(folder)): re.sub(rb"Commit `.*", b"", p.read_bytes())
        if p.suffix == ".md"
        else p.read_bytes()
        for p in files
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "data"
    build_dataset(small(), folder)
    return folder


def test_a_run_gives_what_was_asked_for(whole: Path) -> None:
    dataset = Dataset(whole)
    cases = list(dataset.cases())
    assert sum(case.verified for case in cases) == 8
    for case in cases:
        nominal, _ = dataset.nominal(case.task, case.seed)
        assert nominal.success, "a failure is one only where its twin succeeds"
        for label in case.labels:
            assert label.correction is None or label.verification.proven
            assert label.correction is None or label.recovery in dataset.traces(case.task, case.case_id)
    rows = pq.read_table(whole / "tables" / "cases.parquet").to_pylist()
    assert [row["case_id"] for row in rows] == [case.case_id for case in cases]
    assert "failsafe generate ToyPick-v0 --failures 8" in (whole / "README.md").read_text()


class PlansFromHome:
    """The expert of a task, which has a plan only from above: corrections on the nominal path are needed."""

    def __init__(self, expert: Expert) -> None:
        self._expert = expert

    def solve(self, runner: RolloutRunner) -> None:
        if runner.observation.tcp_pose[2] < 0.15:
            raise PlanError("expected the tool above")
        self._expert.solve(runner)


def test_a_run_for_needed_corrections_goes_on_until_it_has_them(tmp_path: Path) -> None:
    config = small(3, needed=True, compound=0.0, verify_rollouts=1)
    plain = load_task("ToyPick-v0")
    tasks = {"ToyPick-v0": dataclasses.replace(plain, expert=PlansFromHome(plain.expert))}
    done: list[Progress] = []
    build_dataset(config, tmp_path / "data", done.append, SerialExecutor(), tasks=tasks)
    cases = list(Dataset(tmp_path / "data").cases())
    assert sum(case.needed for case in cases) == sum(p.needed for p in done) == 3
    assert sum(case.verified for case in cases) > 3
    for i in range(3):
        build_dataset(config, tmp_path / f"{i}", executor=SerialExecutor(), shard=(i, 3), tasks=tasks)
    merge_datasets(tmp_path / "merged", [tmp_path / f"{i}" for i in range(3)])
    assert content(tmp_path / "merged") == content(tmp_path / "data")
    worth = count_branches(label for case in cases for label in case.labels)
    card = (tmp_path / "data" / "README.md").read_text()
    assert f"- at {worth.needed} neither is enough: these corrections are **needed**." in card
    rows = pq.read_table(tmp_path / "data" / "tables" / "labels.parquet").to_pylist()
    assert sum(row["needed"] for row in rows) == worth.needed >= 3
    assert all(
        row["cause_ended_succeeds"] is row["replanned_succeeds"] is False for row in rows if row["needed"]
    )


def test_workers_do_not_change_the_bytes(whole: Path, tmp_path: Path) -> None:
    build_dataset(small(), tmp_path / "data", executor=ProcessExecutor(3))
    assert content(tmp_path / "data") == content(whole)


def test_shards_merge_to_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    parts = [tmp_path / f"part{i}" for i in range(3)]
    for i, part in enumerate(parts):
        build_dataset(small(), part, shard=(i, 3))
    merge_datasets(tmp_path / "data", parts)
    assert content(tmp_path / "data") == content(whole)


def test_partitions_are_what_a_dataset_is(whole: Path, tmp_path: Path) -> None:
    config = small(partitions=2)
    build_dataset(config, tmp_path / "data", executor=SerialExecutor())
    manifest = read_manifest(tmp_path / "data")
    assert manifest.config.partitions == 2
    assert manifest.command.endswith("--partitions 2")
    assert "--partitions" not in read_manifest(whole).command
    assert {case.partition for case in Dataset(tmp_path / "data").cases()} == {0, 1}
    with pytest.raises(UserError, match=r"other settings \(partitions\)"):
        build_dataset(small(), tmp_path / "data")


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    build_dataset(small(2), tmp_path / "part", shard=(1, 2))
    with pytest.raises(UserError, match="these shards are missing: 0/2"):
        merge_datasets(tmp_path / "data", [tmp_path / "part"])


def test_other_settings_are_refused_and_nothing_is_touched(whole: Path) -> None:
    before = content(whole)
    with pytest.raises(UserError, match=r"other settings \(failures\)"):
        build_dataset(small(9), whole)
    assert content(whole) == before


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"with thesis\.tex; choose another"):
        build_dataset(small(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_foreign_files_among_the_cases_are_named(whole: Path) -> None:
    foreign = whole / "cases" / "notes.txt"
    foreign.write_text("mine")
    try:
        with pytest.raises(StoreError, match=r"no part of a dataset: cases/notes\.txt"):
            build_dataset(small(), whole)
        assert foreign.read_text() == "mine"
    finally:
        foreign.unlink()


@pytest.mark.parametrize(
    ("code", "sentence"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "got a read-only one")]
)
def test_a_disk_that_cannot_be_written_ends_in_one_sentence(
    code: int, sentence: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0
    fsync = os.fsync

    def full(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes > 6:
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=sentence):
            build_dataset(small(), tmp_path / "data", executor=SerialExecutor())
    build_dataset(small(), tmp_path / "data", executor=SerialExecutor())
    assert content(tmp_path / "data") == content(whole)


@pytest.mark.parametrize(("wanted", "failures"), [(3, 12), pytest.param(20, 24, marks=pytest.mark.long)])
def test_killed_at_any_moment_nothing_is_lost_doubled_or_changed(
    wanted: int, failures: int, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "failsafe",
        "generate",
        "ToyPick-v0",
        "--failures",
        str(failures),
        "--labels",
        "1",
    ]
    command += ["--verify-rollouts", "1", "--modes", ",".join(MODES), "--workers", "2", "--json", "--out"]
    reference = tmp_path / "reference"
    begun = time.monotonic()
    subprocess.run([*command, str(reference)], check=True, stdout=subprocess.DEVNULL)
    duration = time.monotonic() - begun
    rng = np.random.default_rng(7)
    folders: list[Path] = []
    kills = 0
    while kills < wanted:
        folder = tmp_path / f"killed{len(folders)}"
        folders.append(folder)
        assert len(folders) < 12, "the runs ended before they were killed"
        # Later and later, so that the run gets on, and is killed from its first moments to its last.
        for part in np.linspace(0.1, 0.6, min(5, wanted)):
            process = subprocess.Popen(
                [*command, str(folder)], stdout=subprocess.DEVNULL, start_new_session=True
            )
            try:
                process.wait(timeout=float(part + rng.uniform(0.0, 0.1)) * duration)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
        subprocess.run([*command, str(folder)], check=True, stdout=subprocess.DEVNULL)
    for folder in folders:
        assert content(folder) == content(reference)


def test_a_worker_that_dies_costs_one_item(tmp_path: Path) -> None:
    config = small(
        6, tasks=("tests.datasets.crashing:make",), modes=default_modes(("no_op", "early_release"))
    )
    build_dataset(config, tmp_path / "data", executor=ProcessExecutor(2))
    cases = list(Dataset(tmp_path / "data").cases())
    crashed = [case for case in cases if case.outcome is Outcome.CRASHED]
    assert crashed
    assert all("died twice" in case.reason for case in crashed)
    assert sum(case.verified for case in cases) >= 4, "the lanes went on"
