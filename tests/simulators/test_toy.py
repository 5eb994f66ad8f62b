"""Grasping, slipping and pushing mean something in the toy: each test is one physical fact."""

import math
import time

import numpy as np
import pytest

from failsafe.errors import DivergedError, UnknownNameError
from failsafe.records import poses
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import Exactness, Role
from failsafe.simulators.toy import TASKS, ToyPick, ToyPush, ToySimulator, ToyStack, make
from failsafe.simulators.toy.body import RigidBody
from failsafe.simulators.toy.geometry import covers, overlap, span_in_strip

OPEN, CLOSED = 1.0, -1.0
DOWN = (0.0, 1.0, 0.0, 0.0)
AHEAD = 0.025


def tool(x: float, y: float, z: float, yaw: float = 0.0) -> np.ndarray:
    return poses.pose([x, y, z], [0.0, math.cos(yaw / 2), math.sin(yaw / 2), 0.0])


def box_at(x: float, y: float, z: float, yaw: float = 0.0) -> np.ndarray:
    return poses.pose([x, y, z], [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])


def go(sim: ToySimulator, target: np.ndarray, gripper: float, hold: int = 6, disturbances=()) -> None:
    """Straight to a pose at full speed, then hold."""
    start = sim.observe().tcp_pose
    steps = poses.steps_between(start, target, 0.025, 0.125)
    for pose in [*poses.interpolate(start, target, steps), *([target] * hold)]:
        sim.step(sim.command(pose, gripper), disturbances)


def pick(sim: ToySimulator, offset=(0.0, 0.0, 0.0), yaw: float = 0.0, height: float = 0.2) -> None:
    """Grasp at the box's middle plus an offset, and lift."""
    at = sim.observe().objects[0, :3] + np.array(offset)
    go(sim, tool(at[0], at[1], 0.12, yaw), OPEN)
    go(sim, tool(at[0], at[1], at[2], yaw), OPEN)
    go(sim, tool(at[0], at[1], at[2], yaw), CLOSED, 8)
    go(sim, tool(at[0], at[1], height, yaw), CLOSED)


@pytest.fixture
def sim() -> ToyPick:
    """A box (7.2 x 4 x 5 cm, long side along x) at (0.5, 0)."""
    toy = ToyPick()
    toy.reset(0, {"box": box_at(0.5, 0.0, 0.025), "goal": poses.pose([0.5, 0.1, 0.2])})
    return toy


# ---------------------------------------------------------------- gripping


def test_a_box_between_closing_fingers_is_held_and_lifted(sim):
    pick(sim)
    assert sim.held() == ("box",)
    assert sim.observe().gripper_width == pytest.approx(0.04, abs=1e-4)
    np.testing.assert_allclose(sim.observe().objects[0, :3], [0.5, 0.0, 0.2], atol=1e-3)


def test_it_falls_when_the_fingers_open(sim):
    pick(sim)
    go(sim, tool(0.5, 0.0, 0.2), OPEN, 12)
    assert sim.held() == ()
    np.testing.assert_allclose(sim.observe().objects[0, :3], [0.5, 0.0, 0.025], atol=1e-5)


def test_a_misplaced_box_within_the_opening_is_pushed_between_the_fingers(sim):
    pick(sim, offset=(0.0, 0.015, 0.0))
    assert sim.held() == ("box",)
    assert sim.observe().objects[0, 1] == pytest.approx(0.015, abs=1e-3)


@pytest.mark.parametrize("offset", [(0.06, 0.0, 0.0), (0.0, 0.07, 0.0), (0.0, 0.0, 0.05)], ids="xyz")
def test_a_grasp_that_misses_the_box_holds_nothing(sim, offset):
    pick(sim, offset=offset)
    assert sim.held() == ()
    assert sim.observe().objects[0, 2] == pytest.approx(0.025)
    assert sim.observe().gripper_width == pytest.approx(0.0, abs=1e-4)


def test_fingers_do_not_fit_around_the_diagonal(sim):
    pick(sim, yaw=1.0)
    assert sim.held() == ()
    sim.reset(0, {"box": box_at(0.5, 0.0, 0.025, 1.0)})
    pick(sim, yaw=1.0)
    assert sim.held() == ("box",)


