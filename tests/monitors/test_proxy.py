import contextlib
import socket
import threading
import time

import httpx
import numpy as np
import pytest
from tests.monitors.openpi_client import (
    ACTIONS,
    INSTRUCTION,
    SPEC,
    Model,
    alarmed,
    answer,
    calm,
    hanging,
    not_a_number,
    raising,
    request,
)
from tests.policies.websocket_server import WebsocketServer, pack, unpack
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from failsafe.errors import PolicyError, UserError
from failsafe.monitors import proxy as proxy_module
from failsafe.monitors.proxy import Proxy, Upstream
from failsafe.monitors.requests import Wire, guard_clients
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.openpi import OpenpiPolicy
from failsafe.policies.served import LIBERO
from failsafe.records import poses
from failsafe.records.assessment import Assessment
from failsafe.records.event import EventKind
from failsafe.records.observation import PolicyObservation

REASON = "Internal server error. Traceback included in previous frame."
ROW = [0.4, 0, 0, 0, 0, 0.2, -1]


class Marker:
    """A guard that marks every answer."""

    def on_request(self, asked):
        self.seen = asked

    def on_answer(self, reply):
        return b"guarded " + reply


@pytest.fixture
def upstream():
    with WebsocketServer(lambda observation: {"actions": ACTIONS}) as running:
        yield running


@pytest.fixture
def start():
    """Starts proxies, and stops them."""
    with contextlib.ExitStack() as stack:

        def run(make_guard, url, **settings):
            proxy = Proxy(Upstream(url, **{"timeout": 5.0, **settings}), make_guard, port=0)
            thread = threading.Thread(target=proxy.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(proxy.stop)
            return proxy

        yield run


@pytest.fixture
def guarded(start, upstream):
    """A proxy before the upstream with a model, and the events of its clients."""

    def run(model, url=None, wire=None, deadline=5.0, **settings):
        events = []
        made = MonitorSettings(drift=0.0, cool_down_seconds=0.0, max_corrections=1, deadline=deadline)
        guards = guard_clients(model, 0.5, made, wire or Wire(), lambda *told: events.append(told))
        return start(guards, url or upstream.url, **settings), events

    return run


@contextlib.contextmanager
def client_of(proxy, **settings):
    with connect(
        f"ws://127.0.0.1:{proxy.port}", compression=None, max_size=None, proxy=None, **settings
    ) as client:
        yield client


def ask(client, message):
    client.send(message)
    return client.recv(timeout=10)


def told(client):
    """The text that the client is given, and the code and reason of the close behind it."""
    text = client.recv(timeout=10)
    assert isinstance(text, str)
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=10)
    return text, closed.value.rcvd.code, closed.value.rcvd.reason


def test_the_protocol_alone(start, upstream):
    guards = {}
    proxy = start(lambda number: guards.setdefault(number, Marker()), upstream.url)
    with client_of(proxy, additional_headers={"Authorization": "Api-Key secret"}) as client:
        assert client.recv(timeout=5) == pack({"model": "made up", "horizon": 10})
        assert ask(client, request()) == b"guarded " + answer()
    with client_of(proxy) as client:
        client.recv(timeout=5)
        assert ask(client, request(shade=1)) == b"guarded " + answer()
    assert upstream.messages == [request(), request(shade=1)]
    assert [headers.get("Authorization") for headers in upstream.headers] == ["Api-Key secret", None]
    assert guards[1].seen == request()
    assert guards[2].seen == request(shade=1)


def test_it_listens_on_this_machine_alone(start, upstream):
    proxy = start(lambda number: Marker(), upstream.url)
    assert proxy._server.socket.getsockname()[0] == "127.0.0.1"


def test_it_can_listen_where_addresses_have_colons(upstream):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        proxy = Proxy(Upstream(upstream.url), lambda number: Marker(), "::1", 0)
    except UserError as error:
        pytest.skip(str(error))
    thread = threading.Thread(target=proxy.run)
    thread.start()
    assert httpx.get(f"http://[::1]:{proxy.port}/healthz", trust_env=False).status_code == 200
    proxy.stop()
    thread.join()


def test_an_address_that_is_taken(start, upstream):
    proxy = start(lambda number: Marker(), upstream.url)
    with pytest.raises(UserError, match=f"expected an address to listen on, got 127.0.0.1:{proxy.port}"):
        Proxy(Upstream(upstream.url), lambda number: Marker(), port=proxy.port)


def test_health(start):
    reply = httpx.get(
        f"http://127.0.0.1:{start(lambda n: Marker(), 'ws://127.0.0.1:9').port}/healthz", trust_env=False
    )
    assert (reply.status_code, reply.text) == (200, "OK\n")


