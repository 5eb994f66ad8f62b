import json
import shutil
import socket
import ssl
import subprocess
import time

import numpy as np
import pytest
from tests.policies.act_server import ActServer, encode
from tests.policies.made_up import make_observation

from failsafe.errors import PolicyError, UserError
from failsafe.policies.contract import Policy
from failsafe.policies.loading import load_policy
from failsafe.policies.openvla import BRIDGE, LIBERO_OFT, OpenVlaOftPolicy, OpenVlaPolicy
from failsafe.records import poses
from failsafe.records.observation import PolicyObservation

ACTION = np.array([0.01, -0.02, 0.03, 0.1, -0.2, 0.3, 1.0])
CHUNK = [np.arange(7, dtype=np.float32) + row for row in range(8)]


@pytest.fixture
def server():
    with ActServer(lambda payload: ACTION) as running:
        yield running


@pytest.fixture
def oft_server():
    with ActServer(lambda payload: CHUNK) as running:
        yield running


@pytest.fixture
def make_policy():
    made = []

    def make(kind, url, **settings):
        made.append(kind(url, **{"timeout": 5.0, "pause": 0.01, **settings}))
        made[-1].reset("pick up the red cube")
        return made[-1]

    yield make
    for policy in made:
        policy.close()


def refusal(policy):
    with pytest.raises(PolicyError) as caught:
        policy.act(make_observation())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_openvla_asks_and_answers(server, make_policy):
    policy, seen = make_policy(OpenVlaPolicy, server.url, unnorm_key="bridge_orig"), make_observation()
    assert isinstance(policy, Policy)
    np.testing.assert_array_equal(policy.act(seen), ACTION[None])
    (payload,) = server.payloads
    assert list(payload) == ["image", "instruction", "unnorm_key"]
    np.testing.assert_array_equal(payload["image"], seen.images["front"])
    assert payload["image"].dtype == np.uint8
    assert (payload["instruction"], payload["unnorm_key"]) == ("pick up the red cube", "bridge_orig")
    assert (policy.name, dict(policy.views), policy.action_space) == ("openvla", {"front": 224}, BRIDGE)


def test_the_request_is_json_numpy_to_the_byte(server, make_policy):
    seen = make_observation()
    make_policy(OpenVlaPolicy, server.url).act(seen)
    expected = encode({"image": seen.images["front"], "instruction": "pick up the red cube"})
    assert server.bodies == [expected.encode()]


def test_openvla_double_encoded(server, make_policy):
    policy = make_policy(OpenVlaPolicy, server.url, double_encode=True)
    np.testing.assert_array_equal(policy.act(make_observation()), ACTION[None])
    assert list(json.loads(server.bodies[0])) == ["encoded"]
    assert server.payloads[0]["image"].shape == (224, 224, 3)


def test_oft_asks_and_answers(oft_server, make_policy):
    policy, seen = make_policy(OpenVlaOftPolicy, oft_server.url), make_observation()
    np.testing.assert_array_equal(policy.act(seen), np.stack(CHUNK))
    (payload,) = oft_server.payloads
    assert list(payload) == ["full_image", "wrist_image", "state", "instruction"]
    np.testing.assert_array_equal(payload["full_image"], seen.images["front"])
    np.testing.assert_array_equal(payload["wrist_image"], seen.images["hand"])
    # The tool points down: half a turn about x.
    np.testing.assert_allclose(payload["state"], [0.1, -0.2, 0.3, np.pi, 0, 0, 0.03, -0.03], atol=1e-12)
    assert (dict(policy.views), policy.action_space) == ({"front": 224, "hand": 224}, LIBERO_OFT)


def test_oft_double_encoded(oft_server, make_policy):
    policy = make_policy(OpenVlaOftPolicy, oft_server.url, double_encode=True)
    np.testing.assert_array_equal(policy.act(make_observation()), np.stack(CHUNK))


def test_only_the_rows_that_are_executed_are_taken(oft_server, make_policy):
    space = make_policy(OpenVlaOftPolicy, oft_server.url).action_space
    short = type(space)(chunk=3, rate_hz=20.0)
    policy = make_policy(OpenVlaOftPolicy, oft_server.url, action_space=short)
    np.testing.assert_array_equal(policy.act(make_observation()), np.stack(CHUNK[:3]))


def test_views_and_state_of_ones_own(oft_server, make_policy):
    policy = make_policy(
        OpenVlaOftPolicy,
        oft_server.url,
        image_views={"full_image": "side", "left_wrist_image": ""},
        state=None,
    )
    policy.act(make_observation())
    assert list(oft_server.payloads[0]) == ["full_image", "instruction"]
    assert dict(policy.views) == {"side": 224}


def test_pictures_are_brought_to_size(server, make_policy):
    policy = make_policy(OpenVlaPolicy, server.url, size=64)
    white = np.full((100, 200, 3), 255, dtype=np.uint8)
    seen = make_observation()
    policy.act(PolicyObservation({"front": white}, seen.tcp_pose, seen.target_pose, 0.0))
    shown = server.payloads[0]["image"]
    assert shown.shape == (64, 64, 3)
    # Twice as wide as high: black above and below, the whole width kept.
    assert (shown[:16] == 0).all()
    assert (shown[16:48] == 255).all()
    assert (shown[48:] == 0).all()


def test_plain_lists_are_actions_too(server, make_policy):
    server.faults = [json.dumps(ACTION.tolist()).encode()]
    np.testing.assert_array_equal(
        make_policy(OpenVlaPolicy, server.url).act(make_observation()), ACTION[None]
    )


