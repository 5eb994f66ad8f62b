"""Policies for LIBERO on LIBERO: episodes against servers, and corrections that the arm carries out."""

import numpy as np
import pytest
from tests.monitors.openpi_client import Model, answer
from tests.monitors.scripted import FINE, ScriptedModel, failing, settings
from tests.policies import libero_evaluations as reference
from tests.policies.act_server import ActServer
from tests.policies.websocket_server import WebsocketServer, pack, unpack

pytest.importorskip("libero")

from failsafe.evaluation.episodes import EpisodeLimits, run_episode
from failsafe.evaluation.scenarios import SCENARIOS
from failsafe.experts.tasks import Task
from failsafe.experts.toy import ToyPickExpert
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.monitors.requests import Wire, guard_clients
from failsafe.policies.libero import OPENPI
from failsafe.policies.libero_sentences import SENTENCES, evaluation_sentence, stated_instruction
from failsafe.policies.loading import load_policy
from failsafe.records import poses
from failsafe.records.assessment import Assessment
from failsafe.records.embodiment import LIBERO_PANDA
from failsafe.records.episode import EpisodeKey
from failsafe.records.event import EventKind
from failsafe.records.observation import PolicyObservation
from failsafe.rollouts.limits import PoseController
from failsafe.rollouts.loop import ControlLoop
from failsafe.simulators.libero.simulator import LiberoSimulator
from failsafe.simulators.libero.tasks import SUITES, instruction, task_files, task_names

pytestmark = pytest.mark.libero

TASK = "libero_goal/3"
FAR = np.deg2rad(30)


class Spied(LiberoSimulator):
    """Keeps the native commands, which are the actions that LIBERO's `env.step` takes, and renders no
    scene."""

    def step(self, command, disturbances=()):
        self.commands = [*getattr(self, "commands", []), command.copy()]
        super().step(command, disturbances)

    def render(self, cameras, size, state=None):
        assert size == 256
        return np.stack([reference.seen(name)[:, ::-1] for name in ("waves", "blocks")[: len(cameras)]])


@pytest.fixture(scope="module")
def simulator():
    made = Spied(TASK)
    yield made
    made.close()


def robosuite(simulator):
    """What robosuite's own sensors say in the simulator's state."""
    env = simulator.environment.env
    env.sim.data.qpos[:], env.sim.data.qvel[:] = simulator.data.qpos, simulator.data.qvel
    env.sim.forward()
    return env._get_observations(force_update=True)


def test_the_readings_are_those_of_robosuites_sensors(simulator):
    simulator.reset(0)
    for _ in range(4):
        simulator.step(np.array([0.5, -0.3, 0.2, 0.1, 0.4, -0.2, 1.0], dtype=np.float32))
    found, official = simulator.observe().readings, robosuite(simulator)
    assert simulator.spec.embodiment == LIBERO_PANDA
    for name, value in found.items():
        np.testing.assert_allclose(value, official[name], atol=1e-12, err_msg=name)
    assert set(found) == set(OPENPI.readings)


@pytest.mark.parametrize("wire", ["openpi", "openvla", "openvla-oft"])
def test_an_episode_sends_and_executes_what_the_evaluation_does(simulator, wire):
    rows = np.random.default_rng(0).normal(scale=0.7, size=(10, 7))
    rows[:, 6] = np.tile([0.1, 0.9], 5)
    rows[1, 3:6] = 0.0  # LIBERO holds the last orientation then
    if wire == "openpi":
        server = WebsocketServer(lambda request: {"actions": rows})
    else:
        server = ActServer(lambda request: rows[1] if wire == "openvla" else list(rows))
    with server:
        policy = load_policy(f"{wire}://{server.url.partition('//')[2]}?preset=libero")
        simulator.reset(3)  # the episode's own reset then restores this state
        simulator.commands = []
        task = Task(simulator, ToyPickExpert())
        key = EpisodeKey(TASK, "nominal", wire, "never", 3)
        episode = run_episode(task, policy, key, SCENARIOS["nominal"], EpisodeLimits(11))
        policy.close()
    assert (episode.steps, episode.limited_steps, episode.description) == (11, 0, "")
    commands = np.array(simulator.commands[:11])
    expected = reference.executed(rows[1:] if wire == "openvla" else rows, wire)
    expected = np.clip(np.tile(expected, (11, 1))[:11], -1, 1)
    np.testing.assert_allclose(commands, expected, atol=1e-6)
    assert (commands[expected == 0] == 0).all()
    simulator.reset(3)
    first = {**reference.robosuite(), **simulator.observe().readings}
    if wire == "openpi":
        sent = {**server.observations[0]}
        official = reference.openpi_request(first, evaluation_sentence(simulator.episode.instruction))
        assert sent.keys() == official.keys()
        assert all(np.array_equal(sent[name], official[name]) for name in official)
        assert len(server.observations) == 3
    elif wire == "openvla-oft":
        np.testing.assert_array_equal(server.payloads[0]["state"], reference.state(first))
        assert len(server.payloads) == 2
    else:
        assert len(server.payloads) == 11


class Still:
    """A policy for LIBERO that does nothing, with the gripper open."""

    name, views, action_space = "still", {}, OPENPI.action_space

    def reset(self, instruction): ...

    def act(self, observation):
        return np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]])

    def drop_queue(self): ...


