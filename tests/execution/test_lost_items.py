"""A worker that dies costs its item only, in every job; generation and evaluation are tested with theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.execution.fragile import DIES, TASK

from failsafe.datasets.build import build_dataset
from failsafe.datasets.frame_grids import case_folder
from failsafe.datasets.render import RenderOptions, RenderSummary, render_dataset
from failsafe.datasets.store import Dataset
from failsafe.execution.processes import ProcessExecutor
from failsafe.execution.serial import SerialExecutor
from failsafe.generation.config import GenerationConfig, default_modes
from failsafe.imports import following, import_rules
from failsafe.records.assessment import WindowSpec
from failsafe.samples.demonstrate import build_demonstrations
from failsafe.samples.demonstrations import DemonstrationConfig, DemonstrationSet
from failsafe.samples.manifest import SampleConfig, read_sample_manifest
from failsafe.samples.render import build_samples
from failsafe.samples.sample_set import SampleSet

WINDOW = WindowSpec(views=("front",), history=4, frames=1, size=16)


@pytest.fixture(scope="module", autouse=True)
def trusted() -> Iterator[None]:
    """Datasets of these tests name this task, and no stranger made them."""
    with following(replace(import_rules(), names=frozenset({TASK}))):
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Cases of at least two initial states."""
    config = GenerationConfig(
        (TASK,), 3, modes=default_modes(("early_release",)), labels=1, verify_rollouts=1, compound=0.0
    )
    return build_dataset(config, tmp_path_factory.mktemp("lost") / "data", executor=SerialExecutor())


def test_rendering_loses_the_cases_of_the_initial_state(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, view = list(dataset.cases()), RenderOptions("front", 16, 20, full_meshes=False)
    seed = cases[0].seed
    hit = [case.case_id for case in cases if case.seed == seed]
    others = [case for case in cases if case.seed != seed]
    assert others
    done: list[tuple[int, int]] = []
    with monkeypatch.context() as patch:
        patch.setenv(DIES, f"render:{seed}")
        found = render_dataset(dataset, cases, view, ProcessExecutor(2), lambda *said: done.append(said))
    assert found.lost == tuple(sorted([*hit, f"{TASK}/{seed}"]))
    assert (sum(n for n, _ in done), sum(n for _, n in done)) == (len(others), found.images)
    for case in cases:
        assert case_folder(dataset, case.task, case.case_id).exists() == (case in others)
    # Nothing is recorded of the crash: the next run tries again, and here the simulator is well.
    again = render_dataset(dataset, cases, view, SerialExecutor())
    assert again.lost == ()
    assert again.images > 0
    assert render_dataset(dataset, cases, view, SerialExecutor()) == RenderSummary(0, ())


def test_samples_lose_the_initial_state(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SampleConfig(window=WINDOW, only_split="test")
    assert build_samples([dataset.path], tmp_path / "all", config, SerialExecutor()) > 0
    whole = SampleSet(tmp_path / "all")
    seed = whole.samples[0].seed
    monkeypatch.setenv(DIES, f"render:{seed}")
    count = build_samples([dataset.path], tmp_path / "lost", config, ProcessExecutor(2))
    found = SampleSet(tmp_path / "lost")
    assert len(found) == count
    assert [s.name for s in found.samples] == [s.name for s in whole.samples if s.seed != seed]
    assert read_sample_manifest(tmp_path / "lost").lost == (f"{TASK}/{seed:08d}-0",)


def test_explorations_lose_the_initial_state(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SampleConfig(window=WINDOW, splits=("train",), only_split="train", explore=2)
    seeds = sorted(int(path.stem) for path in dataset.nominal_files())
    monkeypatch.setenv(DIES, f"step:{seeds[0]}")
    count = build_samples([dataset.path], tmp_path / "lost", config, ProcessExecutor(2))
    assert {s.seed for s in SampleSet(tmp_path / "lost").samples} == set(seeds[1:])
    assert count == 2 * len(seeds[1:])
    assert read_sample_manifest(tmp_path / "lost").lost == (f"{TASK}/{seeds[0]:08d}-0",)


def test_demonstrations_take_the_next_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DemonstrationConfig((TASK,), 3, first_seed=50, views=("front",), size=16, stride=20)
    monkeypatch.setenv(DIES, "render:51")
    done: list[tuple[int, int]] = []
    build_demonstrations(config, tmp_path, ProcessExecutor(2), lambda *said: done.append(said))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert set(DemonstrationSet(tmp_path).seeds) == {50, 52, 53}
