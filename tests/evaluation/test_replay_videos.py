"""Replay videos: which pairs are chosen, and that the second run repeats the recorded one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.evaluation import toy_study

from failsafe.evaluation.config import StudyItem
from failsafe.evaluation.paired import Change, Pair, pairs_of
from failsafe.evaluation.replay_videos import (
    ReplayVideo,
    ReplayVideoJob,
    choose,
    make_replay_videos,
    video_folder,
)
from failsafe.evaluation.results import Results
from failsafe.execution.serial import SerialExecutor
from failsafe.records.episode import Ending, Episode, EpisodeKey
from failsafe.records.event import Event, EventKind


def made_up(seed: int, alone: bool, under: bool, task: str = "Pick", scenario: str = "nominal", acts=True):
    def episode(condition: str, success: bool, events: tuple[Event, ...] = ()) -> Episode:
        ending = Ending.SUCCESS if success else Ending.FAILURE
        return Episode(
            EpisodeKey(task, scenario, "weak", condition, seed), "pick", ending, 40, 2.0, events=events
        )

    events = (Event(10, EventKind.ALARM), *((Event(10, EventKind.TAKE_OVER),) if acts else ()))
    return Pair(episode("never", alone), episode("monitor", under, events))


def test_the_four_changes() -> None:
    changes = [
        made_up(0, *ends).change for ends in ((False, True), (False, False), (True, False), (True, True))
    ]
    assert changes == [Change.RESCUED, Change.FAILED, Change.HARMED, Change.KEPT]


def test_pairs_need_both_arms_and_come_in_a_fixed_order() -> None:
    pairs = [made_up(1, False, True), made_up(0, True, True)]
    lonely = made_up(2, False, False).under
    found = pairs_of([lonely, *(e for pair in pairs for e in (pair.under, pair.alone))])
    assert [pair.alone.key.seed for pair in found] == [0, 1]
    assert [(pair.alone, pair.under) for pair in found] == [(p.alone, p.under) for p in (pairs[1], pairs[0])]


def test_a_few_of_each_kind_are_chosen_of_every_task_in_turn() -> None:
    pairs = [made_up(seed, False, True) for seed in range(3)]
    pairs += [made_up(seed, False, True, task="Push") for seed in range(3)]
    pairs += [made_up(9, False, True, scenario="noise"), made_up(3, True, False), made_up(4, True, True)]
    pairs += [made_up(5, False, False, acts=False), made_up(6, False, False)]
    keys = [pair.under.key for pair in choose(pairs, 3)]
    # Of each task one before a second of any; what is as in training before what is not.
    assert [(key.task, key.scenario, key.seed) for key in keys] == [
        ("Pick", "nominal", 0),
        ("Push", "nominal", 0),
        ("Pick", "noise", 9),
        ("Pick", "nominal", 3),
        ("Pick", "nominal", 6),  # the monitor acted
        ("Pick", "nominal", 5),
    ]
    assert choose(pairs, 0) == []


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    folder = tmp_path_factory.mktemp("study") / "results"
    with pytest.MonkeyPatch.context() as patch:
        yield toy_study.run(folder, patch, toy_study.config(1, (toy_study.PUSH,)))


def test_the_folder_of_a_video_has_a_name_that_every_file_system_can_store(tmp_path: Path) -> None:
    item = StudyItem("my.tasks:pour", "early_release:0.7", "my:Policy", 3)
    folder = video_folder(tmp_path, item).relative_to(tmp_path)
    assert folder.as_posix() == "my.tasks-pour/early_release-0.7/my-Policy/00000003"


def test_a_video_shows_what_is_recorded(results: Results, tmp_path: Path) -> None:
    cell, folder = toy_study.cell(0, toy_study.PUSH), tmp_path / "videos"
    job = ReplayVideoJob(results.manifest.config, results.path, folder)
    before = list(results.episodes())
    job.run(cell)
    assert list(results.episodes()) == before, "rendering writes no record"
    video = job.read(cell)
    assert video is not None
    assert video.frames is not None
    assert video.endings == (Ending.FAILURE, Ending.SUCCESS)
    (pair,) = pairs_of(before)
    assert video.repeats("never", pair.alone)
    assert video.repeats("monitor", pair.under)
    assert not video.repeats("never", pair.under)
    alone, guarded = video.frames.traces
    assert alone.steps[:3] == (0, 4, 8)
    assert alone.steps[-1] == pair.alone.steps == 140
    assert guarded.steps[-1] == pair.under.steps
    assert [camera.name for camera in video.frames.cameras] == ["front", "hand"]
    # 36 frames of 224 pixels, 6 in a row.
    with Image.open(video_folder(folder, cell) / "never" / "hand.webp") as grid:
        assert grid.size == (6 * 224, 6 * 224)
    # An existing video is not rendered again.
    done: list[int] = []
    assert make_replay_videos(results, [pair], folder, SerialExecutor(), done.append) == [video]
    assert done == [1]


def test_what_cannot_be_recorded_says_why(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from failsafe.errors import UserError

    def gone(name: str) -> None:
        raise UserError(f"no checkpoint {name}")

    monkeypatch.setattr("failsafe.evaluation.study.load_model", gone)
    cell = toy_study.cell(0, toy_study.PUSH)
    job = ReplayVideoJob(results.manifest.config, results.path, tmp_path / "videos")
    job.run(cell)
    assert job.read(cell) == ReplayVideo(cell, description="no checkpoint tiny")
    job.give_up(cell)
    assert job.read(cell) == ReplayVideo(cell, description="the process died twice during this episode")


def test_shards_keep_the_command_that_made_them(results: Results, tmp_path: Path) -> None:
    whole = Results(tmp_path / "whole")
    assert whole.take_in([results.path]) == 2
    assert whole.take_in([results.path]) == 0
    assert whole.manifest == results.manifest
