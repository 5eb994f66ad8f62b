import socket
import threading
import time

import numpy as np
import pytest
from tests.policies.act_server import ActServer
from tests.policies.made_up import make_observation
from tests.policies.websocket_server import WebsocketServer, pack
from websockets.server import ServerProtocol

from failsafe.errors import PolicyError, UserError
from failsafe.policies.contract import Policy
from failsafe.policies.openpi import OpenpiPolicy
from failsafe.policies.served import LIBERO

ACTIONS = np.arange(70, dtype=np.float32).reshape(10, 7)
WORDS = "pick up the red cube"


@pytest.fixture
def server():
    with WebsocketServer(lambda observation: {"actions": ACTIONS}) as running:
        yield running


@pytest.fixture
def make_policy():
    made = []

    def make(url, **settings):
        made.append(OpenpiPolicy(url, **{"timeout": 5.0, "pause": 0.01, **settings}))
        return made[-1]

    yield make
    for policy in made:
        policy.close()


def run(policy, act):
    policy.reset(WORDS)
    if act:
        policy.act(make_observation())


def refusal(policy, act=True):
    with pytest.raises(PolicyError) as caught:
        run(policy, act)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_that_repeats_the_key_does_not_bring_it_into_a_message(server, make_policy):
    server.faults = ["Traceback\nPermissionError: wrong key Api-Key sesame"]
    assert "(PermissionError: wrong key Api-Key [key])" in refusal(make_policy(server.url, api_key="sesame"))


def test_it_asks_and_answers(server, make_policy):
    policy, seen = make_policy(server.url), make_observation()
    assert isinstance(policy, Policy)
    policy.reset(WORDS)
    assert dict(policy.metadata) == {"model": "made up", "horizon": 10}
    np.testing.assert_array_equal(policy.act(seen), ACTIONS[:5])
    (observation,) = server.observations
    assert list(observation) == [
        "observation/image",
        "observation/wrist_image",
        "observation/state",
        "prompt",
    ]
    np.testing.assert_array_equal(observation["observation/image"], seen.images["front"])
    np.testing.assert_array_equal(observation["observation/wrist_image"], seen.images["hand"])
    np.testing.assert_allclose(
        observation["observation/state"], [0.1, -0.2, 0.3, np.pi, 0, 0, 0.03, -0.03], atol=1e-12
    )
    assert observation["prompt"] == WORDS
    assert server.messages == [pack(observation)]  # to the byte
    assert (policy.name, policy.action_space) == ("openpi", LIBERO)
    assert dict(policy.views) == {"front": 224, "hand": 224}


def test_one_connection_for_many_episodes(server, make_policy):
    policy = make_policy(server.url, api_key="secret")
    for _ in range(2):
        policy.reset(WORDS)
        for seed in range(3):
            policy.act(make_observation(seed))
            policy.drop_queue()
    assert server.connections == 1
    assert server.headers[0]["Authorization"] == "Api-Key secret"


def test_health(server, make_policy):
    assert make_policy(server.url).is_healthy()
    assert server.connections == 0
    assert not make_policy("ws://127.0.0.1:9", connect_timeout=0.5).is_healthy()


def test_dropped_connections_are_made_again(server, make_policy):
    policy = make_policy(server.url)
    policy.reset(WORDS)
    server.faults = ["drop", "drop"]
    np.testing.assert_array_equal(policy.act(make_observation()), ACTIONS[:5])
    assert server.connections == 3
    server.faults = ["drop"] * 4
    message = refusal(policy)
    assert "got no connection, or a dropped one" in message
    assert not server.faults


def test_a_server_that_was_started_again(make_policy):
    with WebsocketServer(lambda observation: {"actions": ACTIONS}) as first:
        policy, port = make_policy(first.url), first.port
        policy.reset(WORDS)
        policy.act(make_observation())
    with WebsocketServer(lambda observation: {"actions": -ACTIONS}, port):
        np.testing.assert_array_equal(policy.act(make_observation()), -ACTIONS[:5])


def test_nobody_there(make_policy):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"
        begin = time.monotonic()
        message = refusal(make_policy(url, retries=2, pause=0.1), act=False)
    assert message.startswith(f"openpi at {url}: expected an answer, got no connection")
    assert "refused" in message
    assert 0.3 <= time.monotonic() - begin < 2.0  # two pauses, the second twice as long


def test_a_server_of_something_else(make_policy):
    with ActServer(lambda payload: None) as other:
        message = refusal(make_policy(other.url.replace("http", "ws"), retries=0), act=False)
    assert "got no connection" in message
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        message = refusal(make_policy(url, retries=0, connect_timeout=0.2), act=False)
    assert "timed out" in message


