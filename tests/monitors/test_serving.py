"""A served monitor: what it says of its thresholds, and what clients can make it say and keep."""

from __future__ import annotations

import threading
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.monitors.openpi_client import ACTIONS, INSTRUCTION, Model, alarmed, answer, request
from tests.policies import libero_evaluations as reference
from tests.policies.websocket_server import WebsocketServer, pack, unpack
from websockets.sync.client import connect

from failsafe.errors import UserError
from failsafe.monitors import serving
from failsafe.monitors.calibration import Calibration, Threshold
from failsafe.monitors.hand_back import HandBackModel
from failsafe.monitors.requests import Wire, guard_clients
from failsafe.monitors.serving import make_service
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.served import fit
from failsafe.records.assessment import Assessment, WindowSpec
from failsafe.records.event import EventKind


def calibration(**thresholds: float | None) -> Calibration:
    found = {name: Threshold(value, 40) for name, value in thresholds.items()}
    return Calibration(0.05, "made up", "openpi", 2.0, found)


class Knows(Model):
    """States the instructions that it was trained on."""

    class meta:
        instructions = ("lift", "stack")


STATED = "pick the alphabet soup and place it in the basket"
SENTENCE = "pick up the alphabet soup and place it in the basket"


class LiberoModel(Model):
    """Was trained on a task of LIBERO."""

    window_spec = WindowSpec(views=("front", "hand"), history=4, frames=2, size=224)

    class meta:
        instructions = (STATED,)


@pytest.mark.parametrize(
    ("given", "alarms", "warnings"),
    [
        ({"threshold": 5.0}, "alarms above 5", []),
        ({}, "only observes", ["there are no thresholds, so the monitor only observes: "]),
        (
            {"calibration": calibration(lift=4.25, stack=None)},
            "alarms above 4.25",
            ["no threshold for 'stack': the monitor only observes"],
        ),
        ({"calibration": calibration(lift=4.25, stack=7.0)}, "alarms above 4.25 to 7", []),
        (
            {"calibration": calibration(push=1.0)},
            "only observes",
            ["no threshold for 'lift'", "no threshold for 'stack'"],
        ),
    ],
)
def test_it_says_where_it_alarms(given: dict[str, Any], alarms: str, warnings: list[str]) -> None:
    said: list[str] = []
    service = make_service("ws://127.0.0.1:9", Knows(), port=0, on_warning=said.append, **given)
    service.proxy.stop()
    assert (service.alarms, service.instructions) == (alarms, ("lift", "stack"))
    assert len(said) == len(warnings)
    assert all(line.startswith(start) for line, start in zip(sorted(said), sorted(warnings), strict=True))