def test_dropped_connections_are_made_again(server, make_policy):
    server.faults = ["hang up", "half"]
    np.testing.assert_array_equal(
        make_policy(OpenVlaPolicy, server.url).act(make_observation()), ACTION[None]
    )
    server.faults = ["hang up"] * 3
    assert "got no connection, or a dropped one" in refusal(make_policy(OpenVlaPolicy, server.url))
    assert not server.faults


@pytest.mark.parametrize("kind", [OpenVlaPolicy, OpenVlaOftPolicy])
def test_nobody_there(kind, make_policy):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        message = refusal(make_policy(kind, url))
    assert message.startswith(
        f"openvla{'-oft' if kind is OpenVlaOftPolicy else ''} at {url}: expected an answer"
    )
    assert message.endswith("start the server, or correct its address")


@pytest.mark.parametrize("fault", ["stall", "trickle"])
def test_a_server_that_takes_too_long(server, make_policy, fault):
    server.faults = [fault]
    begin = time.monotonic()
    message = refusal(make_policy(OpenVlaPolicy, server.url, timeout=0.3))
    assert "expected actions within 0.3 s, got none" in message
    assert "with ?timeout=0.6 behind its address" in message
    assert time.monotonic() - begin < 2.0


@pytest.mark.parametrize("double_encode", [False, True])
def test_the_word_error(server, make_policy, double_encode):
    def fail(payload):
        raise KeyError("unnorm_key")

    server.reply = fail
    message = refusal(make_policy(OpenVlaPolicy, server.url, double_encode=double_encode))
    assert "got the word 'error'" in message
    assert "see its log for the cause" in message


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (500, "expected status 200, got 500"),
        (404, "expected status 200, got 404"),
        (b"<html>It works!</html>", "expected JSON with actions, got '<html>It works!</html>'"),
        (b"", "expected JSON with actions, got 'nothing'"),
        (b"\xff\xfe\x00", "expected JSON with actions"),
        (b"[" * 100_000, "expected JSON with actions"),
        (b" " * 1_000_001, "at most 1000000 bytes, got more"),
        (b'{"__numpy__": "AAAA", "dtype": "|O", "shape": [1]}', "expected a dtype of plain numbers"),
        (b'{"__numpy__": "AAAA", "dtype": "<f8", "shape": [7]}', "expected 56 bytes"),
        (b"[[1, 2, 3, 4, 5, 6, 7]]", "expected 1 to 64 actions of 7 numbers, got (1, 1, 7)"),
        (b"[1, 2, 3]", "expected 1 to 64 actions of 7 numbers, got (1, 3)"),
        (b"[1, 2, 3, 4, 5, 6, NaN]", "expected finite actions, got NaN or infinity"),
        (b'{"action": [1, 2]}', "expected a chunk of actions"),
        (b"null", "expected"),
    ],
)
def test_answers_that_are_none(server, make_policy, fault, words):
    server.faults = [fault]
    message = refusal(make_policy(OpenVlaPolicy, server.url))
    assert message.startswith(f"openvla at {server.url}: ")
    assert words in message


def test_a_chunk_too_long(oft_server, make_policy):
    oft_server.reply = lambda payload: [ACTION] * 65
    assert "expected 1 to 64 actions of 7 numbers, got (65, 7)" in refusal(
        make_policy(OpenVlaOftPolicy, oft_server.url)
    )


def test_what_cannot_be_asked(oft_server, make_policy):
    policy = make_policy(OpenVlaOftPolicy, oft_server.url)
    seen = make_observation(views=("front",))
    with pytest.raises(PolicyError, match="expected the view hand in the observation, got "):
        policy.act(seen)
    lost = PolicyObservation(make_observation().images, np.full(7, np.nan), poses.pose([0.0, 0.0, 0.0]), 0.06)
    with pytest.raises(PolicyError, match="expected a finite tool pose"):
        policy.act(lost)
    for words in ("  ", "pick \ud800"):
        with pytest.raises(PolicyError, match="expected an instruction as text"):
            policy.reset(words)
    assert not oft_server.bodies


def test_an_episode_begins_with_a_reset(server):
    policy = OpenVlaPolicy(server.url)
    with pytest.raises(PolicyError, match="expected an instruction before the first action"):
        policy.act(make_observation())
    policy.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "127.0.0.1:8000"}, "expected a server such as http://127.0.0.1:8000"),
        ({"url": "ws://127.0.0.1:8000"}, "expected a server such as"),
        ({"url": "http://a..b:80"}, "expected a server such as"),
        ({"url": "http://a:port"}, "expected a server such as"),
        ({"url": "http://"}, "expected a server such as"),
        ({"url": "http://a", "timeout": 0.0}, "expected timeout above 0"),
        ({"url": "http://a", "retries": -1}, "expected timeout above 0"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(UserError, match=words):
        OpenVlaPolicy(**settings)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_over_tls_with_a_certificate_of_ones_own(tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    with ActServer(lambda payload: np.zeros(7)) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        name = f"openvla+https://localhost:{server._server.server_address[1]}?retries=0"
        for trusted in (False, True):
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            policy = load_policy(name)
            policy.reset("pick up the red cube")
            if trusted:
                assert policy.act(make_observation()).shape == (1, 7)
            else:
                with pytest.raises(PolicyError, match="CERTIFICATE_VERIFY_FAILED"):
                    policy.act(make_observation())
            policy.close()
