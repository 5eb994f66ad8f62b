import errno
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.cli.conftest import Verb
from tests.monitors.openpi_client import ACTIONS, INSTRUCTION, SPEC, answer, request
from tests.policies.websocket_server import WebsocketServer, unpack
from websockets.sync.client import connect

from failsafe.cli.serve import parse_address, parse_views
from failsafe.errors import UserError
from failsafe.models.address import is_loopback
from failsafe.models.camera_geometry import CameraIntrinsics
from failsafe.models.compact import CompactMeta, save_compact
from failsafe.models.compact_net import CompactConfig, CompactNet
from failsafe.models.loading import fingerprint
from failsafe.models.version_1 import EMBODIMENT, NORMALIZATION
from failsafe.monitors.calibration import Calibration, Threshold, write_calibration
from failsafe.monitors.listener import Listener
from failsafe.monitors.proxy import Proxy

UPSTREAM = ("--upstream", "ws://127.0.0.1:8000")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network that is sure of a failure, with a way back."""
    torch.manual_seed(0)
    intrinsics = tuple(CameraIntrinsics(0.8, False) for _ in SPEC.views)
    config = CompactConfig(
        SPEC, ("slip",), ("grasp",), (INSTRUCTION,), EMBODIMENT, NORMALIZATION, (8, 8, 16, 16), 32, intrinsics
    )
    net = CompactNet(config)
    with torch.no_grad():
        net.heads.weight.zero_()
        net.heads.bias.zero_()
        net.heads.bias[0] = 20.0
    path = tmp_path_factory.mktemp("serve") / "tiny.safetensors"
    save_compact(path, net, CompactMeta(config, {"T": (1,)}, {}))
    return path


def serving(checkpoint: Path, upstream: str, *description: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "failsafe", "serve", "--monitor", str(checkpoint), "--json"]
    return subprocess.Popen(
        [*command, "--upstream", upstream, "--listen", "127.0.0.1:0", *description],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def announced(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    said = ""
    while not said.endswith("}\n"):
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        said += line
    return json.loads(said)


def said_while_nothing_changes(checkpoint: Path, *description: str) -> str:
    """What is said on standard error while a client gets the server's own answers, five times on end.

    The model is sure of a failure at every look, and would take over where it may.
    """
    with WebsocketServer(lambda observation: {"actions": ACTIONS}) as upstream:
        process = serving(checkpoint, upstream.url, *description)
        try:
            with connect(str(announced(process)["listening"]), compression=None, proxy=None) as client:
                client.recv(timeout=5)
                for _ in range(5):
                    client.send(request())
                    assert client.recv(timeout=30) == answer()
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    return err


@pytest.mark.slow
def test_the_verb_serves_until_it_is_interrupted(checkpoint: Path, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    with WebsocketServer(lambda observation: {"actions": ACTIONS}) as upstream:
        process = serving(checkpoint, upstream.url, "--threshold", "12", "--events", str(log))
        try:
            said = announced(process)
            assert said["upstream"] == upstream.url
            assert said["black"] == ["side"]
            assert (said["instructions"], said["alarms"]) == ([INSTRUCTION], "alarms above 12")
            with connect(str(said["listening"]), compression=None, proxy=None) as client:
                assert unpack(client.recv(timeout=5)) == {"model": "made up", "horizon": 10}
                replies = []
                for _ in range(5):
                    client.send(request())
                    replies.append(client.recv(timeout=30))
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {event["client"] for event in events} == {1}
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "query"
    assert replies[0] == answer()
    assert kinds[:5] == [*["query"] * 3, "alarm", "take_over"]  # log(0.999 / 0.001) less 2, three times
    assert "client 1, step 15: take_over" in err
    assert replies[:3] == [answer()] * 3
    actions = unpack(replies[3])["actions"]
    assert actions.shape == (10, 7)
    assert not np.array_equal(actions, ACTIONS)


@pytest.mark.slow
def test_a_calibration_that_knows_nothing_of_the_task(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    thresholds = {"another task": Threshold(0.5, 40)}
    weights = fingerprint(str(checkpoint))
    write_calibration(path, Calibration(0.05, str(checkpoint), "openpi", 2.0, thresholds, weights=weights))
    with WebsocketServer(lambda observation: {"actions": ACTIONS}) as upstream:
        process = serving(checkpoint, upstream.url, "--calibration", str(path))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "expected a threshold for an instruction that" in err
    assert "'another task'" in err


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        (("--upstream", "openvla://127.0.0.1:8000"), "expected a server of openpi such as"),
        (("--upstream", "reference"), "expected a policy such as"),
        (("--upstream", "ws://127.0.0.1:8000?rotation=eular_xyz"), "did you mean 'euler_xyz'?"),
        ((*UPSTREAM, "--listen", "nowhere"), "expected HOST:PORT such as 127.0.0.1:9000"),
        ((*UPSTREAM, "--listen", "0.0.0.0:70000"), "expected HOST:PORT such as 127.0.0.1:9000"),
        ((*UPSTREAM, "--views", "frnt=observation/image"), "did you mean 'front'?"),
        ((*UPSTREAM, "--views", "front"), "expected views such as front=observation/image"),
        ((*UPSTREAM, "--views", "front=a,front=b"), "images that each show another view"),
        (("--upstream", "ws://127.0.0.1:8000?observation/image="), "expected an image of front or side"),
        ((*UPSTREAM, "--steps-per-request", "0"), "expected 1 step per request or more"),
        ((*UPSTREAM, "--steps-per-request", "65"), "expected chunks of 1 to 64 actions"),
        ((*UPSTREAM, "--deadline", "0"), "expected a deadline above 0"),
        ((*UPSTREAM, "--threshold", "nan"), "expected a finite threshold of at least 0, got nan"),
        ((*UPSTREAM, "--events", "/nowhere/events.jsonl"), "expected a file to write events to"),
        ((*UPSTREAM, "--idle-timeout", "0"), "expected an idle time-out above 0, got 0"),
        ((*UPSTREAM, "--allow", "http://robot.local"), "expected allowed hosts such as robot.local"),
        ((*UPSTREAM, "--allow", "robot.local:9000"), "expected allowed hosts such as robot.local"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    description: tuple[str, ...], problem: str, checkpoint: Path, run: Verb
) -> None:
    status, out, err = run("serve", "--monitor", str(checkpoint), "--threshold", "0.5", *description)
    assert (status, out) == (2, "")
    assert problem in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_without_thresholds_it_only_observes(checkpoint: Path, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    err = said_while_nothing_changes(checkpoint, "--events", str(log))
    assert "there are no thresholds, so the monitor only observes" in err
    assert {json.loads(line)["kind"] for line in log.read_text().splitlines()} == {"query"}


def test_thresholds_of_another_monitor(checkpoint: Path, tmp_path: Path, run: Verb) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(path, Calibration(0.05, "another", "openpi", 2.0, {}))
    status, _, err = run("serve", "--monitor", str(checkpoint), *UPSTREAM, "--calibration", str(path))
    assert status == 2
    assert f"expected thresholds of the monitor {checkpoint}, got another's" in err


def test_a_proxy_that_must_stop_says_why_and_exits_with_an_error(
    checkpoint: Path, run: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with status 0, which says that somebody stopped it."""

    clients: list[socket.socket] = []

    def listen(listener: Listener) -> None:
        socket.socket.listen(listener)
        clients.append(socket.create_connection(listener.getsockname()))

    def fail(listener: Listener) -> None:
        listener.problem = "Bad file descriptor"
        raise OSError(errno.EBADF, listener.problem)

    monkeypatch.setattr(Listener, "listen", listen)
    monkeypatch.setattr(Listener, "accept", fail)
    with WebsocketServer(lambda observation: {"actions": ACTIONS}) as upstream:
        status, _, err = run(
            *("serve", "--monitor", str(checkpoint), "--threshold", "0.5"),
            *("--upstream", upstream.url, "--listen", "127.0.0.1:0"),
        )
    clients.pop().close()
    assert status == 2
    assert err.splitlines()[-1] == (
        "failsafe: expected to go on accepting clients, got a listening socket that fails: Bad file "
        "descriptor"
    )


