"""Checkpoints of version 1: the files stay as they are, and their networks compute what they always did."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from failsafe.models.compact import CompactModel
from failsafe.models.loading import SHIPPED, load_model
from failsafe.models.normalization import Normalization
from failsafe.models.version_1 import EMBODIMENT, NORMALIZATION
from failsafe.policies.reference import CHECKPOINTS, load_reference
from failsafe.records.assessment import Window
from failsafe.records.observation import PolicyObservation
from failsafe.simulators.toy import ToyPick

RECORDED = json.loads((Path(__file__).parent / "version_1.json").read_text())
"""Outputs of version 1 (commit 54bb378) for the inputs below, and the SHA-256 of its checkpoints."""
FILES = [SHIPPED["compact"], *(CHECKPOINTS / f"{name}.safetensors" for name in ("weak", "medium", "strong"))]
TOLERANCE = 1e-5
"""Between processors; on one processor the outputs are bit-equal."""


def test_new_checkpoints_of_the_same_robot_are_scaled_as_those_of_version_1() -> None:
    assert Normalization.of(EMBODIMENT) == Normalization.of(ToyPick().spec.embodiment) == NORMALIZATION


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_files_are_unchanged(path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == RECORDED["sha256"][path.stem]
    with safe_open(path, "pt") as file:
        assert any(name.split(".")[0] in ("finder", "eyes") for name in file.keys())  # noqa: SIM118


def compact_window(model: CompactModel, instruction: str) -> Window:
    spec, rng = model.window_spec, np.random.default_rng(0)
    small = rng.integers(0, 256, (len(spec.views), spec.frames, 12, 12, 3), dtype=np.uint8)
    tcp_poses = np.tile(np.array([0.55, 0.02, 0.12, 0.0, 1.0, 0.0, 0.0], np.float32), (spec.history + 1, 1))
    tcp_poses[:, 2] += 0.01 * np.arange(spec.history, -1, -1, dtype=np.float32)
    widths = np.linspace(0.08, 0.04, spec.history + 1).astype(np.float32)
    return Window(instruction, spec, small.repeat(8, 2).repeat(8, 3), tcp_poses, widths)


def test_the_compact_model_computes_what_it_did() -> None:
    model = load_model("compact")
    assert isinstance(model, CompactModel)
    config = model.meta.config
    assert (config.embodiment, config.normalization, config.objects) == (EMBODIMENT, NORMALIZATION, 4)
    for instruction, recorded in zip(config.instructions, RECORDED["compact"], strict=True):
        window = compact_window(model, instruction)
        found = model.assess_as_failing(window)
        assert found.mode == recorded["mode"]
        assert found.stage == recorded["stage"]
        close = {"abs": TOLERANCE}
        assert found.failure_probability == pytest.approx(recorded["failure_probability"], **close)
        np.testing.assert_allclose(found.actions, recorded["actions"], atol=TOLERANCE)
        np.testing.assert_allclose(found.continuation, recorded["continuation"], atol=TOLERANCE)
        np.testing.assert_allclose(model.locate(window), recorded["objects"], atol=TOLERANCE)


@pytest.mark.parametrize("strength", ["weak", "medium", "strong"])
def test_the_reference_policies_compute_what_they_did(strength: str) -> None:
    policy = load_reference(strength)
    config, rng = policy.meta.config, np.random.default_rng(0)
    images = {view: rng.integers(0, 256, (config.size, config.size, 3), np.uint8) for view in config.views}
    pose = np.array([0.6, 0.05, 0.15, 0.0, 1.0, 0.0, 0.0])
    for instruction, recorded in zip(config.instructions, RECORDED[strength], strict=True):
        policy.reset(instruction)
        np.testing.assert_allclose(
            policy.act(PolicyObservation(images, pose, pose, 0.03)), recorded, atol=TOLERANCE
        )