def test_a_calm_model_changes_no_byte(guarded, upstream):
    proxy, events = guarded(calm())
    with client_of(proxy) as client:
        client.recv(timeout=5)
        for shade in range(4):
            assert ask(client, request(shade=shade)) == answer()
    assert upstream.messages == [request(shade=shade) for shade in range(4)]
    assert [(number, event.kind) for number, event in events] == [(1, EventKind.QUERY)] * 3


def test_our_own_client_executes_the_correction(guarded, upstream):
    proxy, events = guarded(alarmed(8))
    policy = OpenpiPolicy(f"ws://127.0.0.1:{proxy.port}", timeout=10.0)
    at, turned = np.array([0.5, 0.1, 0.3]), 0.0
    down = np.array([0.0, 1.0, 0.0, 0.0])
    policy.reset(INSTRUCTION)
    for _ in range(3):
        turn = poses.quaternion_multiply(poses.from_rotation_vector([0.0, 0.0, turned]), down)
        pose = poses.pose(at, turn)
        images = {view: np.zeros((24, 24, 3), dtype=np.uint8) for view in ("front", "hand")}
        rows = policy.act(PolicyObservation(images, pose, pose, 0.06))
        if events:
            at, turned = at + np.array([0.1, 0.0, 0.0]), turned + 0.5
    policy.close()
    # The last answer, as the client's own action space has it: three rows of the correction, then none.
    np.testing.assert_allclose(rows, [ROW] * 3 + [[0, 0, 0, 0, 0, 0, -1]] * 2, atol=1e-6)
    reached, gripper = LIBERO.to_pose(rows[0], pose, pose)
    np.testing.assert_allclose(reached[:3] - pose[:3], [0.02, 0, 0], atol=1e-6)
    assert gripper == 1.0
    kinds = [event.kind for _, event in events]
    assert kinds == [EventKind.QUERY, EventKind.ALARM, EventKind.TAKE_OVER]
    assert dict(policy.metadata) == {"model": "made up", "horizon": 10}
    assert len(upstream.observations) == 3  # it is asked at every request


def test_two_clients_at_once(guarded):
    class OneTask(Model):
        def assess(self, window):
            failing = window.instruction == "stack the cubes"
            return self.assessment if failing else Assessment(failure_probability=0.0)

    proxy, events = guarded(OneTask(alarmed().assessment))
    with client_of(proxy) as first, client_of(proxy) as second:
        for client in (first, second):
            client.recv(timeout=5)
        for client, description in ((first, INSTRUCTION), (second, "stack the cubes"), (first, INSTRUCTION)):
            assert ask(client, request(prompt=description)) == answer()
        np.testing.assert_allclose(
            unpack(ask(second, request(prompt="stack the cubes")))["actions"][0], ROW, atol=1e-6
        )
        assert ask(first, request()) == answer()
    by_client = {number: [e.kind for n, e in events if n == number] for number, _ in events}
    takers = [number for number, kinds in by_client.items() if EventKind.TAKE_OVER in kinds]
    watchers = [number for number in by_client if number not in takers]
    assert len(takers) == len(watchers) == 1
    assert by_client[watchers[0]] == [EventKind.QUERY] * 2


@pytest.mark.parametrize("model", [raising(), not_a_number()], ids=["raises", "NaN"])
def test_a_model_that_fails(model, guarded):
    proxy, events = guarded(model)
    with client_of(proxy) as client:
        client.recv(timeout=5)
        for _ in range(3):
            assert ask(client, request()) == answer()
    assert [event.kind for _, event in events] == [EventKind.FAULT] * 2


def test_a_model_that_hangs(guarded):
    over = threading.Event()
    proxy, events = guarded(hanging(over), deadline=0.2)
    with client_of(proxy) as client:
        client.recv(timeout=5)
        begun = time.monotonic()
        for _ in range(3):
            assert ask(client, request()) == answer()
        assert time.monotonic() - begun < 3
    over.set()
    assert [event.kind for _, event in events] == [EventKind.LATE, EventKind.FAULT]


def test_what_the_proxy_cannot_read_is_passed_on(guarded, upstream):
    proxy, events = guarded(calm())
    bad = [b"\xc1 no MessagePack", "some text", pack([1]), pack({"__ctrl__": "episode_start"})]
    replies = [b"\xc1 nor this", answer(np.zeros((3, 8))), pack({"__ack__": "episode_start"}), b""]
    upstream.faults = list(replies)
    with client_of(proxy) as client:
        client.recv(timeout=5)
        assert [ask(client, message) for message in bad] == replies
        assert ask(client, request()) == answer()
    assert upstream.messages[:4] == bad
    assert [event.kind for _, event in events] == [EventKind.FAULT] * 8