def test_an_answer_that_takes_too_long_is_not_taken_for_the_next(server, make_policy):
    policy = make_policy(server.url, timeout=0.3)
    server.faults = ["late"]
    begin = time.monotonic()
    message = refusal(policy)
    assert "got nothing within 0.3 s" in message
    assert "allow more time with ?timeout=0.6 behind its address" in message
    assert time.monotonic() - begin < 2.0
    time.sleep(0.5)
    np.testing.assert_array_equal(policy.act(make_observation()), ACTIONS[:5])


def test_a_server_that_stops_reading(make_policy):
    # Far more than the system's buffers hold: the client hangs in sending, not in waiting.
    done = threading.Event()

    def handle():
        peer, _ = listener.accept()
        with peer:
            protocol = ServerProtocol()
            while not (events := protocol.events_received()):
                protocol.receive_data(peer.recv(4096))
            protocol.send_response(protocol.accept(events[0]))
            protocol.send_binary(pack({}))
            for data in protocol.data_to_send():
                peer.sendall(data)
            done.wait(10)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=handle)
        thread.start()
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        policy = make_policy(url, size=1600, timeout=0.5, retries=0)
        begin = time.monotonic()
        message = refusal(policy)
        took = time.monotonic() - begin
        done.set()
        thread.join()
    assert "expected" in message
    assert took < 4.0


def test_a_text_frame_is_an_error(server, make_policy):
    def fail(observation):
        raise ValueError("expected 8 numbers of state")

    server.reply = fail
    policy = make_policy(server.url)
    message = refusal(policy)
    assert "got an error (ValueError: expected 8 numbers of state)" in message
    server.reply = lambda observation: {"actions": ACTIONS}
    np.testing.assert_array_equal(policy.act(make_observation()), ACTIONS[:5])


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"\xc1", "expected actions in MessagePack"),
        (b"", "expected actions in MessagePack"),
        (b"{}", "expected actions"),
        (pack([1, 2]), "expected actions as a map, got list"),
        (pack({"action": 1}), "expected an answer with 'actions', got one with ['action']"),
        (pack({"actions": np.zeros((10, 8))}), "expected 1 to 64 actions of 7 numbers, got (10, 8)"),
        (pack({"actions": np.zeros(7)}), "expected 1 to 64 actions of 7 numbers, got (7,)"),
        (pack({"actions": np.zeros((0, 7))}), "expected 1 to 64 actions of 7 numbers, got (0, 7)"),
        (pack({"actions": np.zeros((65, 7))}), "expected 1 to 64 actions of 7 numbers, got (65, 7)"),
        (pack({"actions": np.full((2, 7), np.nan)}), "expected finite actions, got NaN or infinity"),
        (pack({"actions": np.full((2, 7), np.inf)}), "expected finite actions, got NaN or infinity"),
        (pack({"actions": "none"}), "expected a chunk of actions, got str"),
        (
            pack({"actions": {b"__ndarray__": True, b"data": b"", b"dtype": "|O", b"shape": [1]}}),
            "expected a dtype of plain numbers",
        ),
        (b"\0" * 4_000_001, "at most 4000000 bytes, got more"),
        ("Traceback\n  line 1\nKeyError: 'prompt'\n", "got an error (KeyError: 'prompt')"),
    ],
)
def test_answers_that_are_none(server, make_policy, frame, words):
    policy = make_policy(server.url)
    server.faults = [frame]
    message = refusal(policy)
    assert message.startswith(f"openpi at {server.url}: ")
    assert words in message
    np.testing.assert_array_equal(policy.act(make_observation()), ACTIONS[:5])  # and then all is well again


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        ("no model", "expected metadata, got an error (no model)"),
        (b"\xc1", "expected metadata in MessagePack"),
        (pack(7), "expected metadata as a map, got int"),
        ("stall", "expected metadata in time, got nothing within 0.3 s: see whether the server is busy, or "),
    ],
)
def test_metadata_that_is_none(server, make_policy, greeting, words):
    server.greetings = [greeting]
    assert words in refusal(make_policy(server.url, connect_timeout=0.3), act=False)


def test_a_connection_dropped_before_the_metadata_is_made_again(server, make_policy):
    server.greetings = ["drop"]
    policy = make_policy(server.url)
    policy.reset(WORDS)
    assert server.connections == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "127.0.0.1:8000"}, "expected a server such as ws://127.0.0.1:8000"),
        ({"url": "ws://a..b:80"}, "expected a server such as"),
        ({"url": "ws://a", "timeout": 0.0}, "expected time-outs above 0"),
        ({"url": "ws://a", "retries": -1}, "expected time-outs above 0"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(UserError, match=words):
        OpenpiPolicy(**settings)
