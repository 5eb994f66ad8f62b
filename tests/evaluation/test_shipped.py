"""What ships: the compact model, the reference policies, and the thresholds that belong to both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from failsafe.datasets.build import build_dataset
from failsafe.execution.serial import SerialExecutor
from failsafe.generation.config import GenerationConfig
from failsafe.models.compact import CompactModel, load_compact
from failsafe.models.conformance import check_model
from failsafe.models.contract import assess_safely, flaw
from failsafe.models.loading import COMPACT, SHIPPED, fingerprint, load_model
from failsafe.monitors.calibration import NEVER, shipped_calibration
from failsafe.monitors.guard import guard
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.conformance import check_policy
from failsafe.policies.loading import load_policy
from failsafe.policies.reference import CHECKPOINTS, load_reference
from failsafe.records.assessment import Status, Window, WindowSpec
from failsafe.records.embodiment import MANISKILL_PANDA
from failsafe.records.seeds import RANGES
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.render import build_samples
from failsafe.samples.sample_set import SampleSet

LARGEST = 20_000_000
"""Bytes that a checkpoint may have in the repository."""
INSTRUCTIONS = {"weak": 3, "medium": 3, "strong": 3, "metaworld": 9}
"""The policies that ship, with the number of instructions that each knows."""
GUARDED = {"weak": "compact", "medium": "compact", "strong": "compact", "metaworld": "compact-metaworld"}
"""The recovery model that each policy's thresholds are of."""
UNGUARDED = ("pick up the block and place it on the shelf",)
"""Instructions without a threshold: the policy hardly ever succeeds, so there is nothing to calibrate on."""


def windows(spec: WindowSpec, instruction: str) -> list[Window]:
    rng = np.random.default_rng(0)
    made: list[Window] = []
    for _ in range(4):
        shape = (len(spec.views), spec.frames, spec.size, spec.size, 3)
        tool = np.tile(np.float32([0.6, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0]), (spec.history + 1, 1))
        tool[:, 2] += np.linspace(0.1, 0.0, spec.history + 1)
        widths = np.full(spec.history + 1, 0.08, dtype=np.float32)
        made.append(Window(instruction, spec, rng.integers(0, 256, shape, dtype=np.uint8), tool, widths))
    return made


@pytest.mark.parametrize("name", SHIPPED)
def test_the_compact_models_that_ship_keep_the_contract(name: str) -> None:
    model = load_model(name)
    assert isinstance(model, CompactModel)
    assert SHIPPED[name].stat().st_size <= LARGEST
    first, *others = model.meta.config.instructions
    checks = check_model(model, windows(model.window_spec, first))
    assert [check for check in checks if not check.passed] == []
    for instruction in others:
        assessment = assess_safely(model, windows(model.window_spec, instruction)[0])
        assert (assessment.status, flaw(assessment)) == (Status.OK, "")


@pytest.mark.parametrize("strength", INSTRUCTIONS)
def test_the_policies_that_ship_keep_the_contract(strength: str) -> None:
    name = f"reference:{strength}"
    policy = load_policy(name)
    assert (CHECKPOINTS / f"{strength}.safetensors").stat().st_size <= LARGEST
    instructions = load_reference(strength).meta.config.instructions
    assert len(instructions) == INSTRUCTIONS[strength]
    for instruction in instructions:
        assert [check for check in check_policy(policy, instruction) if not check.passed] == []
    found = shipped_calibration(name)
    assert found is not None
    assert (found.policy, found.drift) == (name, MonitorSettings().drift)
    guarded = [instruction for instruction in instructions if instruction not in UNGUARDED]
    assert all(0 <= found.threshold(instruction) < NEVER for instruction in guarded)


@pytest.mark.parametrize("strength", INSTRUCTIONS)
def test_thresholds_are_those_of_the_weights_that_ship(strength: str) -> None:
    found = shipped_calibration(f"reference:{strength}")
    assert found is not None
    assert (found.model, found.weights) == (GUARDED[strength], fingerprint(GUARDED[strength]))


def test_what_was_trained_saw_training_seeds_alone() -> None:
    kept = [seeds for ranges in RANGES.values() for seeds in ranges]
    models = [load_compact(path) for path in SHIPPED.values()]
    for meta in (*(model.meta for model in models), *(load_reference(name).meta for name in INSTRUCTIONS)):
        assert meta.train_seeds
        seeds = {seed for found in meta.train_seeds.values() for seed in found}
        assert not any(seed in known for seed in seeds for known in kept)


def test_a_monitor_moves_the_robot_of_its_model() -> None:
    """A Sawyer of Meta-World works where ManiSkill's Panda has no workspace."""
    guarded = guard("reference:metaworld", "compact-metaworld")
    assert guarded.monitor.embodiment.workspace_high[1] > 0.9
    assert guard("reference:strong").monitor.embodiment == MANISKILL_PANDA


@pytest.mark.slow
@pytest.mark.maniskill
@pytest.mark.render
@pytest.mark.parametrize("failures", [10, pytest.param(30, marks=pytest.mark.long)])
def test_what_it_knows_it_has_from_the_images(failures: int, tmp_path: Path) -> None:
    """On fresh failures it is right far more often than with the images of other samples of the task."""
    config = GenerationConfig(
        tasks=("PickCube-v1",),
        failures=failures,
        first_seed=700_000,
        last_seed=701_000,
        labels=3,
        verify_rollouts=1,
    )
    build_dataset(config, tmp_path / "data", executor=SerialExecutor())
    model = load_model(COMPACT)
    assert isinstance(model, CompactModel)
    build_samples(
        [tmp_path / "data"],
        tmp_path / "samples",
        SampleConfig(window=model.window_spec, only_split="test"),
        SerialExecutor(),
    )
    samples = SampleSet(tmp_path / "samples")
    rows = samples.indices("test")
    failing = np.array([samples.samples[i].failing for i in rows])

    def balanced(images_of: list[int]) -> float:
        said = np.array(
            [
                model.assess(replace(samples.window(i), frames=np.array(samples.frames(j)))).failing
                for i, j in zip(rows, images_of, strict=True)
            ]
        )
        return float(said[failing].mean() + (~said[~failing]).mean()) / 2

    others = np.random.default_rng(0).permutation(rows).tolist()
    own = balanced(rows)
    assert own > 0.8
    assert own > balanced(others) + 0.1
    # PickCube has a cube and a goal.
    there = samples.objects[rows, :2, :3] - samples.tcp_poses[rows, -1, None, :3]
    found = np.array([model.locate(samples.window(i))[:2] for i in rows])
    assert np.median(np.linalg.norm(found - there, axis=-1)) < 0.006
