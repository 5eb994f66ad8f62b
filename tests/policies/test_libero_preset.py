"""The presets for LIBERO against the evaluations that they repeat, byte for byte."""

import numpy as np
import pytest
from tests.monitors.scripted import FINE, ScriptedModel
from tests.policies import libero_evaluations as reference
from tests.policies.act_server import ActServer, encode
from tests.policies.made_up import DOWN
from tests.policies.websocket_server import WebsocketServer, pack

from failsafe.errors import PolicyError, UserError
from failsafe.evaluation.episodes import EpisodeLimits, run_episode
from failsafe.evaluation.scenarios import SCENARIOS
from failsafe.experts.tasks import Task
from failsafe.experts.toy import ToyPickExpert
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.policies import jpeg, resampling
from failsafe.policies.contract import ActionSpace, check_readings, needs_full_quality
from failsafe.policies.libero import rotation_vector
from failsafe.policies.loading import load_policy
from failsafe.records import poses
from failsafe.records.episode import EpisodeKey
from failsafe.records.observation import PolicyObservation
from failsafe.simulators.toy import ToyPick

STATED = "pick the alphabet soup and place it in the basket"
"""The instruction in the file of libero_object/0."""
WORDS = "pick up the alphabet soup and place it in the basket"
"""The sentence of its evaluations, from the name of the file."""
MEASURED = poses.pose([0.45, -0.1, 0.25], DOWN)
WIRES = ("openpi", "openvla", "openvla-oft")


def observe(found):
    """Ours of an observation of robosuite: upright pictures, and robosuite's readings as they are."""
    images = {"front": found["agentview_image"][::-1], "hand": found["robot0_eye_in_hand_image"][::-1]}
    readings = {name: found[name] for name in found if not name.endswith("_image")}
    return PolicyObservation(images, MEASURED, MEASURED, 0.078, readings)


def rows(seed=0):
    """An answer, with numbers beyond what LIBERO takes, and all kinds of gripper."""
    found = np.random.default_rng(seed).normal(scale=0.7, size=(10, 7))
    found[:, 6] = [0.0, 0.2, 0.499, 0.501, 0.9, 1.0, 0.5, 0.03, 0.97, 1.02]
    return found


def ask(name, answer, found):
    """Return the actions of a served policy for an observation, its request as sent, and the policy."""
    wire = name.partition(":")[0]
    if wire == "openpi":
        server = WebsocketServer(lambda request: {"actions": answer})
    else:
        server = ActServer(lambda request: answer[0] if wire == "openvla" else list(answer))
    with server:
        policy = load_policy(name.replace("SERVER", server.url.partition("//")[2]))
        policy.reset(STATED)
        actions = policy.act(observe(found))
        policy.close()
    return actions, (server.messages if wire == "openpi" else server.bodies)[0], policy


def test_openpi_sends_what_its_evaluation_sends():
    found = reference.robosuite()
    _, message, policy = ask("openpi://SERVER?preset=libero", rows(), found)
    assert message == pack(reference.openpi_request(found, WORDS))
    assert dict(policy.views) == {"front": 256, "hand": 256}


@pytest.mark.parametrize("image", reference.IMAGES)
def test_pictures_are_tensorflows(image):
    """To the bit: JPEG with the fast inverse transform, Lanczos in float32, crop of the center."""
    stored, small, cropped = reference.TENSORFLOW[image]
    decoded = jpeg.round_trip(reference.seen(image))
    assert reference.digest(decoded) == stored
    resized = resampling.lanczos(decoded, 224)
    assert reference.digest(resized) == small
    assert reference.digest(resampling.center_crop(resized)) == cropped


def test_openvla_sends_what_its_evaluation_gives_to_the_processor():
    found = reference.robosuite()
    _, body, policy = ask("openvla://SERVER?preset=libero&unnorm_key=libero_goal", rows(), found)
    image = resampling.center_crop(resampling.lanczos(jpeg.round_trip(reference.seen("waves")), 224))
    assert reference.digest(image) == reference.TENSORFLOW["waves"][2]
    assert body == encode({"image": image, "instruction": WORDS, "unnorm_key": "libero_goal"}).encode()
    assert dict(policy.views) == {"front": 256}


def test_openvla_oft_sends_what_its_evaluation_prepares():
    found = reference.robosuite()
    _, body, policy = ask("openvla-oft://SERVER?preset=libero", rows(), found)
    full, wrist = (
        resampling.lanczos(jpeg.round_trip(reference.seen(name)), 224) for name in ("waves", "blocks")
    )
    assert [reference.digest(image) for image in (full, wrist)] == [
        reference.TENSORFLOW[name][1] for name in ("waves", "blocks")
    ]
    expected = {
        "full_image": full,
        "wrist_image": wrist,
        "state": reference.state(found),
        "instruction": WORDS,
    }
    assert body == encode(expected).encode()
    assert dict(policy.views) == {"front": 256, "hand": 256}