def test_fingers_turn_a_box_flush_with_the_pads(sim):
    pick(sim, yaw=0.3)
    assert sim.held() == ("box",)
    yaw = poses.to_rotation_vector(sim.observe().objects[0, 3:])[2]
    assert yaw == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("tilt", "held"), [(0.1, True), (0.6, False)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_hand_that_leans_too_far_does_not_hold(sim, axis, tilt, held):
    lean = np.zeros(6)
    lean[3 + axis] = tilt
    for height, gripper in ((0.12, OPEN), (0.03, OPEN), (0.03, CLOSED), (0.2, CLOSED)):
        go(sim, poses.apply_delta(tool(0.5, 0.0, height), lean), gripper, 8)
    assert bool(sim.held()) is held


def test_without_friction_a_held_box_slides_down_gradually_and_out(sim):
    pick(sim, height=0.25)
    hold = sim.command(tool(0.5, 0.0, 0.25), CLOSED)
    heights = []
    for _ in range(4):
        sim.step(hold, [Disturbance("box", None, 0.2)])
        heights.append(sim.observe().objects[0, 2])
    drops = -np.diff([0.25, *heights])
    # 0.144 kg between two pads of 3 N with 0.2: 9.81 - 2*0.2*3/0.144 = 1.48 m/s², 0.18 m/s² a step of 50 ms
    assert drops[0] == pytest.approx(1.48 * 0.05**2 / 2, rel=0.25)
    assert (np.diff(drops) > 0).all()
    assert sim.held() == ("box",)
    for _ in range(12):
        sim.step(hold, [Disturbance("box", None, 0.0)])
    assert sim.held() == ()
    assert sim.observe().objects[0, 2] == pytest.approx(0.025)


def test_a_slip_that_ends_leaves_the_box_lower_in_the_grip(sim):
    pick(sim, height=0.25)
    hold = sim.command(tool(0.5, 0.0, 0.25), CLOSED)
    sim.step(hold, [Disturbance("box", None, 0.0)])
    for _ in range(5):
        sim.step(hold)
    assert sim.held() == ("box",)
    assert 0.012 < 0.25 - sim.observe().objects[0, 2] < 0.025


def test_a_forced_velocity_tears_a_box_out_of_the_grip(sim):
    pick(sim)
    hold = sim.command(tool(0.5, 0.0, 0.2), CLOSED)
    before = sim.observe().objects[0]
    sim.step(hold, [Disturbance("box", (0.4, 0.0, -0.2, 0.0, 0.0, 0.0))])
    after = sim.observe().objects[0]
    np.testing.assert_allclose(after[:3] - before[:3], [0.02, 0.0, -0.01], atol=1e-6)
    assert sim.held() == ()


def test_a_velocity_with_the_tool_comes_on_top_of_its_motion(sim):
    pick(sim)
    offset = sim.observe().objects[0, :3] - sim.observe().tcp_pose[:3]
    sinking = Disturbance("box", (0.0, 0.0, -0.06, 0.0, 0.0, 0.0), with_tool=True)
    for step in range(4):
        sim.step(sim.command(tool(0.5, 0.02 * (step + 1), 0.2), CLOSED), [sinking])
    moved = sim.observe().objects[0, :3] - sim.observe().tcp_pose[:3] - offset
    np.testing.assert_allclose(moved, [0.0, 0.0, -0.012], atol=1e-5)
    assert sim.held() == ("box",)


def test_a_held_box_turns_with_the_hand(sim):
    pick(sim)
    before = sim.observe()
    go(sim, poses.apply_delta(tool(0.5, 0.05, 0.2), [0, 0, 0, 0.3, 0.0, 0.8]), CLOSED, 20)
    after = sim.observe()
    assert sim.held() == ("box",)
    metres, radians = poses.distance(
        poses.relative(after.tcp_pose, after.objects[0]), poses.relative(before.tcp_pose, before.objects[0])
    )
    assert metres < 1e-4
    assert radians < 1e-3


# ---------------------------------------------------------------- pushing and standing


def test_a_closed_gripper_pushes_a_box_which_then_stops(sim):
    go(sim, tool(0.42, 0.0, 0.12), CLOSED)
    go(sim, tool(0.42, 0.0, 0.02), CLOSED)
    go(sim, tool(0.52, 0.0, 0.02), CLOSED, 0)
    moving = sim.observe().objects[0, 0]
    go(sim, tool(0.52, 0.0, 0.02), CLOSED, 12)
    box = sim.observe().objects[0]
    # flush with the fingers (1 cm deep) or slid on by up to v²/(2 mu g) = 0.5²/9.81 = 2.5 cm
    assert 0.52 + 0.01 + 0.036 - 1e-3 < box[0] < 0.52 + 0.01 + 0.036 + 0.03
    assert box[0] > moving
    assert box[1] == pytest.approx(0.0, abs=2e-3)
    state = sim.state()
    go(sim, tool(0.52, 0.0, 0.02), CLOSED, 1)
    np.testing.assert_allclose(sim.state(), state, atol=1e-6)


def test_a_push_off_the_middle_turns_the_box(sim):
    go(sim, tool(0.42, 0.018, 0.12), CLOSED)
    go(sim, tool(0.42, 0.018, 0.02), CLOSED)
    go(sim, tool(0.50, 0.018, 0.02), CLOSED)
    yaw = poses.to_rotation_vector(sim.observe().objects[0, 3:])[2]
    assert yaw < -0.05


def test_fingers_stand_on_a_box_rather_than_sink_into_it(sim):
    go(sim, tool(0.5, 0.0, 0.15), CLOSED)
    go(sim, tool(0.5, 0.0, 0.02), CLOSED, 10)
    # tips 12 mm beyond the tool, on a box 50 mm high
    assert sim.observe().tcp_pose[2] == pytest.approx(0.062, abs=1e-3)
    np.testing.assert_allclose(sim.observe().objects[0], box_at(0.5, 0.0, 0.025), atol=1e-5)


def test_fingers_stand_on_the_table(sim):
    go(sim, tool(0.3, 0.2, -0.1), OPEN, 10)
    assert sim.observe().tcp_pose[2] == pytest.approx(0.012, abs=1e-3)


def test_a_sliding_box_stops_where_friction_says(sim):
    hold = sim.command(sim.observe().tcp_pose, OPEN)
    sim.step(hold, [Disturbance("box", (0.6, 0.0, 0.0, 0.0, 0.0, 0.0))])
    for _ in range(10):
        sim.step(hold)
    # 50 ms at 0.6 m/s, then v² / (2 mu g) = 0.36 / 9.81
    assert sim.observe().objects[0, 0] - 0.5 == pytest.approx(0.03 + 0.36 / 9.81, abs=0.004)


def test_a_box_set_on_another_stays_and_rides_along():
    sim = ToyStack()
    sim.reset(0, {"box_a": box_at(0.5, 0.0, 0.2), "box_b": box_at(0.5, 0.01, 0.024)})
    home = sim.observe().tcp_pose
    go(sim, home, OPEN, 12)
    assert sim.observe().objects[0, 2] == pytest.approx(0.048 + 0.02, abs=1e-4)
    assert sim.evaluate().success
    for _ in range(3):
        sim.step(sim.command(home, OPEN), [Disturbance("box_b", (0.1, 0.0, 0.0, 0.0, 0.0, 0.0))])
    go(sim, home, OPEN, 8)
    boxes = sim.observe().objects
    assert boxes[1, 0] > 0.51
    assert boxes[0, 0] == pytest.approx(boxes[1, 0], abs=0.01)
    assert boxes[0, 2] == pytest.approx(0.068, abs=1e-4)


def test_a_box_whose_middle_is_beyond_the_edge_falls_beside():
    sim = ToyStack()
    sim.reset(0, {"box_a": box_at(0.5, 0.035, 0.1), "box_b": box_at(0.5, 0.0, 0.024)})
    go(sim, sim.observe().tcp_pose, OPEN, 20)
    boxes = sim.observe().objects
    assert boxes[0, 2] == pytest.approx(0.02, abs=1e-4)
    assert np.linalg.norm(boxes[0, :2] - boxes[1, :2]) > 0.04
    assert not sim.evaluate().success


def test_a_held_box_pushes_another():
    sim = ToyStack()
    sim.reset(0, {"box_a": box_at(0.45, 0.0, 0.02), "box_b": box_at(0.53, 0.0, 0.024)})
    pick(sim, height=0.03)
    go(sim, tool(0.50, 0.0, 0.03), CLOSED, 6)
    assert sim.held() == ("box_a",)
    assert sim.observe().objects[1, 0] == pytest.approx(0.50 + 0.02 + 0.026, abs=0.03)
    assert sim.observe().objects[1, 0] > 0.544


# ---------------------------------------------------------------- toppling


def fall(body: RigidBody, seconds: float = 2.0) -> RigidBody:
    for _ in range(round(seconds / 0.01)):
        body.fall(0.01, 0.0, 0.0, 0.0)
    return body


def test_a_box_tilted_below_its_edge_falls_back():
    body = RigidBody("b", (0.02, 0.02, 0.05), 0.1)
    edge = math.atan2(0.02, 0.05)
    body.turn(0.0, 0.8 * edge, 0.0)
    body.z = body.height
    fall(body)
    assert body.tilt == pytest.approx(0.0, abs=1e-6)
    assert body.z == pytest.approx(0.05)
    assert body.speed == 0.0


def test_a_box_tilted_past_its_edge_topples_onto_its_side():
    body = RigidBody("b", (0.02, 0.02, 0.05), 0.1)
    body.turn(0.0, 1.3 * math.atan2(0.02, 0.05), 0.0)
    body.z = body.height
    fall(body)
    assert body.z == pytest.approx(0.02)
    assert body.x > 0.03  # it fell forward, by its half height and its half width
    assert body.speed == 0.0


@pytest.mark.parametrize(("spin", "toppled"), [(2.0, False), (10.0, True)])
def test_a_knock_topples_only_where_it_is_strong_enough(sim, spin, toppled):
    hold = sim.command(sim.observe().tcp_pose, OPEN)
    sim.step(hold, [Disturbance("box", (0.0, 0.0, 0.1, spin, 0.0, 0.0))])
    for _ in range(30):
        sim.step(hold)
    box = sim.observe().objects[0]
    upright = bool(abs(poses.rotate(box[3:], (0.0, 0.0, 1.0))[2]) > 0.99)
    assert upright is not toppled
    assert box[2] == pytest.approx(0.02 if toppled else 0.025, abs=1e-4)


def test_boxes_dropped_anyhow_come_to_lie_on_a_face():
    rng = np.random.default_rng(0)
    for _ in range(30):
        body = RigidBody("b", (0.036, 0.02, 0.025), 0.144)
        body.turn(*rng.uniform(-2.0, 2.0, 3))
        body.z = body.height + rng.uniform(0.0, 0.3)
        fall(body)
        assert body.speed == 0.0
        assert min(abs(body.z - h) for h in body.half) < 1e-6


# ---------------------------------------------------------------- geometry, by hand


def test_overlap_is_the_shortest_way_out():
    fixed = (0.0, 0.0, 1.0, 0.0, 2.0, 1.0)
    assert overlap(fixed, (2.5, 0.0, 1.0, 0.0, 1.0, 1.0)) == pytest.approx((0.5, 1.0, 0.0))
    assert overlap(fixed, (0.0, -1.5, 0.0, 1.0, 1.0, 1.0)) == pytest.approx((0.5, 0.0, -1.0))
    assert overlap(fixed, (3.1, 0.0, 1.0, 0.0, 1.0, 1.0)) is None
    half = math.sqrt(0.5)
    # a square on its corner, which reaches sqrt(2) to the left
    depth, nx, ny = overlap(fixed, (3.0, 0.0, half, half, 1.0, 1.0))
    assert (depth, nx, ny) == pytest.approx((math.sqrt(2) - 1.0, 1.0, 0.0))


def test_a_strip_meets_the_part_of_a_rectangle_in_it():
    square = (0.0, 0.0, 1.0, 0.0, 1.0, 1.0)
    assert span_in_strip(square, 0.0, 0.0, 0.0, 1.0, 0.5) == pytest.approx((-1.0, 1.0))
    assert span_in_strip(square, 0.0, 0.5, 0.0, 1.0, 0.5) == pytest.approx((-1.5, 0.5))
    assert span_in_strip(square, 2.0, 0.0, 0.0, 1.0, 0.5) is None
    half = math.sqrt(0.5)
    # on its corner: its tip lies in the strip, or beside it
    tipped = (0.0, 0.0, half, half, 1.0, 1.0)
    assert span_in_strip(tipped, 0.0, 0.0, 0.0, 1.0, 0.1) == pytest.approx((-math.sqrt(2), math.sqrt(2)))
    low, high = span_in_strip(tipped, 0.5, 0.0, 0.0, 1.0, 0.1)
    assert (low, high) == pytest.approx((-(math.sqrt(2) - 0.4), math.sqrt(2) - 0.4))


def test_covers():
    half = math.sqrt(0.5)
    tipped = (1.0, 0.0, half, half, 1.0, 1.0)
    assert covers(tipped, 2.4, 0.0)
    assert not covers(tipped, 1.8, 0.8)


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", sorted(TASKS))
def test_specs(name):
    simulator = make(name)
    spec, robot = simulator.spec, simulator.spec.embodiment
    assert spec.task == name
    assert spec.exactness is Exactness.RESTORE
    assert (robot.control_hz, *robot.step_limits) == (20.0, 0.025, 0.125)
    assert (robot.gripper_travel, robot.gripper_seconds) == (0.08, pytest.approx(0.32))
    assert robot.controls_rotation
    assert robot.has_gripper
    assert spec.cameras == ("front", "side", "hand")
    assert simulator.episode.names(Role.MOVABLE)
    assert len(simulator.episode.goals) == 1


def test_an_unknown_task_is_refused_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"^unknown task 'ToyPik-v0': did you mean 'ToyPick-v0'\?"):
        make("ToyPik-v0")


