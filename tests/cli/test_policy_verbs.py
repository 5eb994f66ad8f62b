"""`failsafe demonstrate`, `imitate`, `calibrate` and `evaluate`, on the toy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.cli.conftest import Verb
from tests.evaluation import toy_study

from failsafe.evaluation.results import Results
from failsafe.models.camera_geometry import CameraIntrinsics
from failsafe.models.compact import CompactMeta, save_compact
from failsafe.models.compact_net import CompactConfig, CompactNet
from failsafe.models.version_1 import EMBODIMENT, NORMALIZATION
from failsafe.monitors.calibration import read_calibration
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.reference import load_reference
from failsafe.records.assessment import Assessment, WindowSpec
from failsafe.records.event import EventKind
from failsafe.simulators.toy import ToyPush

WORDS = ToyPush().episode.instruction
TASK = "ToyPush-v0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policies")


@pytest.fixture(scope="module")
def model(folder: Path) -> str:
    """A compact model that has learnt nothing, and takes everything for a failure, more or less surely."""
    torch.manual_seed(0)
    spec = WindowSpec(views=("front",), history=4, frames=1, size=32)
    config = CompactConfig(
        spec,
        ("slip",),
        ("push",),
        (WORDS,),
        EMBODIMENT,
        NORMALIZATION,
        (4, 4, 8, 8),
        16,
        (CameraIntrinsics(0.7, False),),
    )
    path, net = folder / "monitor.safetensors", CompactNet(config)
    with torch.no_grad():
        net.heads.bias[0] = 3.0
    save_compact(path, net, CompactMeta(config, {TASK: (900, 901)}, {}))
    return str(path)


@pytest.mark.slow
def test_from_demonstrations_to_a_comparison(folder: Path, model: str, run: Verb) -> None:
    data, checkpoint = folder / "demonstrations", folder / "policy.safetensors"
    description = ["--episodes", "2", "--views", "front", "--size", "32", "--stride", "6", "--workers", "1"]
    status, out, err = run("demonstrate", TASK, "--out", str(data), *description, "--json")
    assert (status, json.loads(out)) == (0, {"folder": str(data), "episodes": 2}), err
    status, out, _ = run("demonstrate", TASK, "--out", str(data), *description)
    assert status == 0
    assert f"next: failsafe imitate {data}" in out

    description = ["imitate", str(data), "--steps", "3", "--batch", "4"]
    status, out, err = run(*description, "--out", str(checkpoint), "--json")
    assert (status, json.loads(out)) == (0, {"checkpoint": str(checkpoint)}), err
    assert load_reference(str(checkpoint)).meta.train_seeds == {TASK: (300_000, 300_001)}

    policy, thresholds = f"reference:{checkpoint}", folder / "thresholds.json"
    description = ["--tasks", TASK, "--max-steps", "12", "--workers", "1", "--json"]
    calibrate = ["calibrate", model, "--policy", policy, "--out", str(thresholds), "--seeds", "0:1"]
    status, out, err = run(*calibrate, *description)
    assert status == 0, err
    found = json.loads(out)
    assert (found["policy"], found["model"], found["alpha"]) == (policy, model, 0.05)
    assert [threshold["value"] for threshold in found["thresholds"].values()] == [None], "not one success"
    assert read_calibration(thresholds).drift == MonitorSettings().drift
    status, out, _ = run(*calibrate, *description[:-1])
    assert (status, "no threshold" in out, "promises hold" in out) == (0, True, False), out

    results = folder / "results"
    evaluate = ["evaluate", "--policy", policy, "--monitor", model]
    status, _, err = run(*evaluate, "--calibration", str(thresholds), "--out", str(results), *description)
    assert (status, "expected at least 19 successful episodes" in err) == (2, True), err
    evaluate += ["--threshold", "1e6"]
    status, out, err = run(*evaluate, "--seeds", "5:7", "--videos", "0", "--out", str(results), *description)
    assert status == 0, err
    said = json.loads(out)
    assert Path(said["page"]).exists()
    assert [(row["condition"], row["episodes"]) for row in said["summary"]["rows"]] == [
        ("never", 2),
        ("monitor", 2),
    ]
    looked = [episode for episode in Results(results).episodes() if episode.key.condition == "monitor"]
    assert all(episode.count(EventKind.QUERY) for episode in looked)

    # Another policy under the same name: its episodes are not those that are there.
    checkpoint.unlink()
    status, _, err = run(
        "imitate",
        str(data),
        "--steps",
        "3",
        "--batch",
        "4",
        "--seed",
        "1",
        "--keyframes",
        "--out",
        str(checkpoint),
    )
    assert status == 0, err
    status, _, err = run(*calibrate, *description)
    assert (status, "another evaluation" in err) == (2, True), err
    status, _, err = run(*evaluate, "--seeds", "5:7", "--videos", "0", "--out", str(results), *description)
    assert (status, "another evaluation" in err) == (2, True), err


def test_asking_for_help_is_an_exit_status(folder: Path, model: str, run: Verb) -> None:
    description = [
        "--policy",
        toy_study.POLICY,
        "--monitor",
        model,
        "--tasks",
        toy_study.PUSH,
        "--seeds",
        "4:5",
    ]
    description += ["--max-steps", "90", "--videos", "0", "--workers", "1", "--threshold", "0", "--json"]
    status, out, err = run("evaluate", *description, "--takeovers", "0", "--out", str(folder / "help"))
    assert status == 3, err
    assert [row["asked_for_help"] for row in json.loads(out)["summary"]["rows"]] == [0, 1]
    status, out, err = run("evaluate", *description, "--budget", "0", "--out", str(folder / "watches"))
    (row,) = [row for row in json.loads(out)["summary"]["rows"] if row["condition"] == "monitor"]
    assert (status, row["asked_for_help"], row["intervention"]["share"]) == (3, 1, 0.0), "it only watches"
    status, _, err = run(
        "evaluate", *description, "--takeovers", "9", "--budget", "1", "--out", str(folder / "no-help")
    )
    assert status == 0, err


def test_thresholds_are_of_the_successes(folder: Path, model: str, run: Verb) -> None:
    """Of seeds 2 to 4 the policy succeeds on 2 and 3: at alpha one half the higher of two scores."""
    path = folder / "half.json"
    description = [
        "--policy",
        toy_study.POLICY,
        "--tasks",
        toy_study.PUSH,
        "--seeds",
        "2:5",
        "--max-steps",
        "140",
    ]
    status, out, err = run(
        "calibrate", model, *description, "--alpha", "0.5", "--out", str(path), "--workers", "1"
    )
    assert status == 0, err
    assert "from 2 successful episodes" in out
    episodes = {
        e.key.seed: e for e in Results(path.with_suffix(".episodes")).episodes() if e.key.condition == "watch"
    }
    assert [episodes[seed].success for seed in (2, 3, 4)] == [True, True, False]
    assert not any(e.count(EventKind.ALARM) for e in episodes.values()), "it only looks"
    scores = [episodes[seed].top_score for seed in (2, 3)]
    found = read_calibration(path).thresholds[WORDS]
    assert found.episodes == 2
    assert found.value == max(score for score in scores if score is not None)
    # Of the same episodes another alpha: nothing is run again, and two successes cannot promise it.
    status, out, _ = run("calibrate", model, *description, "--out", str(path), "--workers", "1")
    assert status == 0
    assert "threshold none, from 2 successful episodes" in out
    assert "promises nothing, and no alarm: 2 successes are fewer than the 19" in out


def test_proof_seeds_are_evaluated_by_a_protocol(tmp_path: Path, model: str, run: Verb) -> None:
    file, out = tmp_path / "protocol.json", tmp_path / "out"
    plan = ["--policy", toy_study.POLICY, "--monitor", model, "--tasks", toy_study.PUSH, "--threshold", "9"]
    plan += ["--seeds", "900000:900001", "--max-steps", "20", "--freeze", str(file), "--hours", "1"]
    status, said, err = run("evaluate", *plan, "--end-point", "gain of monitor over never")
    assert status == 0, err
    assert f"failsafe evaluate --protocol {file} --out FOLDER" in said
    command = [
        "evaluate",
        "--protocol",
        str(file),
        "--out",
        str(out),
        "--executor",
        "serial",
        "--videos",
        "0",
    ]
    # In a process of its own: this one may have imported the names already.
    words = [sys.executable, "-m", "failsafe", *command, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "comes from a file" in done.stderr, "the names of a protocol were not typed"
    trusted = ["--trust", toy_study.POLICY, "--trust", toy_study.PUSH]
    status, said, err = run(*command, *trusted, "--json")
    assert status == 0, err
    notes = json.loads(said)["notes"]
    assert "The seeds 900000:900001 are proof seeds." in notes
    assert any("Its primary end point: gain of monitor over never" in note for note in notes)


def test_a_monitor_that_never_gets_an_answer_has_an_exit_status(tmp_path: Path, run: Verb) -> None:
    plan = ["--policy", toy_study.POLICY, "--monitor", f"{__name__}:Mute", "--tasks", toy_study.PUSH]
    plan += [
        "--seeds",
        "4:5",
        "--max-steps",
        "40",
        "--threshold",
        "5",
        "--videos",
        "0",
        "--executor",
        "serial",
    ]
    status, said, err = run("evaluate", *plan, "--out", str(tmp_path / "out"))
    assert status == 4, err
    assert "THE MONITOR DID NOTHING in" in said
    assert "queries failed (ValueError: no tongue)" in said
    assert "THE MONITOR DID NOTHING in" in (tmp_path / "out" / "report.html").read_text()


class Mute(toy_study.TinyMonitor):
    def assess(self, window: object) -> Assessment:
        raise ValueError("no tongue")


EVALUATE = ("evaluate", "--policy", toy_study.POLICY, "--tasks", TASK, "--out", "{tmp}/out", "--workers", "1")
CALIBRATE = ("calibrate", "{model}", "--policy", toy_study.POLICY, "--tasks", TASK, "--out", "{tmp}/t.json")


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        (
            (*EVALUATE, "--threshold", "0.5", "--seeds", "5"),
            "expected --seeds FIRST:LAST with two whole numbers, got '5'",
        ),
        ((*EVALUATE, "--threshold", "0.5", "--seeds", "7:7"), "expected --seeds FIRST:LAST"),
        ((*EVALUATE, "--threshold", "0.5", "--seeds=-3:7"), "expected --seeds FIRST:LAST"),
        ((*EVALUATE, "--threshold", "0.5", "--shard", "2/2"), "expected --shard I/N"),
        ((*EVALUATE, "--threshold", "0.5", "--conditions", "sometimes"), "unknown condition 'sometimes'"),
        (
            (*EVALUATE, "--threshold", "0.5", "--scenarios", "nominl"),
            "unknown scenario 'nominl': did you mean",
        ),
        (
            (*EVALUATE, "--threshold", "0.5", "--scenarios", ","),
            "expected at least one task, policy, scenario",
        ),
        (
            (*EVALUATE, "--threshold", "0.5", "--tasks", "toy:pock"),
            "expected the name of a task or MODULE:ATTRIBUTE",
        ),
        ((*EVALUATE, "--threshold", "nan"), "expected a finite threshold of at least 0, got nan"),
        (
            (*EVALUATE, "--threshold", "0.5", "--max-steps", "0"),
            "expected episodes of 1 to 1000000 steps, got 0",
        ),
        (
            (*EVALUATE, "--threshold", "0.5", "--takeovers", "-1"),
            "expected an intervention budget of at least 0 takeovers, got -1",
        ),
        (
            (*EVALUATE, "--threshold", "0.5", "--budget", "1.5"),
            "expected an intervention budget from 0 to 1 of an episode, got 1.5",
        ),
        ((*EVALUATE, "--threshold", "0.5", "--deadline", "0"), "deadline above 0 seconds, got 0"),
        ((*EVALUATE, "--threshold", "0.5", "--workers", "-1"), "expected at least 1 worker, got -1"),
        (EVALUATE, "expected thresholds for python:tests.evaluation.toy_study:Replayer"),
        (EVALUATE[:1], "expected --policy, or a file to run with --protocol"),
        ((*EVALUATE[:3], "--threshold", "0.5"), "expected --out with the folder of the results"),
        (
            (*EVALUATE, "--threshold", "0.5", "--seeds", "900000:900002"),
            "expected a protocol for proof seeds",
        ),
        ((*EVALUATE, "--threshold", "0.5", "--seeds", "4990:5010"), "expected seeds of one role"),
        (
            (*EVALUATE, "--protocol", "{tmp}/p.json"),
            "expected --protocol without --policy: the file says what to",
        ),
        (("evaluate", "--protocol", "{tmp}/p.json", "--out", "{tmp}/out"), "expected a protocol made by"),
        ((*EVALUATE, "--threshold", "0.5", "--freeze", "{tmp}/p.json"), "expected proof seeds in a protocol"),
        (
            (*CALIBRATE, "--seeds", "900000:900002"),
            "got the proof seeds 900000:900002: choose some of 800000:",
        ),
        (
            (*EVALUATE, "--monitor", "{model}", "--threshold", "0.5", "--seeds", "900:901"),
            f"was not trained on, got seed 900 of {TASK}: choose other seeds",
        ),
        ((*EVALUATE, "--calibration", "{tmp}/none.json"), "expected thresholds made by `failsafe calibrate`"),
        ((*EVALUATE, "--calibration", "{model}"), "monitor.safetensors: expected text in UTF-8"),
        ((*CALIBRATE, "--alpha", "1.5"), "expected alpha between 0 and 1, got 1.5"),
        ((*CALIBRATE, "--seeds", "a:b"), "expected --seeds FIRST:LAST"),
        (("demonstrate", "--out", "{tmp}/out"), "expected at least one task"),
        (
            ("demonstrate", "toy:pock", "--out", "{tmp}/out"),
            "expected the name of a task or MODULE:ATTRIBUTE",
        ),
        (("demonstrate", TASK, "--episodes", "0", "--out", "{tmp}/out"), "at least one task and one episode"),
        (("demonstrate", TASK, "--workers", "-1", "--out", "{tmp}/out"), "at least 1 worker, got -1"),
        (("demonstrate", TASK, "--out", "{model}"), "expected a folder, got a file"),
        (("imitate", "{tmp}/none", "--out", "{tmp}/a.safetensors"), "made by `failsafe demonstrate`"),
        (("imitate", "{tmp}/none", "--steps", "0", "--out", "{tmp}/a.safetensors"), "got 0, 0 and 96"),
    ],
)
def test_mistakes_end_in_one_sentence(
    description: tuple[str, ...], sentence: str, tmp_path: Path, model: str, run: Verb
) -> None:
    status, out, err = run(*(word.format(tmp=tmp_path, model=model) for word in description))
    assert status == 2
    assert sentence in err
    assert "Traceback" not in err
    assert out == ""
    assert not list(tmp_path.glob("out/episodes/**/*.json"))