@pytest.mark.parametrize("wire", WIRES)
def test_actions_are_those_that_the_evaluation_executes(wire):
    """From the answer to the target pose of the control loop, and back to LIBERO's action."""
    answer = rows()
    actions, _, policy = ask(f"{wire}://SERVER?preset=libero", answer, reference.robosuite())
    expected = reference.executed(answer, wire)
    space = policy.action_space
    assert (len(actions), space.chunk, space.rate_hz) == (len(expected), len(expected), 20.0)
    far = poses.pose([0.1, 0.1, 0.4], DOWN)
    for action, official in zip(actions, expected, strict=True):
        pose, gripper = space.to_pose(action, far, MEASURED)
        delta = poses.delta_between(MEASURED, pose)
        np.testing.assert_allclose(delta[:3] / 0.05, official[:3], atol=1e-12)
        np.testing.assert_allclose(delta[3:] / 0.5, official[3:6], atol=1e-12)
        assert gripper == pytest.approx(-np.clip(official[6], -1, 1))  # ours opens at +1
        np.testing.assert_allclose(
            space.from_pose(pose, gripper, far, MEASURED), np.clip(official, -1, 1), atol=1e-12
        )


def test_a_pose_far_away_is_an_action_towards_it():
    space = load_policy("openpi://127.0.0.1:9?preset=libero").action_space
    goal = poses.apply_delta(MEASURED, [0.2, -0.1, 0.0, 0.0, 0.0, 1.5])
    np.testing.assert_allclose(
        space.from_pose(goal, -1.0, MEASURED, MEASURED), [1.0, -0.5, 0.0, 0.0, 0.0, 1.0, 1.0], atol=1e-12
    )


def test_the_state_passes_half_a_turn_without_a_jump():
    """The shortest rotation vector would turn from +pi to -pi there, far outside the training data."""
    angles = np.linspace(np.pi - 0.1, np.pi + 0.1, 5)
    turns = [rotation_vector(np.array([np.sin(a / 2), 0.0, 0.0, np.cos(a / 2)])) for a in angles]
    np.testing.assert_allclose(turns, np.outer(angles, [1, 0, 0]), atol=1e-9)
    for w in (1.0, 1.0 + 1e-9, -1.0):
        np.testing.assert_array_equal(rotation_vector(np.array([0.0, 0.0, 0.0, w])), np.zeros(3))


def test_another_simulator_has_no_such_state():
    policy = load_policy("openvla-oft://127.0.0.1:9?preset=libero")
    policy.reset(WORDS)
    found = observe(reference.robosuite())
    with pytest.raises(
        PolicyError, match=r"expected the readings robot0_eef_pos, .* of a LIBERO task, got none"
    ):
        policy.act(PolicyObservation(found.images, MEASURED, MEASURED, 0.05))
    broken = {**found.readings, "robot0_eef_pos": np.array([np.nan, 0, 0])}
    with pytest.raises(PolicyError, match="expected a finite state"):
        policy.act(PolicyObservation(found.images, MEASURED, MEASURED, 0.05, broken))
    policy.close()


def test_what_is_needed_is_known_before_the_first_episode():
    check_readings(load_policy("openpi://127.0.0.1:9?preset=libero"), observe(reference.robosuite()).readings)
    with pytest.raises(
        PolicyError, match=r"expected the readings robot0_eef_pos, .* for openpi, got none from"
    ):
        check_readings(load_policy("openpi://127.0.0.1:9?preset=libero"), {})
    check_readings(load_policy("openvla://127.0.0.1:9?preset=libero"), {})  # it sends no state


class Toy(ToyPick):
    """A simulator that has two qualities of images."""

    full = None

    def render_fully(self, full):
        self.full = full


class Blind:
    """A policy without images."""

    name, views, action_space = "blind", {}, ActionSpace(rate_hz=ToyPick().spec.embodiment.control_hz)

    def __init__(self, full_quality):
        self.full_quality = full_quality

    def reset(self, instruction): ...

    def act(self, observation):
        return np.zeros((1, 7))

    def drop_queue(self): ...


def test_images_have_the_quality_of_the_suites_own_with_a_preset_only():
    """Also where a monitor is around the policy, and again after an episode of another policy."""
    for name, expected in (("openvla://127.0.0.1:9?preset=libero", True), ("openvla://127.0.0.1:9", False)):
        assert needs_full_quality(load_policy(name)) is expected
    simulator = Toy()
    task, key = Task(simulator, ToyPickExpert()), EpisodeKey("ToyPick-v0", "nominal", "blind", "never", 0)
    for full in (True, False, True):
        monitored = MonitoredPolicy(Blind(full), ScriptedModel(FINE))
        for policy in (Blind(full), monitored):
            simulator.full = None
            run_episode(task, policy, key, SCENARIOS["nominal"], EpisodeLimits(1))
            assert simulator.full is full


def test_settings_beside_a_preset():
    policy = load_policy("openpi://127.0.0.1:9?preset=libero&chunk=10&observation/image=side&name=mine")
    assert (policy.action_space.chunk, policy.action_space.limit, policy.name) == (10, 1.0, "mine")
    assert dict(policy.views) == {"side": 256, "hand": 256}
    with pytest.raises(UserError, match="expected preset=libero or size, got both"):
        load_policy("openpi://127.0.0.1:9?size=64&preset=libero")


@pytest.mark.parametrize("wire", WIRES)
def test_an_unknown_preset_is_one_sentence(wire):
    with pytest.raises(UserError) as caught:
        load_policy(f"{wire}://127.0.0.1:9?preset=libbero")
    message = f"unknown preset of {wire} 'libbero': did you mean 'libero'? There are: libero."
    assert str(caught.value) == message


def test_the_round_trip_takes_whole_blocks():
    with pytest.raises(ValueError, match="multiples of 16"):
        jpeg.round_trip(np.zeros((250, 256, 3), dtype=np.uint8))
