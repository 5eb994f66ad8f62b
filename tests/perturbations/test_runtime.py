"""Run-time perturbations set in once, at the event that they wait for, with the effect that they state."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.evaluation.bench import Wanderer, play

from failsafe.errors import UnknownNameError, UserError
from failsafe.evaluation.scenarios import perturbed_scenarios, scenario
from failsafe.experts.toy import EXPERTS
from failsafe.perturbations import MODES
from failsafe.perturbations.injection import Injection
from failsafe.perturbations.runtime import RuntimePerturbation, make_injection, parse_runtime, runtime_modes
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN
from failsafe.records.trace import Trace
from failsafe.rollouts.hooks import Command
from failsafe.rollouts.loop import ControlLoop
from failsafe.rollouts.recording import TraceRecorder
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.toy import ToyPick

SEEDS = range(6)


def demonstrate(seed: int) -> Trace:
    """What the expert does, to be repeated as an open-loop policy."""
    simulator = ToyPick()
    simulator.reset(seed)
    runner = RolloutRunner(simulator)
    EXPERTS["ToyPick-v0"]().solve(runner)
    return runner.trace()


def repeat(trace: Trace, seed: int, text: str = "", steps: int = 0) -> tuple[Injection | None, Trace]:
    """The same commands again with a perturbation, the last one held for some steps more."""
    simulator, recorder = ToyPick(), TraceRecorder()
    simulator.reset(seed)
    injection = make_injection(parse_runtime(text).draw(seed), simulator) if text else None
    loop = ControlLoop(simulator, [*([injection] if injection else []), recorder])
    sent = loop.observation.tcp_pose
    for i in [*range(len(trace)), *[len(trace) - 1] * steps]:
        command = Command(trace.targets[i].astype(float), float(trace.gripper_commands[i]))
        sent = loop.step(command, (sent, loop.observation.tcp_pose)).target
    return injection, recorder.trace()


def stand_still(seed: int, text: str, steps: int = 60) -> tuple[Injection, np.ndarray]:
    """The perturbation of a robot that does nothing, and where the object is before every step. [T+1, 3]"""
    simulator, recorder = ToyPick(), TraceRecorder()
    simulator.reset(seed)
    injection = make_injection(parse_runtime(text).draw(seed), simulator)
    loop = ControlLoop(simulator, [injection, recorder])
    pose = loop.observation.tcp_pose
    for _ in range(steps):
        loop.step(Command(pose, OPEN), (pose,))
    return injection, recorder.trace().objects[:, 0, :3].astype(float)


# ------------------------------------------------------------------ world


@pytest.mark.parametrize("seed", SEEDS)
def test_a_free_object_is_pushed_by_the_stated_distance_from_the_injection_step(seed: int) -> None:
    injection, places = stand_still(seed, "object_pushed:0.05")
    assert injection.step is not None
    assert 0.25 <= injection.step / 20 <= 1.0
    moved = np.linalg.norm(places - places[0], axis=1)
    assert moved[: injection.step + 1].max() < 1e-6
    assert moved[injection.step + 1] > 0.005
    assert moved[-1] == pytest.approx(0.05, abs=0.005)


def test_time_and_direction_differ_between_seeds_and_not_between_runs() -> None:
    found: list[tuple[int | None, float]] = []
    for seed in (0, 1, 2, 3, 0):
        injection, places = stand_still(seed, "object_pushed:0.05")
        x, y = (places[-1] - places[0])[:2].tolist()
        found.append((injection.step, round(math.atan2(y, x), 3)))
    assert len(set(found[:4])) == 4
    assert found[0] == found[4]


def test_nothing_is_dropped_before_it_is_held() -> None:
    injection, places = stand_still(3, "object_dropped:0")
    assert injection.step is None
    assert np.ptp(places, axis=0).max() < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("text", ["object_dropped:0", "early_release:1"])
def test_an_object_that_was_raised_is_lost(text: str, seed: int) -> None:
    trace = demonstrate(seed)
    injection, after = repeat(trace, seed, text, steps=20)
    heights = after.objects[:, 0, 2]
    assert injection is not None
    assert injection.step is not None
    assert heights[injection.step] >= heights[0] + 0.03
    assert heights[-1] == pytest.approx(heights[0], abs=0.01)
    assert heights[-1] < trace.objects[-1, 0, 2] - 0.05


def test_a_slip_moves_the_object_down_in_the_grip_by_the_stated_distance() -> None:
    trace = demonstrate(2)
    injection, after = repeat(trace, 2, "slip:0.02")
    assert injection is not None
    assert injection.step is not None
    at = injection.step

    def in_grip(step: int) -> float:
        return float(poses.relative(after.tcp_poses[step].astype(float), after.objects[step, 0])[2])

    assert in_grip(at + 4) - in_grip(at) == pytest.approx(0.02, abs=0.003)


# ------------------------------------------------------------------ actuation


def test_no_op_repeats_the_last_command_for_the_stated_time() -> None:
    trace = demonstrate(0)
    injection, after = repeat(trace, 0, "no_op:0.5")
    assert injection is not None
    assert injection.step is not None
    first = injection.step
    still = [
        step for step in range(first, first + 10) if (after.targets[step] == after.targets[first - 1]).all()
    ]
    assert still == list(range(first, first + 10))
    # Then the tool returns to the path within the step limits of the robot.
    steps = np.linalg.norm(np.diff(after.targets[:, :3], axis=0), axis=1)
    assert steps.max() <= 0.025 + 1e-6


def test_a_drift_grows_at_the_stated_rate_and_ends() -> None:
    simulator, recorder = ToyPick(), TraceRecorder()
    simulator.reset(1)
    injection = make_injection(parse_runtime("drift:0.04").draw(1), simulator)
    loop = ControlLoop(simulator, [injection, recorder])
    pose = loop.observation.tcp_pose
    sent = pose
    for _ in range(80):  # the robot is told to stay
        sent = loop.step(Command(pose, OPEN), (sent,)).target
    bias = recorder.trace().targets[:, :2] - pose[:2]
    assert injection.step is not None
    first = injection.step
    sizes = np.linalg.norm(bias, axis=1)
    assert sizes[:first].max(initial=0.0) < 1e-6
    np.testing.assert_allclose(sizes[first : first + 30], 0.002 * np.arange(1, 31), atol=1e-5)
    assert sizes[first + 33 :].max() < 1e-6  # back within the step limits of the robot
    angle = injection.mode.perturbation.direction
    assert math.atan2(bias[first + 9, 1], bias[first + 9, 0]) == pytest.approx(angle, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "gripper"),
    [("gripper_stays_open:0", OPEN), ("gripper_stays_open:0.25", 0.5), ("late_close:0.5", OPEN)],
)
def test_the_gripper_closes_as_the_mode_says(text: str, gripper: float) -> None:
    trace = demonstrate(0)
    injection, after = repeat(trace, 0, text)
    closes = int(np.argmax(trace.gripper_commands < 0))
    assert injection is not None
    assert injection.step == closes
    told = after.gripper_commands[closes : closes + 10]
    np.testing.assert_allclose(told, gripper)
    assert after.gripper_commands[closes + 10] == (CLOSED if text.startswith("late") else gripper)


def test_a_gripper_that_was_opened_again_closes() -> None:
    simulator, recorder = ToyPick(), TraceRecorder()
    simulator.reset(0)
    loop = ControlLoop(
        simulator, [make_injection(parse_runtime("gripper_stays_open:0").draw(0), simulator), recorder]
    )
    pose = loop.observation.tcp_pose
    for gripper in (OPEN, CLOSED, CLOSED, OPEN, CLOSED):
        loop.step(Command(pose, gripper), (pose,))
    assert recorder.trace().gripper_commands.tolist() == [OPEN, OPEN, OPEN, OPEN, CLOSED]


@pytest.mark.parametrize("mode", runtime_modes())
def test_until_it_acts_nothing_is_changed(mode: str) -> None:
    acted = 0
    for seed in (0, 1, 2):
        trace = demonstrate(seed)
        _, without = repeat(trace, seed)
        injection, after = repeat(trace, seed, mode)
        assert injection is not None
        at = len(trace) if injection.step is None else injection.step
        assert after.states[: at + 1].tobytes() == without.states[: at + 1].tobytes()
        if injection.step is not None:
            acted += 1
            assert after.states[at + 1 :].tobytes() != without.states[at + 1 :].tobytes()
    assert acted == 3


# ------------------------------------------------------------------ episodes of a policy


@pytest.mark.parametrize("seed", SEEDS)
def test_an_episode_records_its_perturbation_and_is_as_without_it_until_then(seed: int) -> None:
    usual, without = play(Wanderer(), seed=seed, steps=40)
    pushed, states = play(Wanderer(), seed=seed, scenario="pushed", steps=40)
    assert (usual.injection_step, usual.perturbations) == (None, ())
    assert pushed.injection_step is not None
    assert [p.mode for p in pushed.perturbations] == ["object_pushed"]
    assert pushed.perturbations[0].magnitude == 0.05
    at = pushed.injection_step
    np.testing.assert_array_equal(states[: at + 1], without[: at + 1])
    assert not np.array_equal(states[at + 1], without[at + 1])


def test_scenarios_and_perturbations_are_joined() -> None:
    assert perturbed_scenarios(("nominal", "noise"), ("slip", "early_release:0.7")) == (
        *("nominal", "noise"),
        *("slip", "noise+slip", "early_release:0.7", "noise+early_release:0.7"),
    )
    both = scenario("noise+camera-5+slip:0.02")
    assert (both.noisy, both.metres, both.axis) == (True, 0.05, "perturbation+physics+viewpoint")
    assert both.perturbations == (RuntimePerturbation("slip", 0.02),)
    assert scenario("slip").perturbations == (RuntimePerturbation("slip"),)
    with pytest.raises(UserError, match="different things in scenario 'delay-1\\+delay-2': delay"):
        scenario("delay-1+delay-2")


def test_magnitudes_are_drawn_as_in_generation_unless_stated() -> None:
    sizes = [parse_runtime("slip").draw(seed).magnitude for seed in range(200)]
    assert 0.01 <= min(sizes) < 0.013 < 0.032 < max(sizes) <= 0.035
    assert {parse_runtime("slip:0.03").draw(seed).magnitude for seed in range(5)} == {0.03}
    first, second = (parse_runtime("slip").draw(4, index) for index in (0, 1))
    assert first.delay != second.delay


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("slipp", UnknownNameError, "did you mean 'slip'"),
        ("translation_x", UserError, "expected a mode that needs no plan, got 'translation_x' of level plan"),
        ("wrong_object", UserError, "needs no plan"),
        ("early_release:2", UserError, "magnitude of early_release from 0 to 1 of opening, got 2"),
        ("slip:nan", UserError, "finite magnitude"),
    ],
)
def test_what_cannot_be_applied_is_refused(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_runtime(text)


def test_every_mode_of_actuation_and_world_needs_no_plan() -> None:
    levels = {name: mode.level.value for name, mode in MODES.items()}
    assert runtime_modes() == [name for name in MODES if levels[name] in ("actuation", "world")]
