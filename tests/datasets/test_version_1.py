"""Datasets, sample sets and demonstrations of version 1 still open.

The folders in `version_1/` were made by version 1 (commit c73b389), tables and card left out:

    failsafe generate ToyPick-v0 --failures 2 --labels 1 --verify-rollouts 2 --compound 0.5 --seeds 0:20 \
        --modes translation_x,no_op,object_dropped,early_release --out dataset
    failsafe samples dataset --views front,hand --history 4 --frames 1 --size 16 --no-pictures --out samples
    failsafe samples dataset --views front,hand --history 4 --frames 1 --size 16 --splits train --wander 2 \
        --out exploration
    failsafe demonstrate ToyPick-v0 --episodes 1 --size 16 --stride 10 --out demonstrations
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from failsafe.datasets.build import build_dataset, merge_datasets
from failsafe.datasets.manifest import read_manifest, write_manifest
from failsafe.datasets.render import RenderOptions, render_dataset
from failsafe.datasets.store import Dataset
from failsafe.errors import UserError
from failsafe.execution.serial import SerialExecutor
from failsafe.experts.tasks import load_task
from failsafe.records.assessment import WindowSpec
from failsafe.records.case import RecoveryStrategy
from failsafe.reports.coverage import coverage_table, write_coverage
from failsafe.reports.gallery import write_gallery
from failsafe.rollouts.replay import replay_traces
from failsafe.samples.demonstrations import DemonstrationSet
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.render import build_samples
from failsafe.samples.sample import Kind
from failsafe.samples.sample_set import SampleSet

VERSION_1 = Path(__file__).parent / "version_1"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(Path(shutil.copytree(VERSION_1 / "dataset", tmp_path / "dataset")))


def test_every_field_of_a_case_is_read(dataset: Dataset) -> None:
    first, second = dataset.cases()
    assert (first.case_id, second.case_id) == (
        "ToyPick-v0-000000-0e001f6efa",
        "ToyPick-v0-000001-8071ca7c41",
    )
    # "lane" and "slot" in version 1; the run had two lanes of one wanted failure each.
    assert (first.partition, first.target) == (0, 0)
    assert (second.partition, second.target) == (1, 1)
    for case in (first, second):
        assert case.verified
        [label] = case.labels
        assert label.correction is not None
        # "way" in version 1
        assert isinstance(label.correction.strategy, RecoveryStrategy)
        assert label.verification.attempts[-1].strategy is label.correction.strategy
        assert label.verification.attempts[-1].success


def test_every_rollout_replays_to_the_same_states(dataset: Dataset) -> None:
    for case in dataset.cases():
        results = replay_traces(load_task(case.task).simulator, case.seed, dataset.rollouts(case))
        assert [r.rollout for r in results] == ["nominal", "failing", "recovery_0"]
        assert all(r.same for r in results)


def test_it_is_rendered_counted_and_shown(dataset: Dataset) -> None:
    cases = list(dataset.cases())
    made = render_dataset(dataset, cases, RenderOptions("front", 32, 20, False), SerialExecutor()).images
    assert made > 2 * len(cases)
    write_gallery(dataset)
    pages = dataset.path / "gallery"
    assert all(any(case.case_id in p.read_text() for p in pages.rglob("*.js")) for case in cases)
    write_coverage(dataset)
    assert sum(row.got for row in coverage_table(dataset) if row.kind == "mode") == 2


def test_samples_are_cut_from_it(dataset: Dataset, tmp_path: Path) -> None:
    config = SampleConfig(WindowSpec(("front", "hand"), history=4, frames=1, size=16), images=False)
    build_samples([dataset.path], tmp_path / "samples", config, SerialExecutor())
    made, before = SampleSet(tmp_path / "samples"), SampleSet(VERSION_1 / "samples")
    assert made.samples == before.samples
    assert made.spec == before.spec
    for name in ("tcp_poses", "gripper_widths", "continuation"):
        np.testing.assert_array_equal(getattr(made, name), getattr(before, name))
    # Version 1 always kept four objects, NaN where there were fewer.
    present = made.objects.shape[1]
    np.testing.assert_array_equal(made.objects, before.objects[:, :present])
    assert np.isnan(before.objects[:, present:]).all()


def test_the_command_that_made_it_writes_new_tables_and_no_episode(dataset: Dataset) -> None:
    files = {path: path.read_bytes() for path in [*dataset.case_files(), *dataset.nominal_files()]}
    config = read_manifest(dataset.path).config
    build_dataset(config, dataset.path, lambda _: None)
    assert read_manifest(dataset.path).config == config  # magnitudes are converted once
    assert files == {path: path.read_bytes() for path in [*dataset.case_files(), *dataset.nominal_files()]}
    rows = pq.read_table(dataset.path / "tables" / "cases.parquet").to_pylist()
    assert [row["partition"] for row in rows] == [0, 1]
    assert read_manifest(dataset.path).generator == 1
    assert read_manifest(dataset.path).config.partition_count == 2
    assert "ToyPick-v0" in (dataset.path / "README.md").read_text()


def test_a_part_of_one_is_not_continued(dataset: Dataset) -> None:
    manifest = dataset.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    next(iter(dataset.case_files())).unlink()
    with pytest.raises(UserError, match=r"again with `failsafe generate --manifest .*manifest\.json --out"):
        build_dataset(read_manifest(dataset.path).config, dataset.path, lambda _: None)
    assert len(dataset.case_files()) == 1


def test_shards_of_two_versions_do_not_merge(dataset: Dataset, tmp_path: Path) -> None:
    parts = [Path(shutil.copytree(dataset.path, tmp_path / name)) for name in ("a", "b")]
    for i, (part, generator) in enumerate(zip(parts, (1, 2), strict=True)):
        manifest = read_manifest(part)
        write_manifest(part, dataclasses.replace(manifest, shard=f"{i}/2", generator=generator))
    with pytest.raises(UserError, match="made by another version of FailSafe"):
        merge_datasets(tmp_path / "merged", parts)


def test_exploration_samples_are_read() -> None:
    samples = SampleSet(VERSION_1 / "exploration")
    assert samples.exploration == list(range(len(samples))) == [0, 1]
    assert {(s.kind, s.rollout) for s in samples.samples} == {(Kind.EXPLORATION, "exploration")}
    assert samples.manifests[0].config.explore == 2
    assert samples.frames(0).shape == (2, 1, 16, 16, 3)
    assert "--explore 2" in samples.manifests[0].command(Path("out"))


def test_demonstrations_are_read() -> None:
    demonstrations = DemonstrationSet(VERSION_1 / "demonstrations")
    assert set(demonstrations.tasks) == {"ToyPick-v0"}
    assert demonstrations.frames(0).shape == (2, 16, 16, 3)
    assert demonstrations.actions.shape == (len(demonstrations), 8, 7)
