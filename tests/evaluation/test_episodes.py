"""The control loop of an episode: when it ends, what a policy may ask for and see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.bench import Wanderer, play

from failsafe.errors import PolicyError
from failsafe.evaluation.episodes import (
    TRACKING_LIMIT_METRES,
    TRACKING_LIMIT_RADIANS,
    RenderedViews,
    Stopwatch,
    clip_target,
)
from failsafe.policies.contract import ActionSpace
from failsafe.records import poses
from failsafe.records.episode import Ending
from failsafe.rollouts.stopping import HOLD_SECONDS
from failsafe.simulators.contract import Evaluation
from failsafe.simulators.toy import ToyPick

HOLD_STEPS = round(HOLD_SECONDS * 20)


class Judged(ToyPick):
    """Done whenever a test says so; counts its steps from the reset on."""

    def __init__(self, done: Callable[[int], bool]) -> None:
        self.done, self.steps = done, 0
        super().__init__()

    def reset(self, seed: int, objects: Any = None) -> None:
        self.steps = 0
        super().reset(seed, objects)

    def step(self, command: np.ndarray, disturbances: Any = ()) -> None:
        self.steps += 1
        super().step(command, disturbances)

    def evaluate(self) -> Evaluation:
        return Evaluation(self.done(self.steps))


class Waits(Wanderer):
    """Stays where it is, and keeps what it has seen."""

    name = "waits"
    views = {}  # noqa: RUF012 -- never changed

    def reset(self, instruction: str) -> None:
        self.seen: list[Any] = []

    def act(self, observation: Any) -> np.ndarray:
        self.seen.append(observation)
        return np.array([[0.0] * 6 + [1.0]])


def until(done: Callable[[int], bool], steps: int = 60) -> tuple[Ending, int]:
    episode, _ = play(Waits(), Judged(done), steps=steps)
    return episode.ending, episode.steps


# ------------------------------------------------------------------ when it ends


def test_a_success_has_to_last() -> None:
    ending, steps = until(lambda step: step >= 8)
    assert (ending, steps) == (Ending.SUCCESS, 8 + HOLD_STEPS)


def test_a_success_that_passes_is_none() -> None:
    # Done from step 8 for one step less than it has to be, and again and again so.
    assert until(lambda step: 8 <= step < 8 + HOLD_STEPS)[0] is Ending.FAILURE
    assert until(lambda step: step % 16 < 12 and step < 60) == (Ending.FAILURE, 60)


def test_a_success_is_not_latched() -> None:
    ending, steps = until(lambda step: step in (8, 12) or step >= 20)
    assert (ending, steps) == (Ending.SUCCESS, 20 + HOLD_STEPS)


def test_at_the_limit_it_is_judged_after_settling() -> None:
    simulator = Judged(lambda step: step >= 40 + HOLD_STEPS)
    episode, states = play(Waits(), simulator, steps=40)
    assert simulator.steps == 40 + HOLD_STEPS
    assert (episode.ending, episode.steps, len(states)) == (Ending.SUCCESS, 40, 40)
    assert until(lambda step: 32 <= step < 40 + HOLD_STEPS, 40) == (Ending.FAILURE, 40)


def test_a_policy_that_does_not_fit_is_refused_before_the_first_step() -> None:
    policy = Waits()
    policy.action_space = ActionSpace(rate_hz=10.0)
    with pytest.raises(PolicyError, match="10 actions per second, but the robot takes 20"):
        play(policy)
    policy = Waits()
    policy.views = {"ceiling": 16}
    with pytest.raises(PolicyError, match="looks through ceiling; there are the views front"):
        play(policy)


def test_times_are_kept_apart() -> None:
    episode, _ = play(Waits(), steps=20)
    assert (episode.robot_seconds, episode.monitor_seconds) == (1.0, 0.0)
    assert 0 < episode.policy_seconds < 5


# ------------------------------------------------------------------ what a policy may ask for

ROBOT = ToyPick().spec.embodiment
COORDINATES = st.tuples(*[st.floats(-0.3, 0.3)] * 3)
ROTATIONS = st.tuples(*[st.floats(-1.5, 1.5)] * 3)
POSES = st.builds(
    lambda place, turn: np.concatenate([place, poses.from_rotation_vector(turn)]), COORDINATES, ROTATIONS
)
NEAR = st.builds(lambda d, r: np.concatenate([d, r]) * 0.08, COORDINATES, ROTATIONS)


def within(a: np.ndarray, b: np.ndarray, metres: float, radians: float) -> bool:
    far, turned = poses.distance(a, b)
    return far <= metres + 1e-6 and turned <= radians + 1e-6


def check_clipped(wanted: np.ndarray, before: np.ndarray, measured: np.ndarray) -> None:
    limits = ROBOT.step_limits
    target = clip_target(wanted, before, measured, ROBOT)
    assert within(measured, target, TRACKING_LIMIT_METRES, TRACKING_LIMIT_RADIANS)
    far, turned = poses.distance(measured, target)
    at_the_limit = far > TRACKING_LIMIT_METRES - 1e-6 or turned > TRACKING_LIMIT_RADIANS - 1e-6
    assert at_the_limit or within(before, target, *limits) or within(measured, target, *limits)
    if within(measured, wanted, *(0.99 * limit for limit in limits)):
        np.testing.assert_array_equal(target, wanted)
    # What is asked for once more is given as it is: the arm does not creep.
    again = clip_target(target, target, measured, ROBOT)
    assert max(poses.distance(again, target)) < 1e-6


@settings(deadline=None)
@given(wanted=POSES, before=POSES, measured=POSES)
def test_a_target_is_within_a_step_of_the_last_or_of_the_tool_and_of_the_tracking_limit(
    wanted: np.ndarray, before: np.ndarray, measured: np.ndarray
) -> None:
    check_clipped(wanted, before, measured)


@settings(deadline=None)
@given(measured=POSES, lag=NEAR, step=NEAR)
def test_so_it_is_in_the_small(measured: np.ndarray, lag: np.ndarray, step: np.ndarray) -> None:
    before = poses.apply_delta(measured, lag)
    check_clipped(poses.apply_delta(before, step), before, measured)


def test_steps_add_up_only_up_to_the_tracking_limit() -> None:
    measured = target = poses.pose([0.4, 0.0, 0.3])
    reached = []
    for _ in range(6):  # the tool is held fast
        target = clip_target(poses.apply_delta(target, [1.0, 0, 0, 0, 0, 0]), target, measured, ROBOT)
        reached.append(round(float(target[0]) - 0.4, 6))
    assert reached == [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]


# ------------------------------------------------------------------ what it sees


@pytest.mark.parametrize(("scenario", "delay"), [("nominal", 0), ("delay-1", 1), ("delay-3", 3)])
def test_sensors_are_as_late_as_the_scenario_says(scenario: str, delay: int) -> None:
    seen: list[tuple[np.ndarray, float, np.ndarray]] = []

    class Records(Wanderer):
        action_space = ActionSpace(chunk=1)

        def act(self, observation: Any) -> np.ndarray:
            picture = observation.images["front"]
            seen.append((observation.tcp_pose, observation.gripper_width, picture))
            return super().act(observation)[:1]

    simulator = ToyPick()
    _, states = play(Records(), simulator, scenario=scenario, steps=8)
    for step, (tcp_pose, width, picture) in enumerate(seen):
        true = states[max(0, step - delay)]
        np.testing.assert_array_equal(tcp_pose.astype(np.float32), true[:7])
        assert width == true[7]
        np.testing.assert_array_equal(picture, simulator.render([simulator.camera("front")], 16, true)[0])


def test_noise_is_of_the_seed() -> None:
    first, again, other = (play(Waits(), scenario="noise", seed=seed, steps=10)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[:, :7], other[:, :7])
    assert not np.array_equal(first[:, :7], play(Waits(), seed=3, steps=10)[1][:, :7])


def test_pictures_are_rendered_when_asked_for_and_once() -> None:
    asked: list[tuple[str, ...]] = []

    class Counted(ToyPick):
        def render(self, cameras: Any, size: int, state: Any = None) -> np.ndarray:
            asked.append((*(camera.name for camera in cameras), str(size)))
            return super().render(cameras, size, state)

    simulator, watch = Counted(), Stopwatch()
    cameras = {view: simulator.camera(view) for view in ("front", "hand", "side")}
    sizes = {"front": 16, "hand": 8, "side": 16}
    views = RenderedViews(simulator, simulator.state(), cameras, sizes, watch)
    assert (list(views), len(views), asked, watch.seconds) == (["front", "hand", "side"], 3, [], 0.0)
    assert views["side"].shape == views["front"].shape == (16, 16, 3)
    assert asked == [("front", "side", "16")]
    assert views["hand"].shape == (8, 8, 3)
    assert asked[1:] == [("hand", "8")]
    assert watch.seconds > 0
    np.testing.assert_array_equal(views["side"], ToyPick.render(simulator, [cameras["side"]], 16)[0])


def test_a_camera_that_fails_takes_no_other_with_it() -> None:
    class OneCameraBroken(ToyPick):
        def render(self, cameras: Any, size: int, state: Any = None) -> np.ndarray:
            if any(camera.name == "hand" for camera in cameras):
                raise OSError("no such device")
            return super().render(cameras, size, state)

    simulator = OneCameraBroken()
    cameras = {view: simulator.camera(view) for view in ("front", "hand")}
    views = RenderedViews(simulator, simulator.state(), cameras, {"front": 16, "hand": 16}, Stopwatch())
    assert views["front"].any()
    with pytest.raises(OSError, match="no such device"):
        views["hand"]
