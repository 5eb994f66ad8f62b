"""A study goes on where it was, comes out the same in shards, and does not mix with another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation import bench
from tests.evaluation.bench import Glance, without_times

from failsafe.datasets.files import file_name
from failsafe.datasets.locks import locked
from failsafe.errors import FailSafeError, PolicyError, StoreError, UserError
from failsafe.evaluation import study
from failsafe.evaluation.config import StudyConfig, StudyItem, study_items
from failsafe.evaluation.results import Results
from failsafe.evaluation.study import StudyJob, run_study
from failsafe.execution.contract import ignore
from failsafe.execution.serial import SerialExecutor
from failsafe.monitors.calibration import Calibration
from failsafe.records.episode import Ending

Run = Callable[..., list[StudyItem]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a study in this process, with a model at hand; says which cells were worked at."""
    worked: list[StudyItem] = []

    class Recording(SerialExecutor):
        def run(self, job: Any, items: Any, on_done: Any, on_message: Any = ignore) -> None:
            super().run(job, items, lambda item: worked.append(item) or on_done(item), on_message)

    monkeypatch.setattr(study, "load_model", lambda name: Glance())

    def command(config: StudyConfig, out: Path, shard: tuple[int, int] = (0, 1)) -> list[StudyItem]:
        worked.clear()
        done: list[StudyItem] = []
        run_study(config, out, Recording(), done.append, shard)
        assert sorted(done, key=str) == sorted(study_items(config, shard), key=str)
        return list(worked)

    return command


def test_cells_go_seed_by_seed_and_shards_share_them_out() -> None:
    config = replace(bench.config(6), scenarios=("nominal", "noise"), policies=("a", "b"))
    cells = study_items(config)
    assert len(cells) == len(set(cells)) == 6 * 2 * 2
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    parts = [study_items(config, (i, 5)) for i in range(5)]
    assert sorted((c for part in parts for c in part), key=cells.index) == cells
    assert {len(part) for part in parts} == {4, 5}


def test_a_run_that_was_cut_short_goes_on_where_it_was(tmp_path: Path, run: Run) -> None:
    config, out = bench.config(3), tmp_path / "results"
    assert [cell.seed for cell in run(config, out)] == [0, 1, 2]
    whole, results = without_times(out), Results(out)
    assert len(whole) == 6
    cells = study_items(config)
    results.file(cells[1].key("monitor")).unlink()
    for condition in ("never", "monitor"):
        results.file(cells[2].key(condition)).unlink()
    kept = results.file(cells[1].key("never"))
    before = kept.stat().st_mtime_ns
    assert [cell.seed for cell in run(config, out)] == [1, 2]
    assert kept.stat().st_mtime_ns == before, "what there is is not run again"
    assert without_times(out) == whole
    assert run(config, out) == []


def test_shards_together_are_one_run(tmp_path: Path, run: Run) -> None:
    config = bench.config(4)
    run(config, tmp_path / "whole")
    shards = [tmp_path / "first", tmp_path / "second"]
    for i, shard in enumerate(shards):
        assert [cell.seed for cell in run(config, shard, (i, 2))] == [i, i + 2]
    together = Results(tmp_path / "together")
    assert together.take_in(shards) == 8
    assert without_times(together.path) == without_times(tmp_path / "whole")
    assert together.manifest.config == config
    assert together.take_in(shards) == 0


def test_another_study_is_refused(tmp_path: Path, run: Run) -> None:
    config, out = bench.config(1), tmp_path / "results"
    run(config, out)
    before = without_times(out)
    with pytest.raises(StoreError, match="which differs in seeds: choose another folder, or delete"):
        run(replace(config, last_seed=2), out)
    other = tmp_path / "other"
    run(replace(config, threshold=0.6), other)
    with pytest.raises(StoreError, match="another evaluation"):
        Results(out).take_in([other])
    assert without_times(out) == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match="with other files"):
        run(bench.config(1), tmp_path)
    with pytest.raises(UserError, match="made by `failsafe evaluate`"):
        _ = Results(tmp_path).manifest
    with pytest.raises(StoreError, match="expected a folder, got a file"):
        run(bench.config(1), tmp_path / "thesis.tex")


def test_two_runs_at_once_are_refused(tmp_path: Path, run: Run) -> None:
    with locked(tmp_path), pytest.raises(StoreError, match=r"another process .*is at work"):
        run(bench.config(1), tmp_path)