CORRECTIONS = [
    ([[0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]], 12),
    ([[0.0, 0.0, 0.08, 0.0, 0.0, 0.0, 1.0]], 16),
    ([[0.0, -0.05, 0.0, 0.0, 0.0, 0.0, 1.0]] * 3, 22),
    ([[0.05, 0.05, 0.05, 0.0, 0.0, 0.0, 1.0]], 28),
    ([[0.0, 0.0, 0.0, FAR, 0.0, 0.0, 1.0]], 28),
    ([[0.0, 0.0, 0.0, 0.0, FAR, 0.0, 1.0]], 30),
    ([[0.0, 0.0, 0.0, 0.0, 0.0, FAR, 1.0]] * 2, 30),
    ([[0.02, -0.02, 0.02, 0.1, -0.1, 0.15, -1.0]] * 2, 28),
    ([[0.0, 0.0, -0.03, 0.0, 0.0, 0.0, -1.0]], 20),
]
"""The rows of a correction, and the control steps that it may take."""
BLACK = {view: np.zeros((8, 8, 3), dtype=np.uint8) for view in ("front", "hand")}


@pytest.mark.parametrize(("rows", "longest"), CORRECTIONS)
def test_corrections_are_valid_actions_that_move_the_tool_where_they_say(simulator, rows, longest):
    simulator.reset(0)
    loop = ControlLoop(simulator)
    controller = PoseController(loop)
    model = ScriptedModel(failing(0.999, actions=tuple(map(tuple, rows)), frame="robot_base"), FINE)
    policy = MonitoredPolicy(Still(), model, 0.0, settings(), embodiment=simulator.spec.embodiment)
    policy.reset(simulator.episode.instruction)
    goal, taken, over = None, 0, False
    for _ in range(60):
        truth = loop.observation
        seen = PolicyObservation(BLACK, truth.tcp_pose, controller.target, truth.gripper_width)
        action = policy.act(seen)[0]
        over = goal is not None and not policy.monitor.in_control
        if over:
            break
        assert np.abs(action).max() <= 1.0
        if policy.monitor.in_control:
            taken += 1
            if goal is None:
                goal = truth.tcp_pose
                for row in rows:
                    goal = poses.apply_delta(goal, row[:6])
        controller.move(*policy.action_space.to_pose(action, controller.target, truth.tcp_pose))
        np.testing.assert_allclose(simulator.commands[-1], action, atol=1e-6)
    assert over
    metres, radians = poses.distance(loop.observation.tcp_pose, goal)
    assert (metres < 0.005, radians < np.deg2rad(2)) == (True, True), (metres, np.rad2deg(radians))
    width = loop.observation.gripper_width
    assert width > 0.07 if rows[-1][6] > 0 else width < 0.005
    assert taken <= longest
    assert [event.kind for event in policy.monitor.events][-1] is EventKind.HAND_BACK


@pytest.mark.parametrize("rows", [rows for rows, _ in CORRECTIONS])
def test_corrections_of_the_proxy_move_the_tool_where_they_say(simulator, rows):
    """The client executes five rows of an answer without another look, and the arm lags behind."""
    simulator.reset(0)
    model = Model(Assessment(failure_probability=0.999, actions=tuple(map(tuple, rows))))
    base, views = tuple(simulator.base), {"observation/image": "front"}
    wire = Wire(OPENPI.action_space, views, base, LIBERO_PANDA, OPENPI)
    guard = guard_clients(model, 0.0, settings(takeovers=1), wire, lambda *event: None)(1)
    still = answer(np.tile(Still().act(None), (10, 1)))
    goal = None
    for _ in range(14):
        truth = simulator.observe()
        found = reference.openpi_request({**reference.robosuite(), **truth.readings}, "lift it")
        guard.on_request(pack(found))
        said = guard.on_answer(still)
        if said == still and goal is not None:
            break
        if said != still and goal is None:
            goal = truth.tcp_pose
            for row in rows:
                goal = poses.apply_delta(goal, row[:6])
        actions = unpack(said)["actions"]
        assert np.abs(actions).max() <= 1.0
        for row in actions[:5]:
            simulator.step(row.astype(np.float32))
    assert said == still
    metres, radians = poses.distance(simulator.observe().tcp_pose, goal)
    # A turn about y moves the tool most, and the proxy sees that after five rows only.
    within = 0.012 if rows[0][4] == FAR else 0.005
    assert (metres < within, radians < np.deg2rad(2)) == (True, True), (metres, np.rad2deg(radians))


def test_the_sentences_are_those_in_the_names_of_the_files():
    stated = {}
    for task in task_names():
        if task.partition("/")[0] in SUITES:
            name = task_files(task).bddl.stem
            scene, found, rest = name.partition("SCENE")
            words = (rest.partition("_")[2] if found and scene.isupper() else name).replace("_", " ")
            assert stated.setdefault(instruction(task), words) == words, "one instruction, one sentence"
    assert len(stated) > 100
    assert {own: words for own, words in stated.items() if own != words} == SENTENCES
    assert all(stated_instruction(words) == own for own, words in stated.items()), "and the way back"
