"""Any number of objects, from samples to an assessment; more than a checkpoint has slots for are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.training.crowded import TASK

from failsafe.datasets.build import build_dataset
from failsafe.errors import UserError
from failsafe.evaluation.scoring import OfflineTest
from failsafe.execution.processes import ProcessExecutor
from failsafe.generation.config import GenerationConfig, default_modes
from failsafe.imports import following, import_rules
from failsafe.models.compact import CompactModel, load_compact
from failsafe.models.contract import check_objects
from failsafe.models.loading import load_model
from failsafe.records.assessment import WindowSpec
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.render import build_samples
from failsafe.samples.sample_set import SampleSet
from failsafe.training.compact import train_compact
from failsafe.training.compact_config import CompactTraining
from failsafe.training.targets import make_targets

VIEWS = ("front", "side")
SMALL = CompactTraining(steps=2, batch=8, widths=(8, 12, 16, 24), hidden=32)


@pytest.fixture(scope="module", autouse=True)
def trusted() -> Iterator[None]:
    """Datasets of these tests name this task, and no stranger made them."""
    with following(replace(import_rules(), names=frozenset({TASK}))):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of six objects, and of two."""
    folder, executor = tmp_path_factory.mktemp("crowded"), ProcessExecutor(1)
    window = WindowSpec(views=VIEWS, history=4, frames=1, size=32)
    for name, task in (("six", TASK), ("two", "ToyPick-v0")):
        config = GenerationConfig(
            tasks=(task,), failures=8, modes=default_modes(("translation_x",)), labels=2, verify_rollouts=1
        )
        build_dataset(config, folder / f"{name}-data", executor=executor)
        wanted = SampleConfig(window, only_split="train")
        build_samples([folder / f"{name}-data"], folder / name, wanted, executor)
    return folder


def test_six_objects_from_samples_to_an_assessment(folder: Path, tmp_path: Path) -> None:
    samples = SampleSet(folder / "six")
    assert samples.objects.shape[1] == 6
    assert samples.objects_by_task == {TASK: 6}
    rows = samples.indices("train")
    assert len(rows) >= 16, "at least two steps"
    model = load_compact(train_compact(samples, SMALL, tmp_path, lambda report: None))
    config = model.meta.config
    assert config.objects == 6
    assert model.net.localizer is not None
    assert model.net.localizer.points == 7
    truth = make_targets(samples, rows, config).objects.unflatten(1, (6, 3))
    expected = samples.objects[rows, :, :3] - samples.tcp_poses[rows, -1, None, :3]
    np.testing.assert_allclose(truth.numpy(), 10 * expected, atol=1e-5)
    assert (truth[:, 5] != 0).any(), "the sixth object is there"
    window = samples.window(rows[0])
    assert 0 <= model.assess(window).failure_probability <= 1
    assert model.locate(window).shape == (6, 3)


def test_sets_of_different_tasks_are_padded(folder: Path, tmp_path: Path) -> None:
    both = SampleSet(folder / "two", folder / "six")
    assert both.objects.shape[1] == 6
    assert both.objects_by_task == {"ToyPick-v0": 2, TASK: 6}
    two = [i for i, sample in enumerate(both.samples) if sample.task == "ToyPick-v0"]
    assert np.isnan(both.objects[two, 2:]).all()
    assert np.isfinite(both.objects[two, :2]).all()
    assert SampleSet(folder / "two").objects.shape[1] == 2


def test_more_objects_than_slots_are_refused_before_training(folder: Path, tmp_path: Path) -> None:
    few = train_compact(SampleSet(folder / "two"), SMALL, tmp_path / "few", lambda report: None)
    kept = CompactTraining(steps=2, image_free_batch=8, localizer=str(few), hidden=32)
    with pytest.raises(UserError, match=f"expected a task of at most 2 objects.*got {TASK} with 6"):
        train_compact(SampleSet(folder / "six"), kept, tmp_path / "run", lambda report: None)
    assert not (tmp_path / "run").exists()
    # The same task is refused before it is scored.
    scored = OfflineTest([folder / "six"], "train")
    with pytest.raises(UserError, match="expected a task of at most 2 objects"):
        scored.check("few", load_compact(few, any_instruction=True), any_instruction=True)


def test_the_shipped_model_states_its_slots() -> None:
    model = load_model("compact")
    assert isinstance(model, CompactModel)
    check_objects(model, "PickCube-v1", 4)
    check_objects(object(), "Crowd", 5)
    with pytest.raises(UserError, match=r"expected a task of at most 4 objects, .* got Crowd with 5"):
        check_objects(model, "Crowd", 5)
