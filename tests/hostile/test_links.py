"""Folders of others with links that lead out of them: nothing there is read, written or deleted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tests.hostile.targets import SAMPLES, TASK, Target
from tests.reports import evaluation_data

from failsafe.datasets.files import file_name, write_atomically
from failsafe.datasets.locks import locked
from failsafe.errors import FailSafeError, RecordError, StoreError
from failsafe.evaluation.replay_videos import ReplayVideoJob
from failsafe.evaluation.results import Results
from failsafe.records.names import task_folder
from failsafe.samples.demonstrations import DemonstrationSet
from failsafe.samples.manifest import read_sample_manifest
from failsafe.samples.render import SampleGroup, SampleJob
from failsafe.samples.sample import Kind, Sample
from failsafe.samples.sample_set import SampleSet


@pytest.fixture
def made(place: Path, targets: dict[str, Target]) -> Path:
    return place / "inside"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside"


def moved(path: Path, outside: Path) -> Path:
    """Move a file or folder outside, and leave a link to it."""
    target = outside / path.name
    path.rename(target)
    path.symlink_to(target)
    return target


@pytest.mark.parametrize("part", ["manifest.json", TASK, f"{TASK}/00000003-0.npz", f"{TASK}/00000003-0.npy"])
def test_a_sample_set_is_read_from_its_folder_alone(part: str, made: Path, outside: Path) -> None:
    folder = made / "samples"
    target = moved(folder / part, outside)
    try:
        with pytest.raises(StoreError, match="links out of a dataset are not followed"):
            SampleSet(folder).frames(0)
    finally:
        (folder / part).unlink()
        target.rename(folder / part)
    assert SampleSet(folder).frames(0).shape == (2, 2, 16, 16, 3)


def test_demonstrations_are_read_from_their_folder_alone(made: Path, outside: Path) -> None:
    folder = made / "demonstrations"
    target = moved(folder / TASK, outside)
    try:
        with pytest.raises(StoreError, match="links out of a dataset"):
            DemonstrationSet(folder)
    finally:
        (folder / TASK).unlink()
        target.rename(folder / TASK)


def test_results_are_read_and_written_in_their_folder_alone(tmp_path: Path, outside: Path) -> None:
    results = evaluation_data.make_results(tmp_path / "results")
    episode = next(iter(results.episodes()))
    for part in (results.path / "episodes", results.file(episode.key).parent, results.file(episode.key)):
        target = moved(part, outside)
        with pytest.raises(StoreError, match="links out of a dataset"):
            list(results.episodes())
        with pytest.raises(StoreError, match="links out of a dataset"):
            Results(tmp_path / "all").take_in([results.path])
        if part.suffix != ".json":  # a link at the file itself is replaced
            with pytest.raises(StoreError, match="links out of a dataset"):
                results.write(episode)
        part.unlink()
        target.rename(part)
    assert list(outside.iterdir()) == []
    assert list(results.episodes())


def test_videos_are_written_in_their_folder_alone(tmp_path: Path, outside: Path) -> None:
    item = evaluation_data.StudyItem(TASK, "nominal", "weak", 3)
    job = ReplayVideoJob(evaluation_data.CONFIG, tmp_path / "results", tmp_path / "videos")
    (tmp_path / "videos" / TASK).mkdir(parents=True)
    (tmp_path / "videos" / TASK / "nominal").symlink_to(outside)
    with pytest.raises(StoreError, match="links out of a dataset"):
        job.give_up(item)
    assert list(outside.iterdir()) == []


def test_samples_are_written_in_their_folder_alone(made: Path, tmp_path: Path, outside: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / TASK).symlink_to(outside)
    seed = int(next((made / "data" / "nominal" / TASK).glob("*.npz")).stem)
    sample = Sample("a", 0, TASK, seed, "train", "nominal", "", 7, Kind.NOMINAL, "pick", "lift", False)
    job = SampleJob([made / "data"], tmp_path / "new", SAMPLES)
    with pytest.raises(StoreError, match="links out of a dataset"):
        job.run(SampleGroup((sample,)))
    assert list(outside.iterdir()) == []
    assert read_sample_manifest(made / "samples").complete


@pytest.mark.parametrize("task", ["..", ".", "../..", "a\0b", "x" * 300, ".hidden"])
def test_no_name_is_a_way_out_of_a_folder(task: str, tmp_path: Path) -> None:
    inside = tmp_path / "data"
    inside.mkdir()
    for folder in (task_folder(inside, task), inside / file_name(task)):
        assert folder.resolve().parent == inside.resolve()
        write_atomically(folder / "x", b"1", inside)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "device"])
def test_a_lock_that_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(tmp_path / "other")
        case _:
            path.symlink_to("/dev/zero")
    with pytest.raises(StoreError), locked(tmp_path):
        pass
    assert not (tmp_path / "other").exists()


def test_images_that_are_a_pipe_or_lie_about_their_size_are_refused(made: Path) -> None:
    folder = made / "samples"
    path = folder / TASK / "00000003-0.npy"
    data = path.read_bytes()
    try:
        for content in (data[:-100], data.replace(b"(2, 2, 2", b"(9, 2, 2"), np.lib.format.magic(1, 0), b""):
            path.write_bytes(content)
            with pytest.raises(RecordError, match="expected"):
                SampleSet(folder).frames(0)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(FailSafeError, match="a named pipe"):
            SampleSet(folder).frames(0)
        path.unlink()
    finally:
        path.write_bytes(data)