def test_a_command_that_is_not_finite_diverges(sim):
    command = sim.command(sim.observe().tcp_pose, OPEN)
    command[0] = np.nan
    with pytest.raises(DivergedError, match="expected a finite command"):
        sim.step(command)


def test_a_pose_out_of_reach_is_approached(sim):
    far = tool(2.0, 0.0, 0.33)
    assert not sim.reachable(far)
    go(sim, far, OPEN)
    np.testing.assert_allclose(sim.observe().tcp_pose[:3], [0.9, 0.0, 0.33], atol=1e-3)


def test_success_is_judged_now_and_not_latched(sim):
    assert not sim.evaluate().success
    pick(sim)
    go(sim, tool(0.5, 0.1, 0.2), CLOSED, 10)
    assert sim.evaluate().success
    assert sim.evaluate().terms["distance"] < 0.005
    go(sim, tool(0.5, 0.1, 0.2), OPEN, 10)
    assert not sim.evaluate().success


def test_a_push_is_done_only_when_the_box_lies_still_in_the_region():
    sim = ToyPush()
    sim.reset(0, {"box": box_at(0.5, 0.0, 0.025), "goal": box_at(0.5, 0.03, 0.001)})
    assert sim.evaluate().success
    hold = sim.command(sim.observe().tcp_pose, OPEN)
    sim.step(hold, [Disturbance("box", (0.0, 0.4, 0.0, 0.0, 0.0, 0.0))])
    assert not sim.evaluate().success
    assert sim.evaluate().terms["distance"] == pytest.approx(0.01, abs=1e-6)