def test_clients_are_handed_back_as_the_options_say(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[MonitorSettings] = []
    keep = serving.guard_clients

    def guard(model: Any, limit: Any, settings: MonitorSettings, *others: Any) -> Any:
        used.append(settings)
        return keep(model, limit, settings, *others)

    monkeypatch.setattr(serving, "guard_clients", guard)
    learned = HandBackModel({"lift": 0.0}, {}, -1.0, 0.0, 30, 10)
    found = replace(calibration(lift=4.25, stack=1.0), hand_back=learned)
    for given in ({"learned_hand_back": True}, {"retry": True}):
        make_service("ws://127.0.0.1:9", Knows(), port=0, calibration=found, **given).proxy.stop()
    assert [settings.hand_back for settings in used] == [learned, None]
    assert [settings.retry_after for settings in used] == [None, 1]


@pytest.mark.parametrize("given", [{"calibration": calibration(lift=4.25)}, {"threshold": 5.0}, {}])
def test_a_hand_back_model_that_is_not_there_is_one_sentence(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="a hand-back model, and no threshold in its place, got none"):
        make_service("ws://127.0.0.1:9", Knows(), port=0, learned_hand_back=True, **given)


def test_instructions_of_clients_are_cut_and_few_are_named() -> None:
    said: list[str] = []
    threshold = serving._WarnWhereMissing(calibration(lift=1.0), said.append)
    for _ in range(2):
        for number in range(1000):
            assert threshold(f"{number} " + "x" * 5000) == float("inf")
    assert threshold("lift") == 1.0
    assert len(said) == 33
    assert all(len(line) < 200 for line in said)
    assert "more instructions without a threshold" in said[-1]


def test_long_prompts_are_not_kept() -> None:
    """40 prompts of 2 MB each, as a client sends them; the policy still gets every request."""
    said: list[str] = []
    events: list[Any] = []
    threshold = serving._WarnWhereMissing(calibration(lift=1.0), said.append)
    make = guard_clients(
        alarmed(), threshold, MonitorSettings(), Wire(), lambda number, event: events.append(event)
    )
    guard = make(1)
    tracemalloc.start()
    try:
        for number in range(40):
            guard.on_request(request(prompt=f"{number} \x1b[2J" + "x" * 2_000_000))
            assert guard.on_answer(answer()) == answer()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 3_000_000
    assert said == []
    assert {event.kind for event in events} == {EventKind.FAULT}
    assert "expected at most 10000 characters under 'prompt', got 20000" in events[0].description


def test_an_episode_of_days_keeps_its_last_events() -> None:
    guard = guard_clients(Model(), 0.5, MonitorSettings(), Wire(), lambda number, event: None)(1)
    for shade in range(300):
        guard.on_request(request(prompt=INSTRUCTION, shade=shade % 200))
        guard.on_answer(answer())
    assert 100 <= len(guard._monitor.events) < 110


def test_the_preset_for_libero_needs_the_base() -> None:
    with pytest.raises(UserError, match=r"it is -0\.66 0 0\.912 in libero_spatial and libero_goal"):
        make_service("ws://127.0.0.1:9?preset=libero", Model(), port=0)


def test_the_preset_for_libero_shows_the_monitor_the_scene_as_the_simulator_does() -> None:
    """The evaluation sends mirrored images, the world frame, and the sentence of the name of the file."""
    knows = LiberoModel(Assessment(failure_probability=0.9, actions=((0.02, *(0.0,) * 5, -1.0),)))
    found = reference.robosuite(quaternion=(1.0, 0.0, 0.0, 0.0))
    found["robot0_eef_pos"], base = np.array([-0.2, 0.1, 1.1]), (-0.66, 0.0, 0.912)
    answers: list[np.ndarray] = []
    with WebsocketServer(lambda observation: {"actions": ACTIONS}) as server:
        service = make_service(f"{server.url}?preset=libero", knows, port=0, threshold=0.0, base=base)
        ready = threading.Event()
        thread = threading.Thread(target=service.proxy.run, args=(ready.set,))
        thread.start()
        try:
            assert ready.wait(10)
            with connect(f"ws://127.0.0.1:{service.proxy.port}", compression=None, proxy=None) as client:
                client.recv(timeout=10)
                for step in range(12):
                    moved = {**found, "robot0_eef_pos": found["robot0_eef_pos"] + [0, 0, 1e-3 * step]}
                    client.send(pack(reference.openpi_request(moved, SENTENCE)))
                    answers.append(unpack(client.recv(timeout=10))["actions"])
        finally:
            service.proxy.stop()
            thread.join()
    assert service.instructions == (SENTENCE,)
    window = knows.windows[0]
    assert window.instruction == STATED
    for view, name in enumerate(("waves", "blocks")):
        upright = fit(reference.seen(name), 224)[:, ::-1]
        np.testing.assert_array_equal(window.frames[view, -1], upright)
    np.testing.assert_allclose(
        window.tcp_poses[0][:3] - found["robot0_eef_pos"], np.negative(base), atol=1e-3
    )
    assert window.gripper_widths[0] == pytest.approx(0.0391 + 0.0388, abs=1e-6)
    said, *_ = (rows for rows in answers if not np.array_equal(rows, ACTIONS))
    assert said.shape == ACTIONS.shape
    assert np.abs(said).max() <= 1.0
    assert said[:, 0].min() > 0
    assert (said[:, 6] == 1.0).all(), "LIBERO's number for a closed gripper"
