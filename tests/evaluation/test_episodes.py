"""The control loop of an episode: when it ends, what a policy may ask for and see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.evaluation.bench import Glance, Wanderer, play

from failsafe.errors import PolicyError
from failsafe.evaluation.episodes import (
    RenderedViews,
    Stopwatch,
)
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.policies.contract import ActionSpace
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
    with pytest.raises(PolicyError, match="got none for ceiling; there are the views front"):
        play(policy)


class Asks(Waits):
    """Asks for 10 cm along x in some steps, whatever the robot's limit is."""

    def __init__(self, large: tuple[int, ...]) -> None:
        self.large = large

    def act(self, observation: Any) -> np.ndarray:
        x = 0.1 if len(self.seen) in self.large else 0.001
        super().act(observation)
        return np.array([[x, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])


def test_steps_over_the_limits_are_counted_and_shortened() -> None:
    assert play(Asks(()), steps=10)[0].limited_steps == 0
    policy = Asks((2, 3, 7))
    assert play(policy, steps=10)[0].limited_steps == 3
    targets = np.array([seen.target_pose[0] for seen in policy.seen])
    limit = ToyPick().spec.embodiment.max_translation
    expected = [limit if step in policy.large else 0.001 for step in range(9)]
    np.testing.assert_allclose(np.diff(targets), expected, atol=1e-9)


def test_a_policy_is_given_the_seed_of_the_episode() -> None:
    told: list[Any] = []

    class Samples(Waits):
        def reset(self, instruction: str, seed: int) -> None:  # pyright: ignore
            super().reset(instruction)
            told.append(seed)

    play(Samples(), seed=7, steps=2)
    play(MonitoredPolicy(Samples(), Glance(), 0.5), seed=8, steps=2)
    assert told == [7, 8]


def test_times_are_kept_apart() -> None:
    episode, _ = play(Waits(), steps=20)
    assert (episode.robot_seconds, episode.monitor_seconds) == (1.0, 0.0)
    assert 0 < episode.policy_seconds < 5


# ------------------------------------------------------------------ what it sees


@pytest.mark.parametrize(("scenario", "delay"), [("nominal", 0), ("delay-1", 1), ("delay-3", 3)])
def test_sensors_are_as_late_as_the_scenario_says(scenario: str, delay: int) -> None:
    seen: list[tuple[np.ndarray, float, np.ndarray]] = []

    class Records(Wanderer):
        action_space = ActionSpace(chunk=1)

        def act(self, observation: Any) -> np.ndarray:
            image = observation.images["front"]
            seen.append((observation.tcp_pose, observation.gripper_width, image))
            return super().act(observation)[:1]

    simulator = ToyPick()
    _, states = play(Records(), simulator, scenario=scenario, steps=8)
    for step, (tcp_pose, width, image) in enumerate(seen):
        true = states[max(0, step - delay)]
        np.testing.assert_array_equal(tcp_pose.astype(np.float32), true[:7])
        assert width == true[7]
        np.testing.assert_array_equal(image, simulator.render([simulator.camera("front")], 16, true)[0])


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
