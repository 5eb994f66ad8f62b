import contextlib
import errno
import socket
import subprocess
import sys
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
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import serve
from websockets.uri import parse_uri

from failsafe.errors import PolicyError, UserError
from failsafe.monitors import listener as listener_module
from failsafe.monitors import proxy as proxy_module
from failsafe.monitors.admission import Admission
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

        def run(make_guard, url, admission=None, idle_timeout=900.0, wait=True, **settings):
            upstream = Upstream(url, **{"timeout": 5.0, **settings})
            proxy = Proxy(upstream, make_guard, "127.0.0.1", 0, admission, idle_timeout)
            ready = threading.Event()
            thread = threading.Thread(target=proxy.run, args=(ready.set,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(proxy.stop)
            assert not wait or ready.wait(10)
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
    keys = [headers.get("Authorization") for headers in upstream.headers]
    assert keys == [None, "Api-Key secret", None], "the first is the proxy's own, at the start"
    assert guards[1].seen == request()
    assert guards[2].seen == request(shade=1)


def test_it_listens_on_this_machine_alone(start, upstream):
    proxy = start(lambda number: Marker(), upstream.url)
    assert proxy._listener.getsockname()[0] == "127.0.0.1"


def test_it_can_listen_where_addresses_have_colons(upstream):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        proxy = Proxy(Upstream(upstream.url), lambda number: Marker(), "::1", 0)
    except UserError as error:
        pytest.skip(str(error))
    ready = threading.Event()
    thread = threading.Thread(target=proxy.run, args=(ready.set,))
    thread.start()
    assert ready.wait(10)
    assert httpx.get(f"http://[::1]:{proxy.port}/healthz", trust_env=False).status_code == 200
    proxy.stop()
    thread.join()


def test_an_address_that_is_taken(start, upstream):
    proxy = start(lambda number: Marker(), upstream.url)
    with pytest.raises(UserError, match=f"expected an address to listen on, got 127.0.0.1:{proxy.port}"):
        Proxy(Upstream(upstream.url), lambda number: Marker(), port=proxy.port)


def test_health(start, upstream):
    proxy = start(lambda number: Marker(), upstream.url)
    reply = httpx.get(f"http://127.0.0.1:{proxy.port}/healthz", trust_env=False)
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
    proxy, _ = guarded(calm())
    upstream.greetings = ["no GPU"]
    with client_of(proxy) as client:
        assert told(client) == ("no GPU", 1011, REASON)


def test_a_server_that_is_gone(guarded):
    with WebsocketServer(lambda observation: {"actions": ACTIONS}) as gone:
        url = gone.url
        proxy, _ = guarded(calm(), url)
    with client_of(proxy) as client:
        text, code, reason = told(client)
    assert text.startswith(f"the server at {url}: expected a connection, got no connection, or a dropped one")
    assert "\n" not in text
    assert (code, reason) == (1011, REASON)


def test_a_server_that_sends_no_metadata(guarded, upstream):
    proxy, _ = guarded(calm(), connect_timeout=0.3)
    upstream.greetings = ["stall"]
    with client_of(proxy) as client:
        text, code, _ = told(client)
    assert text == (
        f"the server at {upstream.url}: expected metadata within 0.3 s, got nothing: see whether the server "
        "is busy, or allow more time with ?connect_timeout=0.6 behind its address"
    )
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
    assert text == (
        f"the server at {upstream.url}: expected an answer within 0.2 s, got nothing: see whether the server "
        "is busy, or allow more time with ?timeout=0.4 behind its address"
    )
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


def test_clients_are_refused_until_the_server_behind_answers(start):
    """As by openpi's own server while it loads its model: its client waits while it is refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    waiting, ready = [], threading.Event()
    proxy = Proxy(Upstream(f"ws://127.0.0.1:{port}"), lambda number: Marker(), port=0)
    thread = threading.Thread(target=proxy.run, args=(ready.set, waiting.append))
    thread.start()
    try:
        time.sleep(0.3)
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", proxy.port)):
            pass
        assert len(waiting) == 1
        assert "refused" in waiting[0]
        with WebsocketServer(lambda observation: {"actions": ACTIONS}, port):
            assert ready.wait(10)
            with client_of(proxy) as client:
                client.recv(timeout=5)
                assert ask(client, request()) == b"guarded " + answer()
    finally:
        proxy.stop()
        thread.join()


def test_it_can_be_stopped_before_the_server_behind_answers(start):
    proxy = start(lambda number: Marker(), "ws://127.0.0.1:9", wait=False)
    time.sleep(0.1)
    begun = time.monotonic()
    proxy.stop()
    assert time.monotonic() - begun < 2


def test_a_server_that_wants_a_key_has_answered(start):
    def refuse(connection, request):
        return connection.respond(401, "a key, please")

    with serve(lambda connection: None, "127.0.0.1", 0, process_request=refuse) as closed:
        thread = threading.Thread(target=closed.serve_forever)
        thread.start()
        start(lambda number: Marker(), f"ws://127.0.0.1:{closed.socket.getsockname()[1]}")
        closed.shutdown()
        thread.join()


def test_a_server_that_is_still_loading_has_not_answered(start):
    def busy(connection, request):
        return connection.respond(503, "loading")

    waiting, ready = [], threading.Event()
    with serve(lambda connection: None, "127.0.0.1", 0, process_request=busy) as loading:
        threading.Thread(target=loading.serve_forever).start()
        url = f"ws://127.0.0.1:{loading.socket.getsockname()[1]}"
        proxy = Proxy(Upstream(url), lambda number: Marker(), port=0)
        thread = threading.Thread(target=proxy.run, args=(ready.set, waiting.append))
        thread.start()
        try:
            assert not ready.wait(0.5)
            assert "503" in waiting[0]
        finally:
            proxy.stop()
            thread.join()
            loading.shutdown()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"Host": "localhost:9000"}, None),
        ({"Host": "192.168.1.7:9000"}, None),
        ({"Host": "[::1]:9000"}, None),
        ({"Host": "robot.local"}, None),
        ({"Host": "ROBOT.local.:9000"}, None),
        ({"Host": "evil.example:9000"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "127.0.0.1@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://robot.local:8080"}, None),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "http://robot.local.evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
    ids=str,
)
def test_web_pages_and_foreign_names_are_refused(start, upstream, headers, status):
    """A page of another site whose name points to this machine (DNS rebinding) opened the socket."""
    proxy = start(lambda number: Marker(), upstream.url, Admission(("robot.local",)))
    with contextlib.ExitStack() as stack:
        if status is None:
            shake(stack, proxy, headers).recv(timeout=5)
        else:
            with pytest.raises(InvalidStatus) as refused:
                shake(stack, proxy, headers)
            assert refused.value.response.status_code == status
            assert b"expected" in refused.value.response.body
    assert len(upstream.headers) == (2 if status is None else 1)


def shake(stack, proxy, headers):
    """Open a connection whose headers replace the usual ones."""

    class Replaced(ClientProtocol):
        def connect(self):
            made = super().connect()
            for name, value in headers.items():
                if name in made.headers:
                    del made.headers[name]
                made.headers[name] = value
            return made

    raw = socket.create_connection(("127.0.0.1", proxy.port))
    stack.callback(raw.close)
    protocol = Replaced(parse_uri(f"ws://127.0.0.1:{proxy.port}"))
    connection = ClientConnection(raw, protocol, close_timeout=0.5)
    connection.handshake(timeout=5)
    return stack.enter_context(connection)


def test_a_token_is_asked_for_and_stays_here(start, upstream):
    proxy = start(
        lambda number: Marker(),
        upstream.url,
        Admission(token="sesame\n"),
        headers={"Authorization": "Api-Key upstream"},
    )
    for given in ({}, {"Authorization": "Api-Key sesam"}, {"Authorization": "Basic sesame"}):
        with pytest.raises(InvalidStatus) as refused, client_of(proxy, additional_headers=given):
            pass
        assert refused.value.response.status_code == 401
        assert b"sesame" not in refused.value.response.body
    policy = OpenpiPolicy(f"ws://127.0.0.1:{proxy.port}", api_key="sesame")
    policy.reset(INSTRUCTION)
    policy.close()
    with client_of(proxy, additional_headers={"Authorization": "Bearer sesame"}) as client:
        client.recv(timeout=5)
    assert {headers["Authorization"] for headers in upstream.headers} == {"Api-Key upstream"}
    assert "upstream" not in repr(Upstream(upstream.url, headers={"Authorization": "upstream"}))


def test_silent_connections_delay_nobody(start, upstream, monkeypatch):
    monkeypatch.setattr(proxy_module, "_OPEN_TIMEOUT", 3.0)
    monkeypatch.setattr(listener_module, "MAX_OPENING", 8)
    proxy = start(lambda number: Marker(), upstream.url)
    with client_of(proxy) as first, contextlib.ExitStack() as stack:
        first.recv(timeout=5)
        silent = []
        for _ in range(100):
            silent.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=5))
            stack.callback(silent[-1].close)
        assert ask(first, request()) == b"guarded " + answer()
        with client_of(proxy) as second:
            second.recv(timeout=5)
            assert ask(second, request()) == b"guarded " + answer()
        begun = time.monotonic()
        alive = [connection for connection in silent if not is_closed(connection)]
        assert len(alive) <= 8
        assert time.monotonic() - begun < 2
        assert all(is_closed(connection, 5.0) for connection in alive), "a handshake has a time-out"


def is_closed(connection, seconds=0.05):
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@pytest.mark.slow
def test_running_out_of_file_descriptors_ends_nothing(upstream):
    """In a process with 100 of them, the client that is connected is served on, and so is the next."""
    with subprocess.Popen(
        [sys.executable, "-c", FEW_DESCRIPTORS, upstream.url], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            port = int(process.stdout.readline())
            with contextlib.ExitStack() as stack:
                first = stack.enter_context(connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None))
                first.recv(timeout=5)
                silent = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(120)]
                for _ in range(5):
                    time.sleep(0.2)
                    assert ask(first, request()) == b"guarded " + answer()
                for connection in silent:
                    connection.close()
                time.sleep(0.5)
                with connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None) as second:
                    second.recv(timeout=5)
                    assert ask(second, request()) == b"guarded " + answer()
                assert process.poll() is None
        finally:
            process.kill()


FEW_DESCRIPTORS = """
import resource, sys
from failsafe.monitors.proxy import Proxy, Upstream
class Marker:
    def on_request(self, asked): pass
    def on_answer(self, reply): return b"guarded " + reply
proxy = Proxy(Upstream(sys.argv[1]), lambda number: Marker(), port=0)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
proxy.run(lambda: print(proxy.port, flush=True))
"""


def test_when_it_must_stop_it_says_why(upstream, monkeypatch):
    proxy = Proxy(Upstream(upstream.url), lambda number: Marker(), port=0)

    def accept(self):
        self.problem = "the device is gone"
        raise OSError(errno.EINVAL, self.problem)

    monkeypatch.setattr(listener_module.Listener, "accept", accept)

    def connect_once():
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=5).close()

    with pytest.raises(PolicyError, match="a listening socket that fails: the device is gone"):
        proxy.run(lambda: threading.Thread(target=connect_once).start())


def test_an_idle_client_gives_up_its_seat_if_another_needs_it(monkeypatch, start, upstream):
    monkeypatch.setattr(proxy_module, "MAX_CLIENTS", 2)
    proxy = start(lambda number: Marker(), upstream.url, idle_timeout=0.3)
    with client_of(proxy) as idle, client_of(proxy) as active:
        for client in (idle, active):
            client.recv(timeout=5)
        time.sleep(0.4)
        assert ask(active, request()) == b"guarded " + answer()
        with client_of(proxy) as third:
            third.recv(timeout=5)
            assert ask(third, request()) == b"guarded " + answer()
            with pytest.raises(ConnectionClosed) as closed:
                idle.recv(timeout=5)
            assert closed.value.rcvd.code == 1008
            assert "another client needs the seat" in closed.value.rcvd.reason
            with client_of(proxy) as fourth:
                assert "expected at most 2 clients at once" in told(fourth)[0]
            assert ask(active, request()) == b"guarded " + answer()


def test_a_client_whose_answer_takes_long_is_not_idle(monkeypatch, start, upstream):
    monkeypatch.setattr(proxy_module, "MAX_CLIENTS", 1)
    upstream.faults = ["late"]
    proxy = start(lambda number: Marker(), upstream.url, idle_timeout=0.1)
    with client_of(proxy) as busy:
        busy.recv(timeout=5)
        busy.send(request())
        time.sleep(0.2)
        with client_of(proxy) as other:
            assert "expected at most 1 clients at once" in told(other)[0]
        assert busy.recv(timeout=5).startswith(b"guarded ")


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_idle_time_outs_that_make_no_sense(seconds, upstream):
    with pytest.raises(UserError, match="expected an idle time-out above 0"):
        Proxy(Upstream(upstream.url), lambda number: Marker(), port=0, idle_timeout=seconds)


def test_a_callback_that_raises_does_not_cut_the_robot_off(start, upstream):
    def fail(number, event):
        raise OSError("no space left on device")

    settings = MonitorSettings(drift=0.0)
    proxy = start(guard_clients(raising(), 0.5, settings, Wire(), fail), upstream.url)
    with client_of(proxy) as client:
        client.recv(timeout=5)
        for _ in range(3):
            assert ask(client, request()) == answer()
