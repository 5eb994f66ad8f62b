from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.reports.gallery_data import PICK_SEED, make_dataset

from failsafe.datasets.cameras import look_at, parse_cameras
from failsafe.datasets.frame_grids import (
    case_folder,
    columns_for,
    encode_grid,
    nominal_folder,
    open_grids,
    read_index,
)
from failsafe.datasets.frames import render_case, render_nominal, render_step, write_steps
from failsafe.datasets.store import Dataset
from failsafe.errors import RecordError, UnknownNameError, UserError
from failsafe.records import poses
from failsafe.records.case import FAILING, NOMINAL, FailureCase
from failsafe.simulators import toy
from failsafe.simulators.contract import Camera

SIZE = 32


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make_dataset(tmp_path / "data")


@pytest.fixture
def case(dataset: Dataset) -> FailureCase:
    return dataset.case("ToyPick-v0", "pick-open")


@pytest.fixture
def simulator() -> toy.ToySimulator:
    return toy.make("ToyPick-v0")


def cameras(simulator: toy.ToySimulator, *names: str) -> list[Camera]:
    return [simulator.camera(name) for name in names]


def stamps(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_frames_show_the_states_of_the_trace(
    dataset: Dataset, case: FailureCase, simulator: toy.ToySimulator
) -> None:
    written = render_case(dataset, simulator, case, cameras(simulator, "front", "hand"), SIZE)
    folder = case_folder(dataset, case.task, case.case_id)
    assert written == [
        folder / trace / f"{camera}.webp"
        for trace in (FAILING, "recovery-0", "recovery-1")
        for camera in ("front", "hand")
    ]
    trace = dataset.traces(case.task, case.case_id)[FAILING]
    grid = open_grids(folder, "hand")[FAILING]
    for step in (0, 20, len(trace)):
        truth = render_step(simulator, case.seed, trace, step, cameras(simulator, "hand"), SIZE)[0]
        error = np.abs(grid.frame(step).astype(int) - truth.astype(int)).mean()
        assert error < 6  # of 255: the compression's
    # Between two frames the earlier one stands.
    np.testing.assert_array_equal(grid.frame(3), grid.frame(0))


def test_there_is_a_frame_of_every_so_many_steps_of_the_moments_and_of_the_end(
    dataset: Dataset, case: FailureCase, simulator: toy.ToySimulator
) -> None:
    render_case(dataset, simulator, case, cameras(simulator, "side"), SIZE, every=10)
    grids = open_grids(case_folder(dataset, case.task, case.case_id), "side")
    trace, times = dataset.traces(case.task, case.case_id)[FAILING], case.times
    first, second = (label.step for label in case.labels)
    moments = {times.injection_step, times.onset_step, times.failure_step, first, second}
    assert set(grids[FAILING].frames.steps) == {*range(0, len(trace), 10), len(trace)} | moments
    # A recovery begins where it leaves the failing rollout.
    assert grids["recovery-1"].frames.steps[:2] == (second, second + 10)


def test_rendering_again_does_nothing(
    dataset: Dataset, case: FailureCase, simulator: toy.ToySimulator
) -> None:
    views = cameras(simulator, "front", "side")
    counted: list[int] = []
    render_case(dataset, simulator, case, views, SIZE, progress=counted.append)
    index = read_index(case_folder(dataset, case.task, case.case_id))
    assert index is not None
    assert sum(counted) == 2 * sum(len(t.steps) for t in index.traces)
    before = stamps(dataset.path)
    assert render_case(dataset, simulator, case, views, SIZE, progress=counted.append) == []
    assert render_case(dataset, simulator, case, views[:1], SIZE) == []
    assert stamps(dataset.path) == before


def test_a_camera_is_added_and_another_setting_begins_anew(
    dataset: Dataset, case: FailureCase, simulator: toy.ToySimulator
) -> None:
    folder = case_folder(dataset, case.task, case.case_id)
    render_case(dataset, simulator, case, cameras(simulator, "front"), SIZE)
    before = stamps(folder)
    added = render_case(dataset, simulator, case, cameras(simulator, "hand"), SIZE)
    assert {path.name for path in added} == {"hand.webp"}
    assert before.items() - stamps(folder).items() == {(folder / "index.json", before[folder / "index.json"])}
    for changed in ({"size": 16}, {"size": 16, "every": 9}, {"size": 16, "every": 9, "look": "full meshes"}):
        assert len(render_case(dataset, simulator, case, cameras(simulator, "side"), **changed)) == 3
        assert {path.name for path in folder.glob("*/*.webp")} == {"side.webp"}
    moved = replace(simulator.camera("side"), fov=0.5)
    assert len(render_case(dataset, simulator, case, [moved], 16, 9, look="full meshes")) == 3


def test_frames_of_another_rollout_or_lost_ones_are_made_anew(
    dataset: Dataset, case: FailureCase, simulator: toy.ToySimulator
) -> None:
    views = cameras(simulator, "front")
    written = render_case(dataset, simulator, case, views, SIZE)
    written[1].unlink()
    assert render_case(dataset, simulator, case, views, SIZE) == written
    traces = dataset.traces(case.task, case.case_id)
    states = traces[FAILING].states.copy()
    states[-1, 0] += 0.01
    dataset.write_case(case, traces | {FAILING: replace(traces[FAILING], states=states)})
    assert render_case(dataset, simulator, case, views, SIZE) == written


def test_a_render_that_was_cut_short_is_not_taken_for_whole(
    dataset: Dataset, case: FailureCase, simulator: toy.ToySimulator
) -> None:
    class Killed(BaseException):
        pass

    views, images = cameras(simulator, "front"), 0

    def die(count: int) -> None:
        nonlocal images
        images += count
        if images > 20:
            raise Killed

    render_case(dataset, simulator, case, views, SIZE)
    folder = case_folder(dataset, case.task, case.case_id)
    with pytest.raises(Killed):
        render_case(dataset, simulator, case, views, 16, progress=die)
    assert read_index(folder) is None
    with pytest.raises(UserError, match="expected frames from the camera 'front'"):
        open_grids(folder, "front")
    assert len(render_case(dataset, simulator, case, views, 16)) == 3
    assert open_grids(folder, "front")["recovery-1"].frame(10**6).shape == (16, 16, 3)


def test_the_nominal_has_frames_that_all_cases_of_a_seed_share(
    dataset: Dataset, simulator: toy.ToySimulator
) -> None:
    views = cameras(simulator, "front")
    (path,) = render_nominal(dataset, simulator, "ToyPick-v0", PICK_SEED, views, SIZE)
    assert path == dataset.path / "frames/ToyPick-v0/nominal-00000003/nominal/front.webp"
    _, trace = dataset.nominal("ToyPick-v0", PICK_SEED)
    grid = open_grids(nominal_folder(dataset, "ToyPick-v0", PICK_SEED), "front")[NOMINAL]
    assert grid.frames.steps[-1] == len(trace)


def test_a_rollout_that_diverged_is_seen_as_far_as_it_was_finite(
    dataset: Dataset, case: FailureCase, simulator: toy.ToySimulator
) -> None:
    traces = dataset.traces(case.task, case.case_id)
    states = traces[FAILING].states.copy()
    states[41:] = np.nan
    lone = replace(case, case_id="nan", labels=())
    dataset.write_case(lone, {FAILING: replace(traces[FAILING], states=states)})
    render_case(dataset, simulator, lone, cameras(simulator, "front"), SIZE)
    steps = open_grids(case_folder(dataset, case.task, "nan"), "front")[FAILING].frames.steps
    assert steps[-1] == 40


def test_single_steps_as_png(
    dataset: Dataset, case: FailureCase, simulator: toy.ToySimulator, tmp_path: Path
) -> None:
    views = cameras(simulator, "front", "hand")
    paths = write_steps(dataset, simulator, case, "recovery-0", [0, 50], views, 48, tmp_path / "png")
    assert [p.name for p in paths] == [
        "pick-open-recovery-0-0000-front.png",
        "pick-open-recovery-0-0000-hand.png",
        "pick-open-recovery-0-0050-front.png",
        "pick-open-recovery-0-0050-hand.png",
    ]
    trace = dataset.traces(case.task, case.case_id)["recovery-0"]
    truth = render_step(simulator, case.seed, trace, 50, views, 48)[1]
    with Image.open(paths[3]) as image:
        np.testing.assert_array_equal(np.asarray(image), truth)
    with pytest.raises(
        UnknownNameError, match=r"unknown rollout of pick-open 'failin': did you mean 'failing'\?"
    ):
        write_steps(dataset, simulator, case, "failin", [0], views, 48, tmp_path)
    last = len(dataset.nominal(case.task, case.seed)[1])
    with pytest.raises(UserError, match=f"expected a step from 0 to {last}, got 5000"):
        write_steps(dataset, simulator, case, NOMINAL, [5000], views, 48, tmp_path)


def test_settings_that_make_no_sense(
    dataset: Dataset, case: FailureCase, simulator: toy.ToySimulator
) -> None:
    front = simulator.camera("front")
    for views, size, every, message in (
        ([], 32, 4, "expected at least one camera, got none"),
        ([front, front], 32, 4, "expected every camera once, got front, front"),
        (
            [replace(front, name="../x")],
            32,
            4,
            r"a camera's name of letters, digits, '_' and '-', got '../x'",
        ),
        ([front], 4, 4, "expected a size from 8 to 4096 pixels, got 4"),
        ([front], 32, 0, "expected a frame of every 1 or more steps, got every 0"),
    ):
        with pytest.raises(UserError, match=message):
            render_case(dataset, simulator, case, views, size, every)
    assert not (dataset.path / "frames").exists()


def test_damaged_frames_are_named(dataset: Dataset, case: FailureCase, simulator: toy.ToySimulator) -> None:
    (path, *_) = render_case(dataset, simulator, case, cameras(simulator, "front"), SIZE)
    folder = case_folder(dataset, case.task, case.case_id)
    path.write_bytes(b"RIFF")
    with pytest.raises(RecordError, match=r"failing/front\.webp: expected a grid of frames"):
        open_grids(folder, "front")[FAILING].frame(0)
    (folder / "index.json").write_bytes(b"\xff")
    with pytest.raises(RecordError, match=r"index\.json: expected text in UTF-8"):
        render_case(dataset, simulator, case, cameras(simulator, "front"), SIZE)


def test_sheets_are_about_square_and_fit_into_webp() -> None:
    assert [columns_for(n, 224) for n in (0, 1, 4, 5, 23)] == [1, 1, 2, 3, 5]
    with pytest.raises(UserError, match="expected at most 49 frames of 2048 pixels a rollout, got 64"):
        columns_for(64, 2048)
    frames = np.zeros((3, 16, 16, 3), dtype=np.uint8)
    frames[2, :, :, 1] = 200
    assert encode_grid(frames, 2) == encode_grid(frames, 2)


def test_cameras_by_name_and_by_pose(simulator: toy.ToySimulator) -> None:
    front, top, tilted = parse_cameras(simulator, "front, top@0.5:0:1.2@0.5:0:0@1.1,t@0:0:1:0:0:0:2")
    assert front == simulator.camera("front")
    assert (top.name, top.fov, top.mounted) == ("top", 1.1, False)
    # +x of the camera looks down.
    np.testing.assert_allclose(poses.rotate(np.array(top.pose[3:]), [1, 0, 0]), [0, 0, -1], atol=1e-9)
    assert tilted.pose == (0, 0, 1, 0, 0, 0, 1)
    pose = look_at((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    np.testing.assert_allclose(poses.rotate(pose[3:], [1, 0, 0]), -np.ones(3) / math.sqrt(3), atol=1e-9)
    assert poses.rotate(pose[3:], [0, 1, 0])[2] == pytest.approx(0)  # upright: +y, to the left, is level
    assert poses.rotate(pose[3:], [0, 0, 1])[2] > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frnt", "did you mean 'front'"),
        ("top@1:2@0:0:0", r"expected a camera as NAME@X:Y:Z@X:Y:Z .*; got 'top@1:2@0:0:0'"),
        ("top@a:b:c@0:0:0", "got 'top@a:b:c@0:0:0'"),
        ("top@nan:0:0@0:0:0", "got 'top@nan:0:0@0:0:0'"),
        ("top@0:0:1@0:0:0@4", "expected a field of view between 0 and 3.14 radians, got 4.0"),
        ("top@0:0:1@0:0:1", "looks at another point than its own"),
        ("top@0:0:1:0:0:0:0", "expected a quaternion wxyz, got zeros"),
    ],
)
def test_cameras_that_are_none(simulator: toy.ToySimulator, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_cameras(simulator, text)
