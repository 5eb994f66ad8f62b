"""The adapter agrees with ManiSkill, and with itself, bit for bit."""

import numpy as np
import pytest

pytest.importorskip("mani_skill")

from tests.simulators.maniskill.conftest import SEED, replay

from failsafe.generation.perturbed import run_perturbed
from failsafe.records.perturbation import Perturbation
from failsafe.records.trace import Disturbance
from failsafe.simulators.contract import Role
from failsafe.simulators.maniskill.scene import StateLayout
from failsafe.simulators.maniskill.tasks import make_env

pytestmark = pytest.mark.maniskill

TASKS = ("PickCube-v1", "PushCube-v1", "StackCube-v1")
REPLAYS = 20


def run_another_episode(simulator, trace, seed):
    """Leave a past behind: contacts elsewhere, objects that fly about, other friction."""
    simulator.reset(seed)
    rng, names = np.random.default_rng(seed), simulator.episode.names(Role.MOVABLE)
    for command in trace.commands[: rng.integers(1, len(trace))]:
        velocity = tuple(rng.normal(size=6) * [0.4, 0.4, 0.4, 3.0, 3.0, 3.0])
        rough = [Disturbance(str(rng.choice(names)), velocity, rng.uniform(0.0, 2.0))]
        simulator.step(command, rough if rng.random() < 0.1 else [])


@pytest.mark.parametrize("name", TASKS)
def test_a_rollout_replays_bit_for_bit_whatever_ran_before(scenes, name):
    task, nominal = scenes(name)
    for i in range(REPLAYS):
        run_another_episode(task.simulator, nominal.trace, seed=100 + i)
        states = replay(task.simulator, nominal.trace)
        assert states.tobytes() == nominal.trace.states.tobytes(), f"replay {i}"
    assert task.simulator.evaluate().success


@pytest.mark.parametrize("name", TASKS)
def test_a_rollout_that_is_broken_off_anywhere_leaves_nothing_behind(scenes, name):
    # A body in fast motion and in contact stays awake longer than one that is new: it must not keep that.
    task, nominal = scenes(name)
    for steps in range(24, 50):
        task.simulator.reset(SEED)
        for command in nominal.trace.commands[:steps]:
            task.simulator.step(command)
        states = replay(task.simulator, nominal.trace, steps=12)
        assert states.tobytes() == nominal.trace.states[:13].tobytes(), f"broken off after {steps} steps"


@pytest.mark.parametrize("mode", ["slip", "object_dropped", "object_pushed", "object_knocked_over"])
def test_a_disturbed_rollout_replays_bit_for_bit(scenes, mode):
    task, nominal = scenes("StackCube-v1")
    stage, name = (3, "cubeA") if mode in ("slip", "object_dropped") else (1, "cubeB")
    magnitude = {"object_knocked_over": 1.5, "object_dropped": 0.2}.get(mode, 0.03)
    drawn = Perturbation(mode, stage, "", 0.3, magnitude, "", 1.0, name)
    trace = run_perturbed(task, nominal, (drawn,)).trace
    assert trace.disturbances
    assert not trace.same_states(nominal.trace)
    for i in range(5):
        run_another_episode(task.simulator, nominal.trace, seed=200 + i)
        assert replay(task.simulator, trace).tobytes() == trace.states.tobytes(), f"replay {i}"


@pytest.mark.parametrize("name", TASKS)
def test_the_plan_carried_out_open_loop_is_the_nominal_rollout(scenes, name):
    task, nominal = scenes(name)
    again = run_perturbed(task, nominal, ())
    assert again.trace.same_states(nominal.trace)
    assert again.trace.commands.tobytes() == nominal.trace.commands.tobytes()
    assert again.success
    assert again.spans == tuple(
        # only the nominal rollout measures what is held
        span.__class__(**{**vars(span), "held": (), "held_after": ()})
        for span in nominal.record.spans
    )


@pytest.mark.parametrize("name", [*TASKS, "LiftPegUpright-v1"])
def test_the_states_are_those_of_env_step(scenes, name):
    task, nominal = scenes(name)
    env = make_env(name)
    env.reset(seed=SEED, options={"reconfigure": True})
    layout, robot = StateLayout(env), env.agent.robot._objs[0]
    gripper = env.agent.controller.controllers["gripper"].config
    theirs, targets = [layout.read()], []
    for command in nominal.trace.commands:
        share = (float(command[-1]) - gripper.lower) / (gripper.upper - gripper.lower)
        env.step(np.array([*command[:-2], 2.0 * share - 1.0], dtype=np.float32))
        theirs.append(layout.read())
        targets.append([np.asarray(joint.drive_target).item() for joint in robot.active_joints])
    success = bool(env.evaluate()["success"])
    env.close()
    theirs, targets = np.array(theirs), np.array(targets, dtype=np.float32)
    # Our commands, converted to actions, set the same targets, but for rounding in the fingers' (4 nm) ...
    np.testing.assert_array_equal(targets[:, :7], nominal.trace.commands[:, :7])
    np.testing.assert_allclose(targets[:, 7:], nominal.trace.commands[:, 7:], rtol=0, atol=1e-8)
    # ... which contacts make a fraction of a millimetre of;
    at = 2 * robot.dof
    for i, _ in enumerate(StateLayout(task.simulator.env).bodies):
        position = slice(at + 13 * i, at + 13 * i + 3)
        np.testing.assert_allclose(theirs[:, position], nominal.trace.states[:, position], atol=5e-4)
    np.testing.assert_allclose(theirs[:, : robot.dof], nominal.trace.states[:, : robot.dof], atol=5e-4)
    # ... and the very same targets give the very same states.
    task.simulator.reset(SEED)
    ours = [task.simulator.state()]
    for command in targets:
        task.simulator.step(command)
        ours.append(task.simulator.state())
    assert np.array(ours).tobytes() == theirs.tobytes()
    assert task.simulator.evaluate().success is success is True