# ---------------------------------------------------------------- images


def test_pictures_show_the_scene(sim):
    cameras = [sim.camera(name) for name in sim.spec.cameras]
    images = sim.render(cameras, 96)
    assert images.shape == (3, 96, 96, 3)
    front = images[0].astype(int)
    red = (front[..., 0] > 120) & (front[..., 1] < 80)
    green = (front[..., 1] > front[..., 0] + 10) & (front[..., 1] > front[..., 2] + 10)
    assert 30 < red.sum() < 800
    assert 10 < green.sum() < 800


def test_a_box_is_drawn_where_it_projects_to(sim):
    camera = sim.camera("front")
    image = sim.render([camera], 200)[0].astype(int)
    rows, columns = np.nonzero((image[..., 0] > 120) & (image[..., 1] < 80))
    local = poses.relative(np.array(camera.pose), sim.observe().objects[0])[:3]
    focal = 100 / math.tan(camera.fov / 2)
    assert columns.mean() == pytest.approx(99.5 - focal * local[1] / local[0], abs=3)
    assert rows.mean() == pytest.approx(99.5 - focal * local[2] / local[0], abs=4)


def test_the_hand_camera_moves_with_the_hand(sim):
    camera = sim.camera("hand")
    before = sim.render([camera], 64)
    go(sim, tool(0.5, 0.05, 0.2), OPEN)
    assert camera.mounted
    assert (sim.render([camera], 64) != before).mean() > 0.1


# ---------------------------------------------------------------- cost


def test_a_control_step_costs_well_below_a_millisecond(sim):
    hold = sim.command(sim.observe().tcp_pose, OPEN)
    best = math.inf
    for _ in range(5):
        start = time.process_time()
        for _ in range(100):
            sim.step(hold)
        best = min(best, time.process_time() - start)
    # about 0.06 ms without the checks of types that are on under test
    assert best / 100 < 1e-3
