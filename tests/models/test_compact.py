from __future__ import annotations

import dataclasses
import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from failsafe.datasets.cameras import look_at
from failsafe.errors import AssessmentError, RecordError, UserError
from failsafe.models.camera_geometry import CameraIntrinsics, camera_features, project
from failsafe.models.compact import FORMAT, CompactMeta, CompactModel, load_compact, save_compact
from failsafe.models.compact_net import CompactConfig, CompactNet, motion_features
from failsafe.models.contract import assess_safely
from failsafe.models.image_encoder import word_codes
from failsafe.models.object_localizer import ObjectLocalizer
from failsafe.models.version_1 import EMBODIMENT, NORMALIZATION
from failsafe.records.assessment import Status, Window, WindowSpec

SPEC = WindowSpec(views=("front", "hand"), history=4, frames=2, size=32)


INTRINSICS = (CameraIntrinsics(0.8, False), CameraIntrinsics(1.3, True))


@pytest.fixture(scope="module")
def model() -> CompactModel:
    torch.manual_seed(0)
    config = CompactConfig(
        SPEC,
        ("no_op", "slip"),
        ("reach", "grasp"),
        ("pick the cube",),
        EMBODIMENT,
        NORMALIZATION,
        (8, 8, 16, 16),
        32,
        INTRINSICS,
    )
    return CompactModel(CompactNet(config), CompactMeta(config, {"T": (1, 2)}, {}))


def window(seed: int = 0, **changes) -> Window:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.array([0.5, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0], dtype=np.float32), (5, 1))
    poses[:, :3] += rng.normal(0, 0.02, (5, 3)).astype(np.float32)
    made = Window(
        "pick the cube",
        SPEC,
        rng.integers(0, 255, (2, 2, 32, 32, 3), dtype=np.uint8),
        poses,
        np.full(5, 0.08, dtype=np.float32),
    )
    return dataclasses.replace(made, **changes)


def failing(model: CompactModel) -> CompactModel:
    """The same network, sure of a failure."""
    net = CompactNet(model.meta.config)
    net.load_state_dict(model.net.state_dict())
    net.heads.bias.data[0] = 20.0
    return CompactModel(net, model.meta)


def test_a_checkpoint_comes_back_as_it_was(model: CompactModel, tmp_path: Path) -> None:
    save_compact(tmp_path / "a.safetensors", model.net, model.meta)
    again = load_compact(tmp_path / "a.safetensors")
    assert again.meta == model.meta
    first, second = (m.assess(window()) for m in (model, again))
    assert first.failure_probability == pytest.approx(second.failure_probability, abs=5e-3)  # halves
    save_compact(tmp_path / "b.safetensors", again.net, again.meta)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_pictures_words_and_motion_all_count(model: CompactModel) -> None:
    base = model.assess(window()).raw
    other = window(1)
    assert model.assess(window(frames=other.frames)).raw != base
    assert model.assess(window(tcp_poses=other.tcp_poses)).raw != base
    free = CompactModel(model.net, model.meta, any_instruction=True)
    assert free.assess(window(instruction="stack the cube")).raw != base


def test_a_failure_has_a_kind_actions_and_words(model: CompactModel) -> None:
    assessment = failing(model).assess(window())
    assert assessment.failing
    assert assessment.mode in ("no_op", "slip")
    assert assessment.stage in ("reach", "grasp")
    assert 1 <= len(assessment.actions) <= 24
    assert assessment.frame == "robot_base"
    assert assessment.stage in assessment.explanation


def test_where_nothing_is_failing_it_says_what_the_expert_would_do(model: CompactModel) -> None:
    net = CompactNet(model.meta.config)
    net.load_state_dict(model.net.state_dict())
    net.heads.bias.data[0] = -20.0
    assessment = CompactModel(net, model.meta).assess(window())
    assert not assessment.failing
    assert assessment.actions == ()
    assert 1 <= len(assessment.continuation) <= 24
    assert (
        failing(model).assess(window()).continuation == assessment.continuation
    )  # from here, whatever is said to be wrong


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"instruction": "fold the towel"}, "expected one of the instructions 'pick the cube'"),
        ({"spec": dataclasses.replace(SPEC, views=("front",))}, "views"),
        ({"spec": dataclasses.replace(SPEC, size=64)}, "size"),
        ({"tcp_poses": np.full((5, 7), np.nan, dtype=np.float32)}, "finite proprioception"),
        (
            {
                "tcp_poses": np.zeros((3, 7), dtype=np.float32),
                "gripper_widths": np.zeros(3, dtype=np.float32),
            },
            "history of 5 time steps",
        ),
        ({"frames": np.zeros((1, 2, 32, 32, 3), dtype=np.uint8)}, "images of shape"),
    ],
)
def test_what_it_cannot_look_at(model: CompactModel, change: dict, sentence: str) -> None:
    with pytest.raises(AssessmentError, match=sentence):
        model.assess(window(**change))
    assessment = assess_safely(model, window(**change))
    assert assessment.status is Status.REFUSED
    assert not assessment.failing
    assert assessment.actions == ()


def test_a_model_that_breaks_is_an_assessment(model: CompactModel) -> None:
    broken = CompactNet(model.meta.config)
    for parameter in broken.parameters():
        parameter.data.fill_(float("nan"))
    assessment = assess_safely(CompactModel(broken, model.meta), window())
    assert assessment.status is Status.REFUSED


