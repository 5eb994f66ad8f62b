"""The variants of PickCube differ from it in just what they say, and can be done."""

from __future__ import annotations

import numpy as np
import pytest
from sapien import physx

from failsafe.experts.tasks import load_task
from failsafe.generation.nominal import run_nominal
from failsafe.records import poses
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
    assert simulator.episode.instruction == original.episode.instruction
    cube, usual = body(simulator), body(original)
    (shape,) = cube.collision_shapes
    assert shape.half_size == pytest.approx([edge / 2] * 3)
    assert cube.mass == pytest.approx(usual.mass * heavier, rel=1e-4)
    assert cube.inertia == pytest.approx(usual.inertia * heavier * (edge / 0.04) ** 2, rel=1e-3)
    assert shape.physical_material.static_friction == pytest.approx(friction)
    fingers = simulator._arm.finger_shapes
    expected = friction if task == "PickSlipperyCube-v1" else 2.0  # PhysX averages the two bodies'
    assert {s.physical_material.static_friction for s in fingers} == {expected}


def test_a_tall_cube_stands_on_the_table(original):
    simulator = ManiSkillSimulator("PickTallCube-v1")
    simulator.reset(SEED)
    (shape,) = body(simulator).collision_shapes
    assert shape.half_size == pytest.approx([0.02, 0.02, 0.03])
    assert body(simulator).mass == pytest.approx(1.5 * body(original).mass, rel=1e-4)
    assert simulator.observe().objects[0, 2] == pytest.approx(0.03)


@pytest.mark.parametrize(
    "task", ["PickSphere-v1", "PickTallCube-v1", "PickHeavyCube-v1", "PickSlipperyCube-v1"]
)
def test_the_expert_can_do_it(task):
    assert run_nominal(load_task(task), SEED).record.success


def test_a_fetch_does_it_standing_still_with_the_tool_where_a_panda_has_it(original):
    task = load_task("PickCubeFetch-v1")
    for seed in range(3):
        trace = run_nominal(task, seed)
        assert trace.record.success
    fetch = task.simulator
    joints = fetch._arm.articulation.qpos
    still = [i for i, moves in enumerate(fetch._arm._mask) if not moves and i not in fetch._arm._fingers]
    assert joints[still] == pytest.approx([0, 0, 0, 0.386, 0, 0], abs=1e-3)
    fetch.reset(SEED)
    here, there = fetch.observe(), original.observe()
    far, turned = poses.distance(here.tcp_pose, there.tcp_pose)
    assert far < 0.06  # both begin a little off, and the Fetch 2 cm lower
    assert turned < 0.15
    assert here.gripper_width == pytest.approx(there.gripper_width, abs=1e-3)
    assert here.objects[0, 2] == pytest.approx(there.objects[0, 2], abs=1e-4)  # the table is as high


def test_a_fetch_whose_arm_goes_backwards_does_not_stand_still():
    simulator = load_task("PickCubeFetch-v1").simulator
    simulator.reset(SEED)
    agent = simulator.env.agent
    assert bool(agent.is_static(0.2))
    arm = simulator._arm.articulation
    arm.qvel = np.where(simulator._arm._mask, -2.0, 0.0).astype(np.float32)
    assert not bool(agent.is_static(0.2))


@pytest.mark.parametrize("way", [-1, 1])
def test_an_endless_joint_goes_the_short_way(way):
    task = load_task("PickCubeFetch-v1")
    simulator = task.simulator
    simulator.reset(SEED)
    turned = simulator.observe().tcp_pose
    before = simulator._arm.articulation.qpos.astype(np.float64)
    for _ in range(25):  # 2.5 rad about the vertical: one of the two ways is through the seam
        turned = poses.apply_delta(turned, np.array([0, 0, 0, 0, 0, 0.1 * way]))
        command = simulator.command(turned, 1.0)
        assert np.abs(command - before).max() < 0.31
        simulator.step(command)
        before = command.astype(np.float64)
    assert poses.distance(simulator.observe().tcp_pose, turned)[1] < 0.2