def test_a_cell_that_kills_its_processes_is_recorded_as_such(tmp_path: Path, run: Run) -> None:
    config = bench.config(1)
    run(config, tmp_path)
    (cell,) = study_items(config)
    results = Results(tmp_path)
    alone = results.read(cell.key("never"))
    results.file(cell.key("monitor")).unlink()
    assert not StudyJob(config, tmp_path).give_up(cell), "nothing of it is left to do"
    crashed = results.read(cell.key("monitor"))
    assert crashed is not None
    assert (crashed.ending, crashed.success) == (Ending.CRASHED, False)
    assert crashed.description == "the process died twice during this episode"
    assert results.read(cell.key("never")) == alone, "what was run before counts"
    assert run(config, tmp_path) == [], "and it is not tried a fifth time"


def test_a_crash_costs_the_arm_that_it_happened_in(tmp_path: Path, run: Run) -> None:
    config = bench.config(1)
    run(config, tmp_path)
    (cell,) = study_items(config)
    results = Results(tmp_path)
    for condition in ("never", "monitor"):
        results.file(cell.key(condition)).unlink()
    assert StudyJob(config, tmp_path).give_up(cell), "the monitor is still to be run"
    assert results.has(cell.key("never"))
    assert not results.has(cell.key("monitor"))


def test_results_of_other_weights_are_another_study(tmp_path: Path, run: Run) -> None:
    run(bench.config(1), tmp_path)
    with pytest.raises(StoreError, match="differs in the weights or code of the recovery model glance"):
        run(replace(bench.config(1), weights="another"), tmp_path)


def test_what_does_not_fit_stops_the_run_with_its_sentence(tmp_path: Path, run: Run) -> None:
    with pytest.raises(UserError, match="expected the name of a policy or MODULE:ATTRIBUTE"):
        run(bench.config(1, policies=("python:tests.evaluation.bench:Nobody",)), tmp_path / "a")
    with pytest.raises(FailSafeError, match="expected the name of a task or MODULE:ATTRIBUTE"):
        run(bench.config(1, tasks=("toy:pock",)), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    with pytest.raises(PolicyError, match="expected a camera for each view of"):
        run(bench.config(1, policies=("python:tests.evaluation.test_study:Ceiling",)), tmp_path / "c")


class Ceiling(bench.Wanderer):
    views = {"ceiling": 16}  # noqa: RUF012 -- never changed


def test_the_thresholds_are_those_of_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "load_model", lambda name: Glance())
    found = Calibration(0.05, "glance", bench.POLICY, 2.0, {})
    cell = StudyItem(bench.PICK, "nominal", bench.POLICY, 0)
    thresholds = {}
    for name, calibrations in (("none", {}), ("other", {"b": found}), ("its own", {bench.POLICY: found})):
        job = StudyJob(bench.config(calibrations=calibrations, threshold=0.7), tmp_path)
        job.episode(cell, "never")
        policy = job._policies[bench.POLICY]
        job._model = Glance()
        thresholds[name] = [
            job._guard(cell, condition, policy).monitor._threshold_of("pick")
            for condition in ("monitor", "watch")
        ]
    never = float("inf")
    assert thresholds == {"none": [0.7, never], "other": [0.7, never], "its own": [never, never]}


@pytest.mark.parametrize(
    ("changes", "description"),
    [
        ({"tasks": ()}, "at least one task"),
        ({"policies": ()}, "at least one task"),
        ({"scenarios": ()}, "at least one task"),
        ({"last_seed": 0}, "at least one task"),
        ({"conditions": ("sometimes",)}, "unknown condition 'sometimes'"),
        ({"scenarios": ("nominl",)}, "did you mean 'nominal'"),
        ({"threshold": -0.5}, "expected a finite threshold of at least 0, got -0.5"),
        ({"threshold": float("inf")}, "expected a finite threshold of at least 0, got inf"),
        ({"threshold": float("nan")}, "expected a finite threshold of at least 0, got nan"),
        (
            {"calibrations": {"a": Calibration(0.05, "glance", "a", 1.0, {})}},
            "expected thresholds for a .* drift of 2, got 1: calibrate again",
        ),
    ],
)
def test_a_study_that_makes_no_sense(changes: dict[str, Any], description: str) -> None:
    with pytest.raises(UserError, match=description):
        replace(bench.config(), **changes)


def test_names_of_policies_are_made_names_of_folders() -> None:
    assert file_name("openvla://127.0.0.1:8000?chunk=4") == "openvla-127.0.0.1-8000-chunk-4"
    assert "/" not in file_name("../../etc/passwd")
