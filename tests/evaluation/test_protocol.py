"""Proof seeds are evaluated by a protocol, which runs exactly what it froze."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation import bench
from tests.evaluation.bench import without_times

import failsafe as fs
from failsafe.errors import RecordError, StoreError, UserError
from failsafe.evaluation.evaluate import plan_study
from failsafe.evaluation.protocol import Protocol, freeze, read_protocol, run_protocol, write_protocol
from failsafe.evaluation.results import Results
from failsafe.execution.serial import SerialExecutor
from failsafe.models.loading import fingerprint
from failsafe.monitors.calibration import Calibration, Threshold, write_calibration
from failsafe.records.seeds import SeedRole

MODEL = "tests.evaluation.bench:Glance"
INSTRUCTION = "pick up the box and hold it at the goal"


def plan(calibration: Path, **changes: Any) -> Any:
    given: dict[str, Any] = {
        "tasks": "ToyPick-v0",
        "seeds": range(900_000, 900_002),
        "calibration": calibration,
        "max_steps": 20,
    }
    return plan_study(bench.POLICY, MODEL, **{**given, **changes})[0]


@pytest.fixture
def thresholds(tmp_path: Path) -> Path:
    path = tmp_path / "thresholds.json"
    found = {INSTRUCTION: Threshold(0.5, 40)}
    write_calibration(path, Calibration(0.05, MODEL, bench.POLICY, 2.0, found, "", fingerprint(MODEL)))
    return path


def test_it_runs_what_it_froze(tmp_path: Path, thresholds: Path) -> None:
    path = tmp_path / "protocol.json"
    config = plan(thresholds)
    write_protocol(path, freeze(config, "gain of monitor over never", 8.0))
    thresholds.unlink()  # the protocol holds the thresholds themselves
    results = run_protocol(path, tmp_path / "out", SerialExecutor())
    manifest = results.manifest
    assert (manifest.config, manifest.seed_role) == (config, SeedRole.PROOF)
    assert manifest.frozen is not None
    assert (manifest.frozen.protocol, manifest.frozen.budget_hours) == (read_protocol(path)[1], 8.0)
    assert len(list(results.episodes())) == 4
    before = without_times(tmp_path / "out")
    run_protocol(path, tmp_path / "out", SerialExecutor())
    assert without_times(tmp_path / "out") == before
    run_protocol(path, tmp_path / "again", SerialExecutor())
    assert without_times(tmp_path / "again") == before, "a second run gives the same episodes"

    # Another end point after the fact is another protocol, and the seeds without one are refused.
    other = tmp_path / "other.json"
    write_protocol(other, freeze(config, "harm of monitor", 8.0))
    with pytest.raises(
        StoreError, match=r"holds results of the protocol [0-9a-f]{12}, expected those of the"
    ):
        run_protocol(other, tmp_path / "out", SerialExecutor())
    with pytest.raises(UserError, match="expected a protocol for proof seeds"):
        fs.evaluate(
            bench.POLICY, MODEL, tasks="ToyPick-v0", seeds=range(900_000, 900_002), threshold=1.0, out="x"
        )
    with pytest.raises(UserError, match="expected a new file for a protocol"):
        write_protocol(path, freeze(config, "harm of monitor", 8.0))


@pytest.mark.parametrize("what", ["weights", "policy_weights", "code"])
def test_other_weights_or_code_are_refused(tmp_path: Path, thresholds: Path, what: str) -> None:
    path = tmp_path / "protocol.json"
    write_protocol(path, freeze(plan(thresholds), "gain", 1.0))
    plain = json.loads(path.read_text())
    changed = {"weights": "0", "policy_weights": {bench.POLICY: "0"}, "code": {"failsafe": "0.0"}}
    plain["config"][what] = changed[what]
    path.write_text(json.dumps(plain))
    sentence = {
        "weights": f"got another state of the weights or code of the recovery model {MODEL}: restore it",
        "policy_weights": f"got another state of the weights or code of the policy {bench.POLICY}",
        "code": "got another state of the version of FailSafe",
    }
    with pytest.raises(UserError, match=sentence[what]):
        run_protocol(path, tmp_path / "out", SerialExecutor())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": range(5000, 5002)}, "some of 900000:1000000, got 5000:5002, which are for 'develop'"),
        ({"end_point": " "}, "the primary end point of a protocol in words"),
        ({"budget_hours": 0.0}, "a budget above 0 hours, got 0.0"),
    ],
)
def test_a_protocol_that_makes_no_sense(thresholds: Path, changes: dict[str, Any], sentence: str) -> None:
    config = plan(thresholds, **({"seeds": changes["seeds"]} if "seeds" in changes else {}))
    with pytest.raises(UserError, match=sentence):
        Protocol(config, changes.get("end_point", "gain"), changes.get("budget_hours", 1.0))


PROTOCOLS = sorted((Path(__file__).parents[2] / "docs" / "protocols").glob("*.json"))


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_a_shipped_protocol_is_read_and_bound_to_the_source_that_it_froze(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The newest one may have frozen the source of today: without this it would be run.
    monkeypatch.setattr("failsafe.evaluation.protocol.own_sources", lambda: "another source")
    settings = read_protocol(path)[0].config.settings
    frozen = json.loads(path.read_text())["config"]["settings"]
    name = "assist_seconds" if "assist_seconds" in frozen else "continuation_seconds"  # its earlier name
    assert settings.assist_seconds == frozen[name]
    with pytest.raises(UserError, match="froze"):
        run_protocol(path, tmp_path / "out", SerialExecutor())


def test_results_from_before_a_setting_was_renamed_can_be_continued(tmp_path: Path, thresholds: Path) -> None:
    config = plan(thresholds, seeds=range(5000, 5001), conditions=("never",))
    results = Results(tmp_path / "out")
    results.begin(config)
    file = results.path / "manifest.json"
    text = file.read_text().replace("assist_seconds", "continuation_seconds")
    file.write_text(text.replace("StudyManifest/5", "StudyManifest/4"))
    assert results.manifest.config == config


def test_results_that_escalated_by_another_rule_cannot_be_continued(tmp_path: Path, thresholds: Path) -> None:
    results = Results(tmp_path / "out")
    results.begin(plan(thresholds, seeds=range(5000, 5001), conditions=("never", "escalate")))
    file = results.path / "manifest.json"
    text = file.read_text().replace("assist_seconds", "continuation_seconds")
    file.write_text(text.replace("StudyManifest/5", "StudyManifest/4"))
    with pytest.raises(RecordError, match=r"'escalate', which had another rule .*: evaluate again"):
        _ = results.manifest


def test_objects_have_no_place_in_a_protocol(thresholds: Path) -> None:
    config, _ = plan_study(
        bench.Wanderer(), MODEL, tasks="ToyPick-v0", seeds=range(900_000, 900_001), threshold=1.0
    )
    with pytest.raises(
        UserError, match=r"by name in a protocol, got an object \(tests.evaluation.bench.Wanderer\)"
    ):
        freeze(config, "gain", 1.0)


def test_a_change_of_settings_is_another_study(tmp_path: Path, thresholds: Path) -> None:
    path = tmp_path / "protocol.json"
    config = plan(thresholds)
    write_protocol(path, freeze(config, "gain", 1.0))
    run_protocol(path, tmp_path / "out", SerialExecutor())
    other = tmp_path / "other.json"
    write_protocol(other, freeze(replace(config, limits=replace(config.limits, max_steps=21)), "gain", 1.0))
    with pytest.raises(StoreError, match="which differs in max_steps"):
        run_protocol(other, tmp_path / "out", SerialExecutor())
