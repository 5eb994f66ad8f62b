"""The quick variant of `make bench`: every benchmark runs, and its files can be read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.lines import append_line, read_lines
from benchmarks.sizes import FULL, QUICK

from benchmarks import kills
from failsafe.experts.tasks import load_task

ROOT = Path(__file__).parents[2]


@pytest.mark.maniskill
@pytest.mark.slow
def test_every_benchmark_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks.run", "--quick", "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    figures = {row["name"]: row for row in json.loads((tmp_path / "bench.json").read_text())["figures"]}
    measured = {name for name, row in figures.items() if row["value"] is not None}
    for part in ("nominal rollouts", "verified failures", "on disk", "two workers", "memory", "a query"):
        assert any(part in name for name in measured), (part, done.stdout)
    failures = figures["verified failures, per core, one label, exact check alone"]
    assert failures["value"] > 0
    assert "| nominal rollouts" in (tmp_path / "bench.md").read_text()


def test_the_quick_variant_measures_less():
    for name in ("nominal_seconds", "one_label_failures", "views", "queries", "loop"):
        assert getattr(QUICK, name) < getattr(FULL, name)


@pytest.mark.maniskill
def test_rollouts_that_were_measured_are_not_repeated(tmp_path):
    from benchmarks.nominal_success import main, read_records, table

    results = tmp_path / "results.jsonl"
    for _ in range(2):
        main(["PushCube-v1", "--seeds", "1", "--out", str(results)])
    assert len(results.read_text().splitlines()) == 1
    assert "| PushCube-v1 | 1/1 (100 %) |" in table(read_records(results), {})[0]


def test_a_line_that_was_cut_off_costs_no_other_line(tmp_path):
    record = tmp_path / "record.jsonl"
    append_line(record, {"seed": 0})
    record.write_text(record.read_text() + '{"seed": 1, "succ')
    append_line(record, {"seed": 2})
    assert [line["seed"] for line in read_lines(record)] == [0, 2]


def test_a_killed_generation_is_compared_with_an_undisturbed_one(tmp_path, monkeypatch):
    task = load_task("ToyPick-v0")
    for line in kills.kill_generations(task, kills=2, failures=1):
        append_line(tmp_path / "kills.jsonl", line | {"commit": "abc"})
    lines = read_lines(tmp_path / "kills.jsonl")
    assert [line["same"] for line in lines] == [True, True]
    assert kills.figures(tmp_path / "kills.jsonl") == {"ToyPick-v0": "2 of 2", "commits": "`abc`"}

    def content(folder):
        return {"file": "undisturbed" if folder.name == "undisturbed" else "other"}

    monkeypatch.setattr(kills, "_content", content)
    assert [line["same"] for line in kills.kill_generations(task, kills=1, failures=1)] == [False]
