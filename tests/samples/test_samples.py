from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from failsafe.datasets.build import build_dataset
from failsafe.datasets.store import Dataset
from failsafe.errors import RecordError, UserError
from failsafe.execution.processes import ProcessExecutor
from failsafe.execution.serial import SerialExecutor
from failsafe.experts.tasks import load_task
from failsafe.generation.config import GenerationConfig, default_modes
from failsafe.generation.exploration import STEPS, explore
from failsafe.models.camera_geometry import project
from failsafe.records import poses
from failsafe.records.assessment import Window, WindowSpec
from failsafe.records.case import FAILING
from failsafe.records.trace import pack, unpack
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.render import build_samples
from failsafe.samples.sample import Kind, Sample
from failsafe.samples.sample_set import SampleSet
from failsafe.samples.select import failure_visible, select_samples
from failsafe.samples.splits import SPLITS, check_leaks, split_of
from failsafe.samples.windows import cut_window, window_cameras

MODES = ("translation_x", "early_release", "object_dropped", "no_op", "object_pushed")
WINDOW = WindowSpec(views=("front", "side"), history=6, frames=2, size=32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("samples") / "data"
    config = GenerationConfig(
        tasks=("ToyPick-v0", "ToyPush-v0"),
        failures=24,
        modes=default_modes(MODES),
        labels=3,
        verify_rollouts=1,
    )
    build_dataset(config, path, executor=ProcessExecutor(2))
    return Dataset(path)


@pytest.fixture(scope="module")
def built(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples with images, which no test changes."""
    path = tmp_path_factory.mktemp("samples") / "built"
    build_samples([dataset.path], path, SampleConfig(window=WINDOW), SerialExecutor())
    return path


@pytest.fixture(scope="module")
def unseen(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples without images, which no test changes."""
    path = tmp_path_factory.mktemp("samples") / "unseen"
    build_samples([dataset.path], path, SampleConfig(window=WINDOW, images=False), SerialExecutor())
    return path


@pytest.fixture(scope="module")
def planned(dataset: Dataset) -> list[Sample]:
    return select_samples([dataset], SampleConfig(WINDOW))


def test_splits_have_their_shares_of_the_seeds() -> None:
    counts = Counter(split_of(seed) for seed in range(20_000))
    assert list(counts[name] / 20_000 for name in SPLITS) == pytest.approx([0.70, 0.05, 0.10, 0.15], abs=0.01)


def test_every_kind_of_moment_is_there(planned: list[Sample]) -> None:
    kinds = {sample.kind for sample in planned}
    assert kinds >= {Kind.NOMINAL, Kind.HARMLESS, Kind.BEFORE, Kind.JUST_AFTER, Kind.RECOVERED}


def test_truth_of_failing_moments_is_that_of_the_labels(dataset: Dataset, planned: list[Sample]) -> None:
    checked = 0
    for sample in planned:
        if not sample.failing:
            assert (sample.mode, sample.actions, sample.delay, sample.recoverable) == ("", (), None, None)
            continue
        case = dataset.case(sample.task, sample.case_id)
        label = next(x for x in case.labels if x.step == sample.step)
        assert sample.stage == label.stage
        assert sample.actions == (label.correction.actions if label.correction else ())
        assert sample.recoverable == (label.correction is not None)
        assert sample.mode == (case.perturbations[0].mode if len(case.perturbations) == 1 else "compound")
        checked += 1
    assert checked > 20


def test_moments_lie_where_their_kind_says(dataset: Dataset, planned: list[Sample]) -> None:
    for sample in planned:
        assert sample.step >= WINDOW.history
        if sample.kind is Kind.NOMINAL:
            continue
        case = dataset.case(sample.task, sample.case_id)
        traces = dataset.traces(sample.task, sample.case_id)
        assert sample.step <= len(traces[sample.rollout])
        if sample.kind is Kind.BEFORE:
            assert case.times.onset_step is not None
            assert sample.step < case.times.onset_step
        elif sample.kind is Kind.RECOVERED:
            label = next(x for x in case.labels if x.recovery == sample.rollout)
            assert label.correction is not None
            assert sample.step >= label.step + len(label.correction.actions)
        elif sample.failing:
            assert sample.delay == sample.step - failure_visible(case, traces[FAILING])
            assert sample.delay >= 0


def test_half_of_every_task_and_split_fails(planned: list[Sample]) -> None:
    groups: dict[tuple[str, str], list[bool]] = {}
    for sample in planned:
        groups.setdefault((sample.task, sample.split), []).append(sample.failing)
    for failing in groups.values():
        if any(failing) and not all(failing):
            assert abs(sum(failing) - len(failing) / 2) <= 1


def test_a_limit_for_each_mode_and_stage(dataset: Dataset) -> None:
    limited = select_samples([dataset], SampleConfig(WINDOW, per_cell=2))
    cells = Counter((s.task, s.split, s.mode, s.stage) for s in limited if s.failing)
    assert max(cells.values()) == 2


def test_a_moment_every_so_many_steps(dataset: Dataset, planned: list[Sample]) -> None:
    dense = select_samples([dataset], SampleConfig(WINDOW, failing_share=0.0, every=3))
    check_leaks(dense)
    assert len(dense) > 3 * len(planned)
    by_rollout: dict[tuple[str, ...], list[int]] = {}
    between = 0
    case_of = functools.cache(dataset.case)
    visible_in = functools.cache(
        lambda task, case_id: failure_visible(case_of(task, case_id), dataset.traces(task, case_id)[FAILING])
    )
    for sample in dense:
        if sample.case_id and sample.failing:
            case = case_of(sample.task, sample.case_id)
            first = visible_in(sample.task, sample.case_id)
            assert first <= sample.step <= max(label.step for label in case.labels)
            assert sample.mode == (case.perturbations[0].mode if len(case.perturbations) == 1 else "compound")
            if sample.step not in {label.step for label in case.labels}:
                assert (sample.actions, sample.recoverable) == ((), None)  # nobody looked for a way back
                between += 1
        if sample.kind is Kind.HARMLESS:
            by_rollout.setdefault((sample.task, sample.case_id), []).append(sample.step)
    assert between > 20
    assert all(set(np.diff(steps)) == {3} for steps in by_rollout.values())


def test_a_leak_fails_loudly(planned: list[Sample]) -> None:
    check_leaks(planned)
    train = next(s for s in planned if s.split == "train")
    moved = dataclasses.replace(train, name="other", split="test")
    with pytest.raises(RecordError, match=f"seed {train.seed} in train and test"):
        check_leaks([*planned, moved])
    with pytest.raises(RecordError, match=r"unique sample names, got .* twice"):
        check_leaks([*planned, train])


def test_windows_are_what_the_trace_shows(dataset: Dataset, tmp_path: Path) -> None:
    config = SampleConfig(window=WINDOW, jitter_metres=0.05, jitter_degrees=5.0)
    out = tmp_path / "samples"
    count = build_samples([dataset.path], out, config, SerialExecutor())
    samples = SampleSet(out)
    assert len(samples) == count
    for index in (0, count // 2, count - 1):
        sample, window = samples.samples[index], samples.window(index)
        window.check(WINDOW)
        assert window.instruction == sample.instruction
        if sample.rollout == "nominal":
            trace = dataset.nominal(sample.task, sample.seed)[1]
        else:
            trace = dataset.traces(sample.task, sample.case_id)[sample.rollout]
        np.testing.assert_array_equal(window.tcp_poses[-1], trace.tcp_poses[sample.step])
        np.testing.assert_array_equal(window.tcp_poses[0], trace.tcp_poses[sample.step - WINDOW.history])
        simulator = load_task(sample.task).simulator
        simulator.reset(sample.seed)
        simulator.restore(trace.states[sample.step])
        cameras = window_cameras(simulator, config, sample.name)
        np.testing.assert_array_equal(window.frames[:, -1], simulator.render(cameras, WINDOW.size))
        straight = simulator.render([simulator.camera(v) for v in WINDOW.views], WINDOW.size)
        assert not np.array_equal(window.frames[:, -1], straight)  # the cameras did move
    for sample, ahead, tcp_poses in zip(
        samples.samples, samples.continuation, samples.tcp_poses, strict=True
    ):
        if sample.kind not in (Kind.NOMINAL, Kind.RECOVERED):  # not to be imitated
            assert np.isnan(ahead).all()
            continue
        nominal = dataset.nominal(sample.task, sample.seed)[1]
        trace = (
            nominal
            if sample.rollout == "nominal"
            else dataset.traces(sample.task, sample.case_id)[sample.rollout]
        )
        last = min(sample.step + len(ahead), len(trace)) - 1
        led = poses.apply_delta(tcp_poses[-1].astype(np.float64), ahead[-1, :6].astype(np.float64))
        assert max(poses.distance(led, trace.targets[last].astype(np.float64))) < 1e-5
        assert ahead[-1, 6] == trace.gripper_commands[last]


def test_a_window_holds_no_time(dataset: Dataset) -> None:
    """The same moment later in an episode is the same window, and nothing else is in one."""
    case = next(c for c in dataset.cases() if c.labels)
    trace = dataset.traces(case.task, case.case_id)[FAILING]
    arrays = {name: rows for name, rows in vars(trace).items() if isinstance(rows, np.ndarray)}
    waits = {name: np.concatenate([rows[:1].repeat(9, axis=0), rows]) for name, rows in arrays.items()}
    simulator = load_task(case.task).simulator
    simulator.reset(case.seed)
    cameras = [simulator.camera(view) for view in WINDOW.views]
    now, later = (
        cut_window(simulator, shown, step, WINDOW, cameras)
        for shown, step in ((trace, 12), (dataclasses.replace(trace, **waits), 21))
    )
    for one, other in zip(now, later, strict=True):
        np.testing.assert_array_equal(one, other)
    seen = {field.name for field in dataclasses.fields(Window)}
    assert seen == {"instruction", "spec", "frames", "tcp_poses", "gripper_widths", "name"}


def test_a_tool_that_wanders_about(dataset: Dataset, tmp_path: Path) -> None:
    """Windows for eyes alone: many places of the tool, nothing said of failing, and in no split's numbers."""
    config = SampleConfig(window=WINDOW, splits=("train",), explore=3)
    for name, executor in (("a", SerialExecutor()), ("b", ProcessExecutor(2))):
        build_samples([dataset.path], tmp_path / name, config, executor)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.np[yz]"))
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    samples = SampleSet(tmp_path / "a")
    assert len(samples) == len(samples.exploration) == 3 * len(files) / 2
    assert samples.indices("train") == []
    assert {(s.split, s.kind, s.stage, s.mode) for s in samples.samples} == {
        ("train", Kind.EXPLORATION, "", "")
    }
    assert np.isnan(samples.continuation).all()
    nominal = [dataset.nominal(s.task, s.seed)[1] for s in samples.samples]
    near = [
        np.linalg.norm(trace.tcp_poses[:, :3] - poses[-1, :3], axis=1).min()
        for trace, poses in zip(nominal, samples.tcp_poses, strict=True)
    ]
    assert np.median(near) > 0.02, "the tool is mostly where no expert takes it"
    for index in (0, len(samples) - 1):
        sample = samples.samples[index]
        task = load_task(sample.task)
        trace = explore(task, sample.seed)
        assert len(trace) == STEPS
        assert {-1.0, 1.0} == set(trace.gripper_commands.tolist())
        np.testing.assert_array_equal(samples.objects[index, 0], trace.objects[sample.step, 0])
        task.simulator.restore(trace.states[sample.step])
        seen = task.simulator.render(window_cameras(task.simulator, config, sample.name), WINDOW.size)
        np.testing.assert_array_equal(samples.window(index).frames[:, -1], seen)


def test_where_things_are_in_the_pictures_there_they_are(
    dataset: Dataset, unseen: Path, tmp_path: Path
) -> None:
    """At the place of the box in an image its colour is seen, unless the hand is in front of it."""
    window = WindowSpec(views=("front", "side", "hand"), history=6, frames=1, size=64)
    config = SampleConfig(window=window, jitter_metres=0.05, jitter_degrees=5.0)
    build_samples([dataset.path], tmp_path / "samples", config, ProcessExecutor(2))
    samples = SampleSet(tmp_path / "samples")
    tool = torch.from_numpy(samples.tcp_poses[:, -1])
    points = torch.from_numpy(samples.objects[:, :, :3])
    pixels, inside = project(torch.from_numpy(samples.cameras), tool, points)
    assert not inside[:, :, 2:].any()  # a box and a goal
    for view in range(3):
        red = {"at": [], "mirrored": []}
        for i in range(len(samples)):
            column, row = pixels[i, view, 0].tolist()
            if inside[i, view, 0]:
                for name, place in (("at", (column, row)), ("mirrored", (-column, -row))):
                    x, y = (int((1 + p) / 2 * window.size) for p in place)
                    r, g, b = samples.frames(i)[view, -1, y, x].astype(int)
                    red[name].append(r > 1.5 * max(g, b))
        assert len(red["at"]) > 20
        assert np.mean(red["at"]) > 0.6 > 0.3 > np.mean(red["mirrored"])
    assert np.isnan(SampleSet(unseen).cameras).all()


def test_samples_resume_and_repeat_byte_for_byte(dataset: Dataset, built: Path, tmp_path: Path) -> None:
    config = SampleConfig(window=WINDOW)
    build_samples([dataset.path], tmp_path / "b", config, ProcessExecutor(2))
    files = sorted(p.relative_to(built) for p in built.rglob("*.np[yz]"))
    assert files
    for file in files:
        assert (built / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    gone = tmp_path / "b" / files[-1].with_suffix(".npz")
    gone.unlink()
    manifest = tmp_path / "b" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete":true', '"complete":false'))
    with pytest.raises(UserError, match="is not complete"):
        SampleSet(tmp_path / "b")
    asked: list[int] = []
    build_samples(
        [dataset.path],
        tmp_path / "b",
        config,
        SerialExecutor(),
        lambda done, total: asked.append(total - done),
    )
    assert 0 < asked[0] < len(SampleSet(tmp_path / "b"))  # only what was missing
    assert gone.read_bytes() == (built / files[-1].with_suffix(".npz")).read_bytes()


def test_samples_of_an_earlier_version_are_to_be_made_again(unseen: Path, tmp_path: Path) -> None:
    samples = shutil.copytree(unseen, tmp_path / "samples")
    file = sorted(samples.glob("*/*.npz"))[0]
    arrays = unpack(file.read_bytes(), str(file))
    del arrays["cameras"]
    file.write_bytes(pack(arrays))
    with pytest.raises(RecordError, match="make them again with `failsafe samples`"):
        SampleSet(samples)


@pytest.mark.parametrize("what", ["tcp_poses", "gripper_widths"])
def test_numbers_that_are_none_are_named(unseen: Path, tmp_path: Path, what: str) -> None:
    samples = shutil.copytree(unseen, tmp_path / "samples")
    file = sorted(samples.glob("*/*.npz"))[0]
    arrays = unpack(file.read_bytes(), str(file))
    broken = arrays[what].copy()
    broken[0, 0] = np.nan
    file.write_bytes(pack({**arrays, what: broken}))
    name = json.loads(arrays["records"].tobytes())[0]["name"]
    with pytest.raises(RecordError, match=f"got NaN or infinity in 1 of .*, {name} the first"):
        SampleSet(samples)


def test_a_rollout_with_numbers_that_are_none_is_not_cut(dataset: Dataset) -> None:
    case = next(c for c in dataset.cases() if c.labels)
    trace = dataset.traces(case.task, case.case_id)[FAILING]
    where = trace.tcp_poses.copy()
    where[10] = np.inf
    broken = dataclasses.replace(trace, tcp_poses=where)
    simulator = load_task(case.task).simulator
    assert cut_window(simulator, trace, 16, WINDOW, [])[1].shape == (7, 7)
    with pytest.raises(RecordError, match="up to step 16, got NaN or infinity"):
        cut_window(simulator, broken, 16, WINDOW, [])


def test_other_settings_need_another_folder(dataset: Dataset, built: Path) -> None:
    with pytest.raises(UserError, match="made with other settings"):
        build_samples([dataset.path], built, SampleConfig(window=WINDOW, jitter_metres=0.1), SerialExecutor())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"window": WindowSpec(views=())}, "at least one"),
        ({"window": WindowSpec(history=0)}, "at least 1 step"),
        ({"window": WindowSpec(history=2, frames=5)}, "from 1 to history"),
        ({"splits": ("trian",)}, "unknown split 'trian'"),
        ({"jitter_metres": -0.1}, "0 or more"),
        ({"explore": -1}, "expected 'explore' to be 0 or more, got -1"),
        ({"explore": 2}, "expected the split 'train' alone, and images"),
        (
            {"explore": 2, "splits": ("train",), "images": False},
            "expected the split 'train' alone, and images",
        ),
    ],
)
def test_settings_that_make_no_sense(change: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        SampleConfig(**change)


def test_episodes_shorter_than_the_history_are_an_error(dataset: Dataset) -> None:
    with pytest.raises(UserError, match="episodes longer than 4000 steps"):
        select_samples([dataset], SampleConfig(WindowSpec(history=4000)))
