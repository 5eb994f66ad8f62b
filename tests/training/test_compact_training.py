from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from failsafe.datasets.build import build_dataset
from failsafe.errors import UserError
from failsafe.execution.processes import ProcessExecutor
from failsafe.generation.config import GenerationConfig, default_modes
from failsafe.models.camera_geometry import CameraIntrinsics, camera_features, project
from failsafe.models.compact import load_compact
from failsafe.models.compact_net import CompactConfig, CompactNet
from failsafe.models.object_localizer import POSE, Keypoints, ObjectLocalizer
from failsafe.models.version_1 import EMBODIMENT, NORMALIZATION
from failsafe.records.assessment import WindowSpec
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.render import build_samples
from failsafe.samples.sample import Kind, Sample
from failsafe.samples.sample_set import SampleSet
from failsafe.training import compact
from failsafe.training.batches import Batches, cell_probabilities
from failsafe.training.compact import CHECKPOINT, LOG, best_report, train_compact
from failsafe.training.compact_config import CompactTraining, TrainingReport, is_best, is_finished
from failsafe.training.compact_loss import assessment_loss
from failsafe.training.localizer_loss import localizer_loss, random_point_loss
from failsafe.training.noise import augment_images, delay_objects
from failsafe.training.train import train_model, training_config
from failsafe.training.validation import evaluate, validation_batches

