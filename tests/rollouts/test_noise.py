"""What a real robot adds: the size and the delay of its errors."""

import numpy as np

from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN
from failsafe.rollouts import noise
from failsafe.rollouts.hooks import Command, StepContext
from failsafe.rollouts.loop import ControlLoop
from failsafe.rollouts.noise import ActuationNoise
from failsafe.rollouts.runner import RolloutRunner
from failsafe.simulators.toy import ToyPick

DOWN = poses.pose([0.5, 0.0, 0.2], [0.0, 1.0, 0.0, 0.0])


def context(step):
    return StepContext(step, 0, step, 100, ControlLoop(ToyPick()))


def test_noise_has_its_size_and_comes_one_step_late():
    noise = ActuationNoise(np.random.default_rng(0))
    commanded = [poses.apply_delta(DOWN, [0.001 * i, 0.0, 0.0, 0.0, 0.0, 0.0]) for i in range(4001)]
    late, grippers = [], []
    for i, target in enumerate(commanded):
        sent = noise.before_step(context(i), Command(target, OPEN if i < 2000 else CLOSED))
        late.append(poses.delta_between(commanded[max(i - 1, 0)], sent.target))
        grippers.append(sent.gripper)
    late = np.array(late)
    np.testing.assert_allclose(late[:, :3].std(axis=0), 0.002, rtol=0.05)
    np.testing.assert_allclose(late[:, 3:].std(axis=0), np.deg2rad(1.0), rtol=0.05)
    np.testing.assert_allclose(late.mean(axis=0), 0.0, atol=0.001)
    correlation = np.corrcoef(late[:-1, 0], late[1:, 0])[0, 1]
    assert abs(correlation) < 0.05
    assert grippers == [OPEN] * 2001 + [CLOSED] * 2000


def test_an_arm_that_is_told_to_stay_stays():
    noise = ActuationNoise(np.random.default_rng(0))
    sent = [noise.before_step(context(i), Command(DOWN.copy(), OPEN)).target for i in range(5)]
    np.testing.assert_array_equal(sent, [sent[0]] * 5)
    assert 1e-4 < np.linalg.norm(sent[0][:3] - DOWN[:3]) < 0.01


def test_late_commands_lose_no_action(monkeypatch):
    monkeypatch.setattr(noise, "_NOISE", np.zeros(6))
    simulator = ToyPick()
    simulator.reset(0)
    runner = RolloutRunner(simulator, [ActuationNoise(np.random.default_rng(0))])
    start = runner.observation.tcp_pose
    for action in [[0.02, 0.0, 0.0, 0.0, 0.0, 0.05]] * 6 + [[0.0] * 6] * 8:
        runner.act(np.array(action), OPEN)
    expected = [0.12, 0.0, 0.0, 0.0, 0.0, 0.3]
    np.testing.assert_allclose(poses.delta_between(start, runner.observation.tcp_pose), expected, atol=1e-3)