def test_files_that_are_no_checkpoint(model: CompactModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        load_compact(path)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(RecordError, match="expected a safetensors file"):
        load_compact(path)
    save_compact(path, model.net, model.meta)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RecordError, match="expected a safetensors file"):
        load_compact(path)
    # Weights of a network of another size than the one that it describes.
    wider = dataclasses.replace(model.meta.config, hidden=2 * model.meta.config.hidden)
    save_compact(path, model.net, dataclasses.replace(model.meta, config=wider))
    with pytest.raises(RecordError, match="not those of the network that it describes"):
        load_compact(path)
    save_compact(path, model.net, model.meta)
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    changed = header["__metadata__"]["failsafe"].replace(FORMAT, "failsafe-compact/99")

    def rewrite(words: str) -> None:
        header["__metadata__"]["failsafe"] = words
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    for words in ("{", "[]", json.dumps({"format": FORMAT})):
        rewrite(words)
        with pytest.raises(RecordError, match="expected a safetensors file"):
            load_compact(path)
    rewrite(changed)
    with pytest.raises(RecordError, match=f"expected a checkpoint of format '{FORMAT}'"):
        load_compact(path)


def test_points_are_where_the_views_rays_meet() -> None:
    """With true places and cameras it is exact; with places off by half a pixel of 96 by millimetres."""
    rng = np.random.default_rng(0)
    tool = torch.tensor([[0.55, 0.05, 0.15, 0.0, 1.0, 0.0, 0.0]])
    front = look_at((1.3, 0.0, 0.68), (0.52, 0.0, 0.13))
    side = look_at((0.65, -0.8, 0.58), (0.58, 0.0, 0.13))
    hand = look_at((0.115, 0.0, -0.075), (0.015, 0.0, 0.03))
    intrinsics = (CameraIntrinsics(0.8, False), CameraIntrinsics(0.8, False), CameraIntrinsics(1.3, True))
    cameras = torch.tensor(
        [
            [
                (*pose, camera.fov, camera.mounted)
                for pose, camera in zip((front, side, hand), intrinsics, strict=True)
            ]
        ]
    )
    aside = torch.from_numpy(rng.uniform(-0.08, 0.08, (1, 200, 3)).astype(np.float32))
    points = torch.cat([tool[:, None, :3], tool[:, None, :3] + aside], dim=1)
    pixels, inside = project(cameras.float(), tool, points)
    assert inside.float().mean() > 0.5
    localizer = ObjectLocalizer(intrinsics, 3, 32, (8, 8, 16, 16), 4, NORMALIZATION).eval()
    [row] = [
        motion_features(tool.numpy().repeat(2, axis=0), np.zeros(2, dtype=np.float32), NORMALIZATION)[:9]
    ]
    pose = torch.from_numpy(row)[None]
    seen = (inside.sum(1) >= 2)[0, 1:]

    def off(blur: float) -> float:
        found = localizer.lift(
            pixels + blur * torch.randn_like(pixels),
            inside * 1e4,
            camera_features(cameras.float()),
            pose,
        )
        return float((found - 10 * aside).detach().norm(dim=2)[0, seen].median()) / 10

    torch.manual_seed(0)
    assert off(0.0) < 2e-4
    assert 1e-3 < off(0.01) < 8e-3


def test_proprioception_by_hand() -> None:
    """Where the tool is, which way it points, how it came there and how open it was: nothing else."""
    down = [0.0, 1.0, 0.0, 0.0]  # turned by half a turn about x
    at = np.array([[0.4, 0.0, 0.24 - 0.01 * step, *down] for step in range(5)], dtype=np.float32)
    widths = np.array([0.08, 0.08, 0.06, 0.04, 0.02], dtype=np.float32)
    place, axes, past, opening = np.split(motion_features(at, widths, NORMALIZATION), [3, 9, 33])
    np.testing.assert_allclose(place, 5 * (at[-1, :3] - np.array([0.6, 0.0, 0.15])), atol=1e-6)
    np.testing.assert_allclose(axes, [1, 0, 0, 0, 0, -1], atol=1e-6)
    down_by = [[0, 0, -0.1 * step, 0, 0, 0] for step in (4, 3, 2, 1)]  # decimetres
    np.testing.assert_allclose(past.reshape(4, 6), down_by, atol=1e-6)
    np.testing.assert_allclose(opening, [1.6, 1.6, 1.2, 0.8, 0.4], atol=1e-6)


def test_words_are_told_apart_whatever_their_case() -> None:
    assert (word_codes("Pick, the CUBE.") == word_codes("pick the cube")).all()
    assert (word_codes("push the cube") != word_codes("pick the cube")).any()
    assert word_codes("").sum() == 0


def test_one_assessment_takes_milliseconds() -> None:
    """Not a benchmark: a network ten times too large would show."""
    intrinsics = (CameraIntrinsics(0.8, False), *INTRINSICS)
    config = CompactConfig(
        WindowSpec(),
        ("no_op",),
        ("reach",),
        ("pick the cube",),
        EMBODIMENT,
        NORMALIZATION,
        intrinsics=intrinsics,
    )
    net = CompactModel(CompactNet(config), CompactMeta(config, {}, {}))
    assert net.parameters < 6_000_000
    poses = np.tile(np.array([0.5, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0], dtype=np.float32), (11, 1))
    seen = Window(
        "pick the cube",
        config.window,
        np.zeros((3, 3, 96, 96, 3), dtype=np.uint8),
        poses,
        np.zeros(11, dtype=np.float32),
    )
    net.assess(seen)
    times = []
    for _ in range(5):
        begun = time.process_time()
        net.assess(seen)
        times.append(time.process_time() - begun)
    assert min(times) < 0.3