INTRINSICS = (CameraIntrinsics(0.7, False), CameraIntrinsics(0.7, False))
SMALL = {"batch": 16, "widths": (8, 12, 16, 24), "hidden": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples with images, a few of each rollout, and many image-free ones."""
    folder = tmp_path_factory.mktemp("training")
    config = GenerationConfig(
        tasks=("ToyPick-v0",),
        failures=60,
        modes=default_modes(("translation_x", "early_release", "no_op")),
        labels=3,
        verify_rollouts=1,
    )
    build_dataset(config, folder / "data", executor=ProcessExecutor(2))
    window = WindowSpec(views=("front", "side"), history=6, frames=2, size=32)
    seen = SampleConfig(window=window)
    image_free = SampleConfig(window=window, splits=("train",), failing_share=0.0, every=3, images=False)
    for name, config in (("samples", seen), ("image_free", image_free)):
        build_samples([folder / "data"], folder / name, config, ProcessExecutor(2))
    return folder


@pytest.fixture(scope="module")
def samples(folder: Path) -> SampleSet:
    return SampleSet(folder / "samples")


@pytest.mark.parametrize("model", ["compact", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"])
def test_suites_with_different_control_rates_are_an_error_before_training(
    folder: Path, tmp_path: Path, model: str
) -> None:
    other = shutil.copytree(folder / "samples", tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    robot = manifest["embodiments"].pop("ToyPick-v0")
    manifest["embodiments"]["suite/slower"] = {**robot, "control_hz": 10.0}
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"got 20 Hz, .* for ToyPick-v0 and 10 Hz, .* for suite/slower"):
        train_model([folder / "samples", other], tmp_path / "out", training_config(model))
    assert not (tmp_path / "out").exists()


def test_it_learns(samples: SampleSet, tmp_path: Path) -> None:
    reports: list[TrainingReport] = []
    path = train_compact(
        samples,
        CompactTraining(steps=400, validate_every=100, average=0.9, **SMALL),
        tmp_path,
        reports.append,
    )
    assert reports[-1].loss < 0.75 * reports[0].loss
    model = load_compact(path)
    rows = samples.indices("train")
    right = [model.assess(samples.window(i)).failing == samples.samples[i].failing for i in rows]
    assert np.mean(right) > 0.7
    assert model.meta.train_seeds == {"ToyPick-v0": tuple(sorted({samples.samples[i].seed for i in rows}))}


def reports_of(*losses: float) -> list[TrainingReport]:
    """Return the reports of a training with these validation losses, one every 10 steps."""
    reports: list[TrainingReport] = []
    for number, loss in enumerate(losses, start=1):
        scores = {"loss": loss}
        reports.append(TrainingReport(10 * number, 100, 0.0, 1.0, scores, is_best(reports, scores)))
    return reports


@pytest.mark.parametrize(
    ("losses", "patience", "best", "finished"),
    [
        ((3.0, 2.0, 1.0), 2, (True, True, True), False),
        ((3.0, 1.0, 2.0), 2, (True, True, False), False),
        ((3.0, 1.0, 2.0, 1.5), 2, (True, True, False, False), True),
        ((3.0, 1.0, 1.0, 0.9), 2, (True, True, False, True), False),
        ((1.0, 2.0, 3.0, 4.0), 0, (True, False, False, False), False),
        ((1.0,) * 10, 0, (True, *(False,) * 9), True),  # 100 of 100 steps
        ((), 2, (), False),
    ],
)
def test_training_ends_when_validation_stops_improving(
    losses: tuple[float, ...], patience: int, best: tuple[bool, ...], finished: bool
) -> None:
    reports = reports_of(*losses)
    assert tuple(report.best for report in reports) == best
    assert is_finished(reports, CompactTraining(steps=100, patience=patience)) == finished


def test_an_early_end_keeps_the_best_weights(samples: SampleSet, tmp_path: Path) -> None:
    """At a learning rate at which the loss rises again."""
    settings = CompactTraining(steps=200, validate_every=4, patience=2, rate=0.1, average=0.5, **SMALL)
    reports: list[TrainingReport] = []
    path = train_compact(samples, settings, tmp_path, reports.append)
    assert reports[-1].step < 200
    assert [report.best for report in reports[-3:]] == [True, False, False]
    best = best_report(tmp_path)
    assert best == reports[-3]
    model = load_compact(path)
    validation = validation_batches(samples, model.meta.config)
    assert validation is not None
    scores = evaluate(model.net, validation, torch.device("cpu"))
    assert scores["loss"] == pytest.approx(best.validation["loss"], rel=0.02)
    assert json.loads(model.meta.trained["report"])["step"] == best.step
    # The run is over: the same call changes nothing, and reports nothing.
    train_compact(samples, settings, tmp_path, lambda report: pytest.fail("no step was left"))


def test_without_validation_samples_all_steps_are_taken(folder: Path, tmp_path: Path) -> None:
    settings = CompactTraining(
        steps=4, validate_every=1, patience=1, image_free_batch=64, proprioception_only=True, **SMALL
    )
    reports: list[TrainingReport] = []
    train_compact(SampleSet(folder / "image_free"), settings, tmp_path, reports.append)
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert best_report(tmp_path).step == 4, "the last weights are kept"


def test_a_pass_takes_every_sample_once(samples: SampleSet, tmp_path: Path) -> None:
    rows = samples.indices("train")[:40]
    config = CompactConfig(samples.spec, ("no_op",), ("reach",), ("pick",), EMBODIMENT, NORMALIZATION)
    batches = Batches(samples, rows, config)

    def seen(number: int) -> list[tuple[float, ...]]:
        _, truth = batches.step(number, 20, 0, np.random.default_rng(number))
        return [tuple(row.tolist()) for row in truth.tcp_poses]

    everything = sorted(tuple(row.tolist()) for row in batches.truth.tcp_poses)
    assert sorted(seen(0) + seen(1)) == everything
    assert sorted(seen(2) + seen(3)) == everything
    assert seen(0) != seen(2), "each pass has an order of its own"
    assert seen(1) == seen(1), "the samples of a step do not depend on the steps before"


def test_an_interrupted_run_ends_as_one_that_was_not(samples: SampleSet, tmp_path: Path) -> None:
    settings = CompactTraining(steps=12, validate_every=5, **SMALL)
    torch.set_num_threads(1)
    train_compact(samples, settings, tmp_path / "whole", lambda report: None)

    class Interrupted(Exception):
        pass

    def interrupt(report: TrainingReport) -> None:
        if report.step == 10:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_compact(samples, settings, tmp_path / "parts", interrupt)
    train_compact(samples, settings, tmp_path / "parts", lambda report: None)
    first, second = (load_compact(tmp_path / name / CHECKPOINT) for name in ("whole", "parts"))
    for name, tensor in first.net.state_dict().items():
        torch.testing.assert_close(tensor, second.net.state_dict()[name], msg=name)
    assert len((tmp_path / "parts" / LOG).read_text().splitlines()) == 3


def test_a_run_that_was_killed_before_its_state_was_written_repeats_the_steps(
    samples: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = CompactTraining(steps=8, validate_every=4, **SMALL)
    torch.set_num_threads(1)
    train_compact(samples, settings, tmp_path / "whole", lambda report: None)
    save = compact._save_state

    def killed(path: Path, identity: str, lines: list[str], *rest: Any) -> None:
        if len(lines) == 2:
            raise KeyboardInterrupt
        save(path, identity, lines, *rest)

    monkeypatch.setattr(compact, "_save_state", killed)
    with pytest.raises(KeyboardInterrupt):
        train_compact(samples, settings, tmp_path / "parts", lambda report: None)
    monkeypatch.undo()
    train_compact(samples, settings, tmp_path / "parts", lambda report: None)
    first, second = (load_compact(tmp_path / name / CHECKPOINT) for name in ("whole", "parts"))
    for name, tensor in first.net.state_dict().items():
        torch.testing.assert_close(tensor, second.net.state_dict()[name], msg=name)
    assert len((tmp_path / "parts" / LOG).read_text().splitlines()) == 2


def test_other_samples_with_the_same_words_are_another_run(folder: Path, tmp_path: Path) -> None:
    first = SampleSet(folder / "samples")
    train_compact(first, CompactTraining(steps=4, **SMALL), tmp_path, lambda report: None)
    other = SampleSet(folder / "samples", folder / "image_free")
    other.samples[other.indices("train")[0]] = replace(
        other.samples[other.indices("train")[0]], name="another moment"
    )
    with pytest.raises(UserError, match="holds a run with other settings or samples"):
        train_compact(other, CompactTraining(steps=4, **SMALL), tmp_path, lambda report: None)


def test_a_folder_of_another_run_is_not_overwritten(samples: SampleSet, tmp_path: Path) -> None:
    train_compact(samples, CompactTraining(steps=4, **SMALL), tmp_path, lambda report: None)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match="holds a run with other settings"):
        train_compact(samples, CompactTraining(steps=5, **SMALL), tmp_path, lambda report: None)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_too_few_samples(samples: SampleSet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected at least 100000 samples with images"):
        train_compact(samples, CompactTraining(batch=100_000), tmp_path, lambda report: None)


def test_truth_is_that_of_the_samples(samples: SampleSet, tmp_path: Path) -> None:
    path = train_compact(samples, CompactTraining(steps=4, **SMALL), tmp_path, lambda report: None)
    config = load_compact(path).meta.config
    rows = samples.indices("train")
    batches = Batches(samples, rows, config)
    for i, row in enumerate(rows[:50]):
        sample: Sample = samples.samples[row]
        truth = batches.truth
        assert bool(truth.failing[i]) == sample.failing
        assert bool(truth.correction_weight[i]) == bool(sample.actions)
        assert config.stages[int(truth.stage[i])] == sample.stage
        if sample.failing:
            assert config.modes[int(truth.mode[i])] == sample.mode
            assert bool(truth.help[i]) == (not sample.recoverable)
        box = samples.objects[row, 0, :3] - samples.tcp_poses[row, -1, :3]
        np.testing.assert_allclose(truth.objects[i, :3].numpy(), 10 * box, atol=1e-5)
    assert (batches.truth.objects[:, :6] != 0).any(dim=0).all()  # a box and a goal


def test_exploration_samples_train_the_localizer_only(folder: Path, tmp_path: Path) -> None:
    """Said to be failing or not, such a window weighs nothing; where its objects are does."""
    window = SampleSet(folder / "samples").spec
    config = SampleConfig(window=window, splits=("train",), explore=4)
    build_samples([folder / "data"], tmp_path / "exploration", config, ProcessExecutor(2))
    both = SampleSet(folder / "samples", tmp_path / "exploration")
    path = train_compact(both, CompactTraining(steps=4, **SMALL), tmp_path / "run", lambda report: None)
    model = load_compact(path)
    assert "" not in model.meta.config.stages
    batches = Batches(both, both.exploration, model.meta.config)
    [(inputs, truth)] = batches.all(len(both.exploration))
    with torch.inference_mode():
        out = model.net(inputs)
        predicted = [
            float(assessment_loss(out, replace(truth, failing=torch.full_like(truth.failing, f))))
            for f in (0, 1)
        ]
        assert model.net.localizer is not None
        assert out.keypoints is not None
        localizer = float(localizer_loss(model.net.localizer, out.keypoints, inputs.motion[:, :POSE], truth))
    assert predicted == [0.0, 0.0], "nothing is learned from them but what is where"
    assert localizer > 0


def test_image_free_samples_improve_the_classifier(folder: Path, tmp_path: Path) -> None:
    """Trained on few images and many image-free samples, it classifies from object positions."""
    both = SampleSet(folder / "samples", folder / "image_free")
    seen, image_free = both.indices("train"), both.indices("train", images=False)
    assert len(image_free) > 3 * len(seen) > 0
    assert not set(seen) & set(image_free)
    scores = {}
    for name, data in (("alone", SampleSet(folder / "samples")), ("both", both)):
        settings = CompactTraining(steps=60, average=0.9, image_free_batch=256, **SMALL)
        model = load_compact(train_compact(data, settings, tmp_path / name, lambda report: None))
        rows = both.indices("train", images=False)
        batches = Batches(both, rows, model.meta.config, images=False)
        [(inputs, truth)] = batches.all(len(rows))
        with torch.inference_mode():
            predicted = model.net(inputs).failing > 0
        true = truth.failing > 0.5
        scores[name] = float(predicted[true].float().mean() + (~predicted[~true]).float().mean()) / 2
    assert scores["both"] > scores["alone"] + 0.1


@pytest.mark.slow
@pytest.mark.long
def test_proprioception_alone_gives_far_less_away(tmp_path: Path) -> None:
    """The same samples and classifier, with object positions and without."""
    config = GenerationConfig(
        tasks=("ToyPick-v0",),
        failures=150,
        modes=default_modes(("translation_x", "translation_y", "object_pushed")),
        labels=3,
        verify_rollouts=1,
    )
    build_dataset(config, tmp_path / "data", executor=ProcessExecutor(2))
    window = WindowSpec(views=("front", "side"), history=6, frames=2, size=32)
    learned = SampleConfig(window, splits=("train",), failing_share=0.0, every=3, images=False)
    held_out = SampleConfig(window, splits=("validation", "calibration", "test"), images=False)
    seen = SampleConfig(window, splits=("train",))
    for name, made in {"image_free": learned, "held": held_out, "seen": seen}.items():
        build_samples([tmp_path / "data"], tmp_path / name, made, ProcessExecutor(2))
    held = SampleSet(tmp_path / "held")
    right: dict[bool, float] = {}
    for proprioception_only in (False, True):
        # With images, every step is followed by two image-free steps.
        folders = (
            [tmp_path / "image_free"] if proprioception_only else [tmp_path / "seen", tmp_path / "image_free"]
        )
        settings = CompactTraining(
            steps=400 if proprioception_only else 150,
            average=0.9,
            image_free_batch=256,
            proprioception_only=proprioception_only,
            **{**SMALL, "hidden": 128},
        )
        path = train_compact(
            SampleSet(*folders), settings, tmp_path / f"run-{proprioception_only}", lambda report: None
        )
        net = load_compact(path).net
        batches = Batches(held, range(len(held)), net.config, images=False)
        right[proprioception_only] = evaluate(net, batches, torch.device("cpu"))["balanced_accuracy"]
    assert right[False] > 0.75
    assert right[True] > 0.6, "proprioception gives something away"
    assert right[False] > right[True] + 0.08


def test_a_kept_localizer_is_not_changed(folder: Path, tmp_path: Path) -> None:
    settings = CompactTraining(steps=16, image_free_batch=128, **SMALL)
    localizer = train_compact(
        SampleSet(folder / "samples"), settings, tmp_path / "localizer", lambda report: None
    )
    kept = replace(settings, steps=60, validate_every=20, localizer=str(localizer))
    reports: list[TrainingReport] = []
    path = train_compact(SampleSet(folder / "image_free"), kept, tmp_path / "run", reports.append)
    assert reports[-1].loss < 0.8 * reports[0].loss
    before, after = (load_compact(p).net for p in (localizer, path))
    assert before.localizer is not None
    assert after.localizer is not None
    for name, tensor in before.localizer.state_dict().items():
        torch.testing.assert_close(after.localizer.state_dict()[name], tensor, msg=name, atol=0, rtol=0)
    assert not torch.equal(before.trunk[0].weight, after.trunk[0].weight)
    assert after.config.intrinsics == before.config.intrinsics
    # The training seeds of the localizer are training seeds of the whole network.
    old, new = (load_compact(p).meta for p in (localizer, path))
    assert all(set(seeds) <= set(new.train_seeds[task]) for task, seeds in old.train_seeds.items())
    assert new.trained["localizer, samples"] == old.trained["samples"]
    again = replace(settings, localizer=str(path))
    later = train_compact(SampleSet(folder / "image_free"), again, tmp_path / "again", lambda report: None)
    known = load_compact(later).meta.trained
    assert known["localizer, samples"] == old.trained["samples"], "it is the same localizer"
    assert not any(what.startswith("localizer, localizer, ") for what in known)


def test_a_localizer_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    image_free = SampleSet(folder / "image_free")
    with pytest.raises(
        UserError, match=r"expected a localizer for views \('front', 'side'\) as the samples have"
    ):
        train_compact(image_free, CompactTraining(localizer="compact"), tmp_path, lambda report: None)
    with pytest.raises(UserError, match="expected proprioception_only or a localizer to keep, got both"):
        CompactTraining(proprioception_only=True, localizer="compact")
    settings = CompactTraining(steps=4, image_free_batch=128, proprioception_only=True, **SMALL)
    proprioception_only = train_compact(
        SampleSet(folder / "samples"), settings, tmp_path / "proprioception_only", lambda report: None
    )
    with pytest.raises(UserError, match="expected a compact model with an object localizer"):
        train_compact(
            image_free,
            CompactTraining(localizer=str(proprioception_only)),
            tmp_path / "run",
            lambda report: None,
        )


def test_image_free_samples_are_drawn_evenly(folder: Path) -> None:
    both = SampleSet(folder / "samples", folder / "image_free")
    rows = both.indices("train", images=False)
    config = CompactConfig(both.spec, ("no_op",), ("reach",), ("pick",), EMBODIMENT, NORMALIZATION)
    batches = Batches(both, rows, config, images=False)
    assert not 0.4 < float(batches.truth.failing.mean()) < 0.6
    inputs, truth = batches.draw(2000, np.random.default_rng(0))
    assert float(truth.failing.mean()) == pytest.approx(0.5, abs=0.05)
    assert inputs.objects is not None
    assert (inputs.objects[:, 6:] == 0).all()
    off = (inputs.objects - truth.objects)[:, :6].unflatten(1, (2, 3)).norm(dim=2)
    away = truth.objects[:, :6].unflatten(1, (2, 3)).norm(dim=2)
    near, far = off[away < 0.5].mean(), off[away > 1.0].mean()
    assert 0.03 < float(near) < 0.12  # decimetres: as much as where objects are seen
    assert float(far) > 1.5 * float(near)


def test_what_is_rare_is_drawn_more_often_than_it_is_there() -> None:
    cells = {
        ("many", True, Kind.JUST_AFTER): 1000,
        ("many", True, Kind.LATE): 3000,
        ("many", False, Kind.RECOVERED): 6000,
        ("few", True, Kind.LATE): 10,
        ("few", False, Kind.HARMLESS): 40,
        ("few", False, Kind.NOMINAL): 50,
    }
    odds = dict(zip(cells, cell_probabilities(cells), strict=True))
    assert sum(odds.values()) == pytest.approx(1.0)
    many = sum(share for (task, *_), share in odds.items() if task == "many")
    assert many == pytest.approx(10 / 11)
    for task in ("many", "few"):
        failing = sum(share for cell, share in odds.items() if cell[:2] == (task, True))
        assert failing == pytest.approx((many if task == "many" else 1 - many) / 2)
    assert odds["many", True, Kind.JUST_AFTER] > odds["many", True, Kind.LATE]
    assert odds["few", False, Kind.HARMLESS] > odds["few", False, Kind.NOMINAL]


def test_some_object_positions_are_delayed() -> None:
    """A box on the table is delayed, one in the gripper is not, and absent objects stay absent."""
    objects = torch.tensor([[1.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0]]).repeat(4000, 1)
    moved = torch.tensor([[[0.1, 0.0, 0.0], [0.2, 0.0, 0.0], [0.3, 0.0, 0.0]]]).repeat(4000, 1, 1)
    seen = delay_objects(objects, moved, np.random.default_rng(0))
    torch.testing.assert_close(seen[:, 3:], objects[:, 3:])
    steps = (10 * (seen[:, 0] - 1.0)).round().int().bincount()
    assert 0.88 < steps[0] / 4000 < 0.92
    assert all(steps[k] > 100 for k in (1, 2, 3))


def test_image_free_samples_have_no_window_with_images(folder: Path) -> None:
    image_free = SampleSet(folder / "image_free")
    with pytest.raises(UserError, match="expected samples with images"):
        image_free.window(0)


def test_no_gradient_of_the_classifier_reaches_the_localizer(samples: SampleSet) -> None:
    """The localizer is trained by its own loss, the trunk by all others."""
    rows = samples.indices("train")[:32]
    config = CompactConfig(
        samples.spec,
        ("no_op",),
        ("reach",),
        ("pick",),
        EMBODIMENT,
        NORMALIZATION,
        (8, 12, 16, 24),
        64,
        INTRINSICS,
    )
    net = CompactNet(config)
    [(inputs, truth)] = Batches(samples, rows, config).all(32)
    out = net(inputs)
    assert net.localizer is not None
    assert out.keypoints is not None
    assessment_loss(out, truth).backward(retain_graph=True)
    assert not any(p.grad is not None and p.grad.any() for p in net.localizer.parameters())
    assert all(p.grad is not None for p in net.trunk.parameters())
    net.zero_grad(set_to_none=True)
    localizer_loss(net.localizer, out.keypoints, inputs.motion[:, :POSE], truth).backward()
    assert all(p.grad is not None for p in net.localizer.encoders.parameters() if p.requires_grad)
    assert all(p.grad is None for p in net.trunk.parameters())


def test_random_points_train_the_refiner(samples: SampleSet) -> None:
    """Trained on random points only, the refiner improves real ones with true keypoints."""
    torch.manual_seed(0)
    rows = samples.indices("train")[:64]
    config = CompactConfig(
        samples.spec,
        ("no_op",),
        ("reach",),
        ("pick",),
        EMBODIMENT,
        NORMALIZATION,
        (8, 12, 16, 24),
        64,
        INTRINSICS,
    )
    localizer = ObjectLocalizer(INTRINSICS, 6, 32, (8, 12, 16, 24), 2, NORMALIZATION)
    [(inputs, truth)] = Batches(samples, rows, config).all(len(rows))
    pose = inputs.motion[:, :POSE]
    things = truth.objects[:, :6].unflatten(1, (2, 3))  # a box and a goal
    tool = truth.tcp_poses[:, None, :3]
    pixels, inside = project(truth.cameras, truth.tcp_poses, torch.cat([tool, tool + things / 10], dim=1))
    cameras = camera_features(truth.cameras)
    spread = torch.full(inside.shape, -4.5)
    wrong = cameras + 0.03 * torch.randn_like(cameras)  # errors of predicted cameras
    keypoints = Keypoints(
        pixels, 20.0 * inside.float() - 10.0, spread, wrong, torch.ones(len(rows), 2), things
    )

    def off() -> float:
        found = localizer.lift(pixels, keypoints.weight, wrong, pose).detach()
        return float((found - things).norm(dim=2).mean())

    before = off()
    optimizer = torch.optim.Adam(localizer.refiner.parameters(), 1e-3)
    for _ in range(300):
        optimizer.zero_grad()
        random_point_loss(localizer, keypoints, pose, truth).backward()
        optimizer.step()
    assert off() < 0.8 * before


def test_augmentation_covers_darkens_and_lags() -> None:
    """Three grey time steps that differ: occluders, black views and delays are all visible."""
    grey = torch.tensor([0.2, 0.4, 0.6]).repeat_interleave(3)
    frames = grey[None, None, :, None, None].repeat(400, 2, 1, 16, 16)
    changed = frames.clone()
    augment_images(changed, 3, np.random.default_rng(0))
    corner, spread = changed[:, :, :, 0, 0], changed.flatten(3).std(dim=3).amax(2)
    black = (changed == 0).flatten(2).all(2)
    covered = spread > 0.01
    # Each moment shows the one before; of the oldest there is none before.
    late = torch.isclose(corner, torch.tensor([0.2, 0.2, 0.4]).repeat_interleave(3)).all(2)
    # Colour changes by channel; what is late or covered is so in every one.
    lit = (corner[:, :, 0] != corner[:, :, 1]) & ~covered & ~black
    for share, low, high in (
        (black, 0.005, 0.03),
        (covered, 0.08, 0.18),
        (late, 0.01, 0.06),
        (lit, 0.3, 0.6),
    ):
        assert low < float(share.float().mean()) < high


def test_augmentation_changes_all_moments_of_a_view_alike() -> None:
    frames = torch.rand(40, 2, 3, 8, 8).repeat(1, 1, 3, 1, 1)  # three equal moments
    changed = frames.clone()
    augment_images(changed, 3, np.random.default_rng(0))
    assert not torch.equal(frames, changed)
    torch.testing.assert_close(changed[:, :, :3], changed[:, :, 3:6])
    assert changed.min() >= 0
    assert changed.max() <= 1