def test_an_upstream_that_fails_at_a_request(guarded, upstream):
    upstream.reply = lambda observation: observation["nothing"]
    proxy, _ = guarded(calm())
    with client_of(proxy) as client:
        client.recv(timeout=5)
        client.send(request())
        text, code, reason = told(client)
    assert text.startswith("Traceback")
    assert "KeyError: 'nothing'" in text
    assert (code, reason) == (1011, REASON)
    policy = OpenpiPolicy(f"ws://127.0.0.1:{proxy.port}", timeout=5.0)
    policy.reset(INSTRUCTION)
    images = {view: np.zeros((24, 24, 3), dtype=np.uint8) for view in ("front", "hand")}
    pose = poses.pose([0.5, 0.0, 0.3])
    with pytest.raises(PolicyError, match="got an error \\(KeyError: 'nothing'\\)"):
        policy.act(PolicyObservation(images, pose, pose, 0.06))
    policy.close()


def test_a_text_frame_in_place_of_the_metadata(guarded, upstream):
    upstream.greetings = ["no GPU"]
    proxy, _ = guarded(calm())
    with client_of(proxy) as client:
        assert told(client) == ("no GPU", 1011, REASON)


def test_no_server_behind(guarded):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"
        proxy, _ = guarded(calm(), url)
        with client_of(proxy) as client:
            text, code, reason = told(client)
    assert text.startswith(f"the server at {url}: expected a connection, got no connection, or a dropped one")
    assert "\n" not in text
    assert (code, reason) == (1011, REASON)


def test_a_server_that_sends_no_metadata(guarded, upstream):
    upstream.greetings = ["stall"]
    proxy, _ = guarded(calm(), connect_timeout=0.3)
    with client_of(proxy) as client:
        text, code, _ = told(client)
    assert text == f"the server at {upstream.url}: expected metadata in time, got nothing"
    assert code == 1011


def test_a_server_that_dies_between_requests(guarded, upstream):
    proxy, _ = guarded(calm())
    upstream.faults = [answer(), "drop"]
    with client_of(proxy) as client:
        client.recv(timeout=5)
        assert ask(client, request()) == answer()
        client.send(request())
        text, code, _ = told(client)
    assert "expected an answer, got no connection, or a dropped one" in text
    assert code == 1011
    with client_of(proxy) as client:  # the next one is served again
        client.recv(timeout=5)
        assert ask(client, request()) == answer()


def test_a_server_that_answers_too_late(guarded, upstream):
    proxy, _ = guarded(calm(), timeout=0.2)
    upstream.faults = ["late"]
    with client_of(proxy) as client:
        client.recv(timeout=5)
        client.send(request())
        text, code, _ = told(client)
    assert text == f"the server at {upstream.url}: expected an answer in time, got nothing"
    assert code == 1011


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(proxy_module, "MAX_BYTES", 20_000)


def test_a_request_over_the_limit(small, guarded, upstream):
    proxy, _ = guarded(calm())
    with client_of(proxy) as client:
        client.recv(timeout=5)
        client.send(bytes(20_001))
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)
    assert closed.value.rcvd.code == 1009
    assert upstream.messages == []


def test_an_answer_over_the_limit(small, guarded, upstream):
    proxy, _ = guarded(calm())
    upstream.faults = [bytes(20_001)]
    with client_of(proxy) as client:
        client.recv(timeout=5)
        client.send(request())
        text, code, _ = told(client)
    assert "1009 (message too big)" in text
    assert code == 1011


def test_one_client_too_many(monkeypatch, guarded):
    monkeypatch.setattr(proxy_module, "MAX_CLIENTS", 1)
    proxy, _ = guarded(calm())
    with client_of(proxy) as first:
        first.recv(timeout=5)
        with client_of(proxy) as second:
            assert told(second)[0] == "expected at most 1 clients at once, got one more"
        assert ask(first, request()) == answer()


def test_stopping_closes_both_sides(guarded, upstream):
    upstream.faults = ["stall"]
    proxy, _ = guarded(calm())
    with client_of(proxy) as client:
        client.recv(timeout=5)
        client.send(request())
        time.sleep(0.1)
        begun = time.monotonic()
        proxy.stop()
        assert time.monotonic() - begun < 5
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)
    assert closed.value.rcvd.code == 1001


def test_the_window_has_the_models_sizes(guarded):
    proxy, _ = guarded(model := calm())
    with client_of(proxy) as client:
        client.recv(timeout=5)
        for _ in range(2):
            ask(client, request())
    (window,) = model.windows
    window.check(SPEC)