def test_other_machines_are_let_in_with_a_warning(
    checkpoint: Path, run: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = []

    class Interrupted(Proxy):
        port = 9000

        def __init__(self, upstream, make_guard, host, port, admission, idle_timeout) -> None:
            hosts.append(host)

        def run(self, on_ready, on_waiting) -> None:
            on_waiting("refused\x1b[2J")
            on_ready()
            raise KeyboardInterrupt

    monkeypatch.setattr("failsafe.monitors.serving.Proxy", Interrupted)
    common = ("serve", "--monitor", str(checkpoint), "--threshold", "0.5", *UPSTREAM)
    status, out, err = run(*common)
    waiting = (
        "failsafe: waiting for the server at ws://127.0.0.1:8000 (refused\\x1b[2J); clients are refused "
        "until it answers\n"
    )
    assert (status, err) == (0, waiting)
    assert out == (
        "listening on ws://127.0.0.1:9000; compact monitors ws://127.0.0.1:8000: alarms above 0.5\n"
        f"the model knows 1 instructions, which must be sent word for word: '{INSTRUCTION}'\n"
        "no image shows side: the model sees black there\n"
    )
    status, _, err = run(*common, "--listen", "0.0.0.0:9000")
    assert status == 0
    assert err.startswith("failsafe: anyone who reaches 0.0.0.0:9000 over the network can move the robot: ")
    assert "set FAILSAFE_SERVE_TOKEN to a token" in err
    monkeypatch.setenv("FAILSAFE_SERVE_TOKEN", "sesame")
    status, _, err = run(*common, "--listen", "0.0.0.0:9000")
    assert (status, err) == (0, waiting)
    monkeypatch.setenv("FAILSAFE_SERVE_TOKEN", "open sesame")
    status, _, err = run(*common)
    assert (status, err.count("\n"), "sesame" in err) == (2, 1, False)
    assert hosts == ["127.0.0.1", "0.0.0.0", "0.0.0.0"]


def test_addresses() -> None:
    assert parse_address("127.0.0.1:9000") == ("127.0.0.1", 9000)
    assert parse_address("9000") == ("127.0.0.1", 9000)
    assert parse_address("[::1]:0") == ("::1", 0)
    assert parse_address("robot.local:9000") == ("robot.local", 9000)
    for bad in ("", ":9000", "localhost:", "localhost", "ws://localhost:9000", "localhost:-1", "a/b:1"):
        with pytest.raises(UserError, match="expected HOST:PORT"):
            parse_address(bad)
    assert [is_loopback(host) for host in ("127.0.0.2", "::1", "localhost", "0.0.0.0", "robot.local")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert parse_views("front=a, hand=b") == {"a": "front", "b": "hand"}
