"""The image transform: hand-computed values, and the same pixels in training and in the loop."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from tests.monitors.scripted import FINE, ScriptedModel

from failsafe.evaluation.episodes import RenderedViews, Stopwatch
from failsafe.monitors.history import History
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.policies.contract import ActionSpace
from failsafe.records.assessment import WindowSpec
from failsafe.records.observation import PolicyObservation
from failsafe.records.trace import Trace
from failsafe.records.transforms import ImageTransform
from failsafe.samples.windows import cut_window
from failsafe.simulators.toy import ToyPick


def test_larger_images_are_averaged() -> None:
    board = np.zeros((16, 16, 3), dtype=np.uint8)
    board[::2, ::2] = 200  # one of each 2 x 2 pixels
    assert (ImageTransform(8)(board) == 50).all()
    assert (ImageTransform(8).all(np.stack([board, 0 * board])).mean((1, 2, 3)) == [50, 0]).all()


def test_the_middle_square_of_a_wide_image_is_used() -> None:
    wide = np.zeros((8, 12, 3), dtype=np.uint8)
    wide[:, 2:10] = 100
    assert (ImageTransform(8)(wide) == 100).all()
    assert (ImageTransform(8)(wide.transpose(1, 0, 2)) == 100).all()
    assert (ImageTransform(4)(wide) == 100).all()


@pytest.mark.parametrize("size", [3, 8, 24])
def test_the_result_has_the_size(size: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    assert ImageTransform(size)(image).shape == (size, size, 3)


def test_an_image_of_the_right_size_is_not_copied() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    assert ImageTransform(8)(image) is image
    assert (ImageTransform(8).rendered, ImageTransform(8, 32).rendered) == (8, 32)


@pytest.mark.parametrize("source", [0, 80])
@pytest.mark.parametrize("base", [32, 48, 224])
def test_training_and_the_loop_see_the_same_pixels(source: int, base: int) -> None:
    """A sample and the monitor's window of the same states, behind a base policy with other image sizes."""
    spec = WindowSpec(("front", "hand"), history=3, frames=2, size=32, source=source)
    simulator = ToyPick()
    simulator.reset(3)
    pose = simulator.observe().tcp_pose
    states = [simulator.state()]
    for step in range(1, 4):
        target = pose.copy()
        target[2] -= 0.02 * step
        simulator.step(simulator.command(target, 1.0))
        states.append(simulator.state())
    cameras = {view: simulator.camera(view) for view in ("front", "hand")}
    trace = _trace(states)
    sample, _, _ = cut_window(simulator, trace, 3, spec, list(cameras.values()))

    history = History(spec)
    for state in states:
        views = RenderedViews(simulator, state, cameras, {"front": base, "hand": 32}, Stopwatch())
        history.add(PolicyObservation(views, pose, pose, 0.08))
    np.testing.assert_array_equal(history.window("pick").frames, sample)
    assert sample.std() > 1
    # Resampling the base policy's images instead gives other pixels: the skew that is avoided.
    other = ImageTransform(32)(simulator.render([cameras["front"]], 224, states[-1])[0])
    assert (other != sample[0, -1]).any()


class Records:
    """A base policy with images of 24 px that keeps what it is given."""

    name = "records"
    action_space = ActionSpace()
    views: ClassVar[dict[str, int]] = {"front": 24}

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def reset(self, instruction: str) -> None:
        self.seen.clear()

    def act(self, observation: PolicyObservation) -> np.ndarray:
        self.seen.append(observation.images["front"])
        return np.zeros((1, 7))

    def drop_queue(self) -> None:
        pass


def test_a_base_policy_sees_the_same_pixels_with_and_without_a_monitor() -> None:
    """A shared view is rendered for each at its own size."""
    simulator = ToyPick()
    simulator.reset(0)
    pose, state = simulator.observe().tcp_pose, simulator.state()
    cameras = {view: simulator.camera(view) for view in ("front", "hand")}
    base = Records()
    guarded = MonitoredPolicy(base, ScriptedModel(FINE))
    assert guarded.views == {"front": 24, "hand": 8}
    larger = {"front": 96, "hand": 8}
    guarded.reset("pick")
    views = RenderedViews(simulator, state, cameras, larger, Stopwatch())
    guarded.act(PolicyObservation(views, pose, pose, 0.08))
    alone = simulator.render([cameras["front"]], 24, state)[0]
    np.testing.assert_array_equal(base.seen[0], alone)


def test_seconds_become_control_steps() -> None:
    assert WindowSpec.from_seconds(0.5, 20.0).history == 10
    assert WindowSpec.from_seconds(0.5, 80.0, ("front",), 2, 64) == WindowSpec(("front",), 40, 2, 64)
    assert WindowSpec.from_seconds(0.01, 20.0).history == 1


def _trace(states: list[np.ndarray]) -> Trace:
    """A rollout with these states; only its length matters otherwise."""
    steps = len(states) - 1
    poses = np.tile(np.array([0.5, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0], np.float32), (steps + 1, 1))
    return Trace(
        commands=np.zeros((steps, 8), np.float32),
        targets=poses[1:],
        gripper_commands=np.ones(steps, np.float32),
        stages=np.zeros(steps, np.int16),
        tcp_poses=poses,
        gripper_widths=np.full(steps + 1, 0.08, np.float32),
        objects=poses[:, None],
        states=np.array(states),
    )
