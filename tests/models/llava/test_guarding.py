"""A served FailSafe-VLM, and a class of one's own, as the monitor of evaluate, calibrate and serve."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from tests.evaluation import toy_study
from tests.models.llava.made_up import SPEC
from tests.models.llava.server import Server, completion, images_of
from tests.models.llava.test_endpoint import TEXT, tokens
from tests.models.llava.test_model import spell
from tests.monitors.openpi_client import ACTIONS, answer, request
from tests.policies.websocket_server import WebsocketServer, unpack
from websockets.sync.client import connect

from failsafe.errors import UserError
from failsafe.evaluation.results import Results
from failsafe.models.llava import checkpoint
from failsafe.models.llava.card import LlavaCard, read_card, write_card
from failsafe.models.loading import load_model
from failsafe.monitors.calibration import read_calibration
from failsafe.records.event import EventKind

EPISODES = ("--policy", toy_study.POLICY, "--tasks", toy_study.PICK, "--workers", "1", "--json")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def card(tmp_path):
    folder = tmp_path / "card"
    folder.mkdir()
    write_card(folder, LlavaCard(SPEC, modes=("slip",)))
    return folder


def named(server, model="failsafe-vlm", **settings):
    more = "".join(f"&{key}={value}" for key, value in settings.items())
    return f"openai+{server.url}?model={model}{more}"


def failsafe(*words):
    done = subprocess.run([sys.executable, "-m", "failsafe", *words], capture_output=True, text=True)
    # 3: the monitor asked for help; 4: no answer of the tiny model could be read.
    assert done.returncode in (0, 3, 4), done.stderr
    return done.stdout


def evaluate(monitor, out, *words):
    failsafe("evaluate", "--monitor", monitor, *EPISODES, "--videos", "0", "--out", str(out), *words)
    return Results(out)


def test_a_server_is_queried_once_when_it_is_loaded(card):
    with Server(lambda request: completion(TEXT, tokens())) as server:
        model = load_model(named(server, card=card))
        assert (model.name, model.window_spec) == ("failsafe-vlm", SPEC)
        assert [len(images_of(asked)[0]) for asked in server.requests] == [len(SPEC.views) * SPEC.frames]
        model.close()
        model = load_model(named(server, size=56))
        assert model.window_spec.size == 56
        model.close()
        server.faults = [404]
        with pytest.raises(UserError, match=r"got none: .* status 404.*; check the server and the address"):
            load_model(named(server))
    with pytest.raises(UserError, match=r"expected a checkpoint of FailSafe-VLM with failsafe-vlm.json"):
        load_model(named(server, card=card / "nowhere"))


@pytest.mark.slow
def test_a_served_model_is_calibrated_and_evaluated(card, tmp_path):
    failing = []
    with Server(lambda request: completion(TEXT, tokens(*failing))) as server:
        monitor, thresholds = named(server, card=card), tmp_path / "thresholds.json"
        failing[:] = (TEXT, 0.1, 0.8)
        words = ("--seeds", "3:4", "--max-steps", "140", "--alpha", "0.5")
        failsafe("calibrate", monitor, *EPISODES, "--out", str(thresholds), *words)
        found = read_calibration(thresholds)
        assert (found.model, found.weights) == (monitor, f"failsafe-vlm at {server.url}")
        assert [threshold.episodes for threshold in found.thresholds.values()] == [1]
        failing[:] = (TEXT, 0.8, 0.1)
        words = ("--calibration", str(thresholds), "--seeds", "1:2", "--max-steps", "60")
        results = evaluate(monitor, tmp_path / "results", *words)
        asked = len(server.requests)
    assert results.manifest.config.weights == f"failsafe-vlm at {server.url}"
    (episode,) = [e for e in results.episodes() if e.key.condition == "monitor"]
    kinds = {event.kind for event in episode.events}
    assert {EventKind.QUERY, EventKind.ALARM, EventKind.TAKE_OVER} <= kinds
    assert asked > 10


@pytest.mark.slow
def test_a_served_checkpoint_guards_as_it_does_in_process(trained, tmp_path):
    """The same episodes, step by step, with the tiny checkpoint in the process and behind a server."""
    folder = shutil.copytree(trained, tmp_path / "vlm", ignore=shutil.ignore_patterns("checkpoint-*"))
    write_card(folder, dataclasses.replace(read_card(folder), instructions=()))
    parts = (
        checkpoint.load_processor(str(folder)),
        checkpoint.load_model(str(folder), torch.float32).eval(),
    )

    def reply(request):
        images, words = images_of(request)
        content = [*[{"type": "image"}] * len(images), {"type": "text", "text": words}]
        asked = [{"role": "user", "content": content}]
        text = parts[0].apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        told = spell(parts, images, text)
        return completion("".join(token for token, _, _ in told[:-1]), told)

    words = ("--threshold", "0", "--seeds", "0:2", "--max-steps", "20", "--deadline", "60")
    inside = evaluate(str(folder), tmp_path / "inside", *words)
    with Server(reply) as server:
        served = evaluate(named(server, card=folder), tmp_path / "served", *words)
        asked = len(server.requests)
    assert asked > 3
    for one, other in zip(inside.episodes(), served.episodes(), strict=True):
        assert one.key == other.key
        assert (one.steps, one.success, len(one.events)) == (other.steps, other.success, len(other.events))
        for a, b in zip(one.events, other.events, strict=True):
            assert (a.kind, a.step) == (b.kind, b.step)


@pytest.mark.slow
def test_a_served_model_guards_behind_the_proxy(card):
    with (
        Server(lambda request: completion(TEXT, tokens(yes=0.99, no=0.001))) as server,
        WebsocketServer(lambda observation: {"actions": ACTIONS}) as upstream,
    ):
        command = [sys.executable, "-m", "failsafe", "serve", "--monitor", named(server, card=card), "--json"]
        words = ("--upstream", upstream.url, "--listen", "127.0.0.1:0", "--threshold", "3")
        process = subprocess.Popen(
            [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            said = ""
            while not said.endswith("}\n"):
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                said += line
            with connect(json.loads(said)["listening"], compression=None, proxy=None) as client:
                client.recv(timeout=5)
                replies = []
                for _ in range(4):
                    client.send(request())
                    replies.append(client.recv(timeout=30))
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert json.loads(said)["monitor"] == "failsafe-vlm"
    assert replies[0] == answer()
    assert "take_over" in err
    assert (unpack(replies[-1])["actions"] != ACTIONS).any()


@pytest.mark.slow
def test_a_class_of_ones_own_guards(tmp_path):
    monitor = "tests.evaluation.toy_study:TinyMonitor"
    results = evaluate(monitor, tmp_path, "--threshold", "0", "--seeds", "0:1", "--max-steps", "140")
    (episode,) = [e for e in results.episodes() if e.key.condition == "monitor"]
    assert episode.success
    assert EventKind.TAKE_OVER in {event.kind for event in episode.events}
    assert len(results.manifest.config.weights) == 64
