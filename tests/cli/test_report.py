"""`failsafe evaluate` and `failsafe report`, on the toy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import Verb
from tests.evaluation import toy_study

from failsafe.evaluation.replay_videos import ReplayVideoJob

SUCCEEDS, MISSES = 2, 4
"""Seeds."""


def test_shards_make_one_page(tmp_path: Path, run: Verb) -> None:
    description = [
        "evaluate",
        "--policy",
        toy_study.POLICY,
        "--tasks",
        toy_study.PUSH,
        "--conditions",
        "never",
    ]
    description += [
        "--seeds",
        f"{SUCCEEDS}:{MISSES + 1}",
        "--threshold",
        "0.5",
        "--max-steps",
        "60",
        "--workers",
        "1",
    ]
    shards = [tmp_path / name for name in ("first", "second")]
    for i, shard in enumerate(shards):
        status, out, err = run(*description, "--out", str(shard), "--shard", f"{i}/2")
        assert (status, err) == (0, err)
        assert toy_study.PUSH in out
        assert (shard / "report.html").exists()
    page = tmp_path / "page" / "index.html"
    status, out, _ = run("report", str(tmp_path / "whole"), *map(str, shards), "--out", str(page), "--json")
    said = json.loads(out)
    assert status == 0
    assert said["page"] == str(page)
    (row,) = said["summary"]["rows"]
    assert (row["condition"], row["episodes"], row["successes"]) == ("never", 3, 2)
    assert "This is the command of one shard" in page.read_text()
    assert "No initial state has been run both alone and with the monitor yet" in page.read_text()


def test_the_terminal_says_how_many_steps_were_over_the_limits(
    tmp_path: Path, run: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = toy_study.run(tmp_path / "results", monkeypatch, toy_study.config(1, (toy_study.PUSH,)))
    episodes = list(results.episodes())
    note = "of the control steps asked for more than the robot's step limits, and were shortened"
    for steps in (0, 35):
        for episode in episodes:
            results.write(replace(episode, steps=140, limited_steps=steps))
        _, out, _ = run("report", str(results.path), "--videos", "0")
        lines = [line for line in out.splitlines() if note in line]
        assert len(lines) == (steps > 0)
    assert lines[0].startswith(f"{toy_study.POLICY}, {toy_study.PUSH}, scenario nominal: 25.0% of")
    _, out, _ = run("report", str(results.path), "--videos", "0", "--json")
    assert {row["limited"] for row in json.loads(out)["summary"]["rows"]} == {0.25}


def test_videos_stand_beside_the_page(tmp_path: Path, run: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    study = toy_study.config(1, (toy_study.PUSH,))
    results = toy_study.run(tmp_path / "results", monkeypatch, study)
    ReplayVideoJob(study, results.path, results.path / "videos").run(toy_study.cell(0, toy_study.PUSH))
    status, out, _ = run("report", str(results.path))
    assert status == 0
    assert "100.0%" in out
    text = (results.path / "report.html").read_text()
    assert text.count('data-video="') == 1
    assert "could not be filmed" not in text
    run("report", str(results.path), "--videos", "0")
    assert 'data-video="' not in (results.path / "report.html").read_text()


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ([], "expected results made by `failsafe evaluate`, got"),
        (["--videos", "-1"], "expected --videos to be at least 0, got -1"),
    ],
)
def test_mistakes_end_in_one_sentence(
    description: list[str], sentence: str, tmp_path: Path, run: Verb
) -> None:
    status, _, err = run("report", str(tmp_path), *description)
    assert status == 2
    assert sentence in err
