"""The variants of PickCube differ from it in just what they say, and can be done."""

from __future__ import annotations

import pytest
from sapien import physx

from failsafe.experts.tasks import load_task
from failsafe.generation.rollouts import run_nominal
from failsafe.simulators.maniskill.simulator import ManiSkillSimulator

SEED = 3


def body(simulator):
    return simulator.env.cube._objs[0].find_component_by_type(physx.PhysxRigidDynamicComponent)


@pytest.fixture(scope="module")
def original():
    simulator = ManiSkillSimulator("PickCube-v1")
    simulator.reset(SEED)
    return simulator


@pytest.mark.parametrize(
    ("task", "edge", "heavier", "friction"),
    [
        ("PickSmallCube-v1", 0.03, 27 / 64, 0.3),
        ("PickLargeCube-v1", 0.05, 125 / 64, 0.3),
        ("PickBlueCube-v1", 0.04, 1.0, 0.3),
        ("PickHeavyCube-v1", 0.04, 10.0, 0.3),
        ("PickSlipperyCube-v1", 0.04, 1.0, 0.25),
    ],
)
def test_a_cube_is_as_large_heavy_and_slippery_as_said(original, task, edge, heavier, friction):
    simulator = ManiSkillSimulator(task)
    simulator.reset(SEED)
    assert simulator.spec.instruction == original.spec.instruction
    cube, usual = body(simulator), body(original)
    (shape,) = cube.collision_shapes
    assert shape.half_size == pytest.approx([edge / 2] * 3)
    assert cube.mass == pytest.approx(usual.mass * heavier, rel=1e-4)
    assert cube.inertia == pytest.approx(usual.inertia * heavier * (edge / 0.04) ** 2, rel=1e-3)
    assert shape.physical_material.static_friction == pytest.approx(friction)
    fingers = simulator._arm.finger_shapes
    expected = friction if task == "PickSlipperyCube-v1" else 2.0  # PhysX averages the two bodies'
    assert {s.physical_material.static_friction for s in fingers} == {expected}


@pytest.mark.parametrize("task", ["PickSphere-v1", "PickHeavyCube-v1", "PickSlipperyCube-v1"])
def test_the_expert_can_do_it(task):
    assert run_nominal(load_task(task), SEED).record.success
