"""The verbs, as a user types them: what they print, and that no mistake ends in a traceback."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import Verb
from tests.evaluation.toy_study import PICK

from failsafe.datasets.store import Dataset


def test_generate_says_what_came_of_it_and_goes_on_where_it_was(made: Path, run: Verb) -> None:
    description = ["generate", "ToyPick-v0", "--failures", "3", "--labels", "1", "--verify-rollouts", "1"]
    description += ["--modes", "object_dropped,translation_x", "--out", str(made), "--json"]
    status, out, _ = run(*description)
    result = json.loads(out)
    assert status == 0
    assert result["verified"] == result["wanted"] == 3
    assert result["resumed"] == len(Dataset(made).case_files()), "everything was there already"


def test_what_comes_next_for_a_task_of_ones_own_can_be_typed(tmp_path: Path, run: Verb) -> None:
    settings = ["--failures", "1", "--labels", "1", "--verify-rollouts", "1", "--modes", "object_dropped"]
    data = tmp_path / "data"
    status, out, _ = run("generate", PICK, *settings, "--executor", "serial", "--out", str(data))
    assert status == 0
    following = out.splitlines()[-1].removeprefix("next: failsafe ").split(" && failsafe ")
    render = ["--size", "8", "--every", "50", "--executor", "serial"]
    status, _, err = run("render", str(data), *render)
    assert (status, f"--trust {PICK}" in err) == (2, True), "its name was not typed"
    for words in following:
        status, _, err = run(*words.split(), *(render if words.startswith("render") else ()))
        assert status == 0, err


def test_replay_says_that_every_state_is_the_same(made: Path, run: Verb) -> None:
    case = next(c for c in Dataset(made).cases() if c.verified)
    status, out, _ = run("replay", str(made), case.case_id, "--json")
    result = json.loads(out)
    assert status == 0
    assert result["same"]
    assert [r["rollout"] for r in result["rollouts"]] == ["nominal", "failing", "recovery_0"]


def test_replay_notices_a_state_that_is_not(made: Path, tmp_path: Path, run: Verb) -> None:
    copy = tmp_path / "data"
    shutil.copytree(made, copy)
    dataset = Dataset(copy)
    case = next(c for c in dataset.cases() if c.verified)
    traces = dataset.traces(case.task, case.case_id)
    traces["failing"].states[7, 0] += 1e-3
    dataset.write_case(case, traces)
    status, out, _ = run("replay", str(copy), case.case_id)
    assert status == 1
    assert "differs from state 7 on, by up to 0.001" in out


def test_render_gallery_and_coverage_make_their_pages(
    made: Path, run: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = run(
        "render", str(made), "--size", "64", "--cameras", "front", "--workers", "1", "--json"
    )
    assert status == 0
    assert json.loads(out)["images"] > 20
    many = json.loads(out)["images"]
    status, out, err = run("render", str(made), "--size", "64", "--cameras", "front", "--workers", "1")
    assert "about 0 images: 3 episodes, 64 x 64 pixels, cameras front, one of every 10 control steps" in err
    view = ("--size", "16", "--cameras", "front", "--purpose", "video", "--workers", "1")
    status, out, err = run("render", str(made), *view)
    said, did = re.search(r"about (\d+) images", err), re.search(r": (\d+) images of 3 episodes", out)
    assert said
    assert did
    assert int(said[1]) == int(did[1]) > 3 * many, "said before it starts, and every control step"
    status, _, err = run("render", str(made), "--purpose", "galery")
    assert (status, "unknown purpose 'galery': did you mean 'gallery'?" in err) == (2, True)
    status, out, _ = run("gallery", str(made), "--json")
    assert status == 0
    assert Path(json.loads(out)["page"]).exists()
    status, out, _ = run("coverage", str(made), "--json")
    assert status == 0
    assert Path(json.loads(out)["page"]).exists()
    monkeypatch.setenv("COLUMNS", "60")
    status, out, _ = run("coverage", str(made))
    assert "object_dropped" in out


def test_merge_and_check_adapter(made: Path, tmp_path: Path, run: Verb) -> None:
    status, out, _ = run("merge", str(tmp_path / "all"), str(made), "--json")
    assert status == 0
    assert json.loads(out)["cases"] == len(Dataset(made).case_files())
    status, out, _ = run("check-adapter", "failsafe.simulators.toy:ToyPush")
    assert status == 0
    assert "ToyPush-v0: 19 of 19 rules are kept" in out


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        (["generate", "ToyPik-v0"], "unknown task 'ToyPik-v0'"),
        (["generate", "no.such.module:make"], "expected the name of a task or MODULE:ATTRIBUTE"),
        (["generate", "ToyPick-v0", "--modes", "slop"], "unknown mode 'slop': did you mean 'slip'?"),
        (["generate", "ToyPick-v0", "--seeds", "5:5"], "got 5:5, which is empty"),
        (["generate", "ToyPick-v0", "--seeds", "five"], "expected a seed range A:B"),
        (["generate", "ToyPick-v0", "--failures", "-1"], "expected failures to be at least 1, got -1"),
        (["generate", "ToyPick-v0", "--shard", "3/2"], "expected a shard i/n with 0 <= i < n, got 3/2"),
        (["generate", "ToyPick-v0", "--workers", "0"], "expected at least 1 worker, got 0"),
        (["generate", "ToyPush-v0", "--modes", "slip"], "none of the modes asked for applies to ToyPush-v0"),
    ],
)
def test_mistakes_end_in_one_sentence(
    description: list[str],
    sentence: str,
    tmp_path: Path,
    run: Verb,
) -> None:
    status, _, err = run(*description, "--out", str(tmp_path / "data"))
    assert status == 2
    assert sentence in err
    assert "Traceback" not in err
    said = [line for line in err.strip().splitlines() if not line.startswith("failures: ")]
    assert len(said) == 1


@pytest.mark.parametrize("verb", ["render", "coverage", "gallery"])
def test_a_folder_that_is_no_dataset(verb: str, tmp_path: Path, run: Verb) -> None:
    status, _, err = run(verb, str(tmp_path))
    assert status == 2
    assert "which has no manifest.json" in err


def test_unknown_cameras_and_episodes(made: Path, run: Verb) -> None:
    status, _, err = run("render", str(made), "--cameras", "frnt", "--workers", "1")
    assert status == 2
    assert "unknown camera 'frnt': did you mean 'front'?" in err
    status, _, err = run("replay", str(made), "nothing")
    assert status == 2
    assert "no episode 'nothing'" in err


def test_a_damaged_file_is_named_and_skipped_only_on_request(made: Path, tmp_path: Path, run: Verb) -> None:
    copy = tmp_path / "data"
    shutil.copytree(made, copy)
    damaged = Dataset(copy).case_files()[0]
    damaged.write_bytes(damaged.read_bytes()[:200])
    status, _, err = run("gallery", str(copy))
    assert status == 2
    assert str(damaged) in err
    assert "damaged file" in err
    status, _, _ = run("gallery", str(copy), "--skip-damaged")
    assert status == 0
    assert len(damaged.read_bytes()) == 200, "never overwritten"
