import threading

import numpy as np
import pytest
from tests.monitors.openpi_client import (
    ACTIONS,
    AT,
    INSTRUCTION,
    Model,
    alarmed,
    answer,
    calm,
    hanging,
    not_a_number,
    raising,
    request,
)
from tests.policies.websocket_server import pack, unpack

from failsafe.errors import UserError
from failsafe.monitors.requests import Wire, between, guard_clients
from failsafe.monitors.settings import MonitorSettings
from failsafe.monitors.timing import QueryTiming
from failsafe.policies.contract import ActionSpace
from failsafe.policies.served import LIBERO, libero_state, observe_libero_state
from failsafe.records.assessment import Assessment
from failsafe.records.embodiment import LIBERO_PANDA
from failsafe.records.event import EventKind

ROW = [0.4, 0, 0, 0, 0, 0.2, -1]
"""`STEP` in LIBERO's numbers: 20 of 50 mm, 0.1 of 0.5 rad, and -1 opens."""
STAY = [0, 0, 0, 0, 0, 0, -1]


class Guarded:
    """One client's guard, its events, and its answers to requests."""

    def __init__(self, model, wire=None, **settings):
        self.events = []
        made = MonitorSettings(
            **{"drift": 0.0, "cool_down_seconds": 0.0, "max_corrections": 1, "deadline": 5.0, **settings}
        )
        make = guard_clients(model, 0.5, made, wire or Wire(), lambda n, event: self.events.append(event))
        self.guard = make(1)

    def ask(self, asked, reply=None):
        self.guard.on_request(asked)
        return self.guard.on_answer(answer() if reply is None else reply)

    def rows(self, asked, reply=None):
        return unpack(self.ask(asked, reply))["actions"]

    @property
    def kinds(self):
        return [event.kind for event in self.events]

    def faults(self):
        return [event.description for event in self.events if event.kind is EventKind.FAULT]


def test_a_calm_model_leaves_every_byte():
    guarded = Guarded(model := calm())
    for shade in range(5):
        assert guarded.ask(request(shade=shade)) == answer()
    assert set(guarded.kinds) == {EventKind.QUERY}
    # The first request is step 0, each other 5 more; a tool that stalls is assessed at the shortest interval.
    assert [event.step for event in guarded.events] == [5, 10, 15, 20]
    assert {window.instruction for window in model.windows} == {INSTRUCTION}


def test_the_window_between_two_requests():
    guarded = Guarded(model := calm())
    guarded.ask(request((0.50, 0.1, 0.3), width=0.08, shade=10))
    guarded.ask(request((0.55, 0.1, 0.3), turn=0.5, width=0.03, shade=200))
    guarded.ask(request((0.60, 0.1, 0.3), turn=1.0, width=0.03, shade=90))
    (window,) = model.windows  # moving, so that the query comes after 10 steps: at the third request
    np.testing.assert_allclose(window.tcp_poses[:, 0], [0.56, 0.57, 0.58, 0.59, 0.60], atol=1e-6)
    np.testing.assert_allclose(window.gripper_widths, 0.03, atol=1e-6)
    half = np.cos(0.5 * np.array([0.6, 0.7, 0.8, 0.9, 1.0]))  # slerp about z, from a tool that points down
    np.testing.assert_allclose(np.abs(window.tcp_poses[:, 4]), half, atol=1e-6)
    # Front images: 4 steps before the last is nearer to the second request. No image shows the side.
    assert [int(frame.max()) for frame in window.frames[0]] == [200, 90]
    assert not window.frames[1].any()


def test_observations_between():
    guarded = Guarded(calm())
    _, first = guarded.guard._parse(request((0.50, 0.0, 0.3), width=0.08, shade=1))
    _, last = guarded.guard._parse(request((0.55, 0.0, 0.3), width=0.03, shade=2))
    observations = between(first, last, 5)
    np.testing.assert_allclose([o.tcp_pose[0] for o in observations], [0.51, 0.52, 0.53, 0.54, 0.55])
    np.testing.assert_allclose([o.gripper_width for o in observations], [0.07, 0.06, 0.05, 0.04, 0.03])
    assert [int(o.images["front"].max()) for o in observations] == [1, 1, 2, 2, 2]
    assert between(first, last, 0) == []
    assert between(first, last, 1) == [last]


def test_the_state_and_its_inverse():
    _, seen = Guarded(calm()).guard._parse(request(AT, turn=0.7, width=0.05))
    pose, width = observe_libero_state(libero_state(seen))
    np.testing.assert_allclose(pose, seen.tcp_pose, atol=1e-12)
    assert width == pytest.approx(0.05) == pytest.approx(seen.gripper_width)


def test_a_correction_takes_the_place_of_the_actions():
    guarded = Guarded(alarmed(8), cool_down_seconds=0.5)
    assert guarded.ask(request()) == answer()
    reply = unpack(guarded.ask(request()))
    assert reply["server_timing"] == {"infer_ms": 1.5}
    assert reply["actions"].dtype == np.float32
    np.testing.assert_allclose(reply["actions"], [ROW] * 8 + [STAY] * 2, atol=1e-6)
    assert EventKind.HAND_BACK not in guarded.kinds
    # Five of the eight have been executed: 0.1 m and 0.5 rad. The rest follows, and then the policy again.
    rows = guarded.rows(request((0.6, 0.1, 0.3), turn=0.5))
    np.testing.assert_allclose(rows, [ROW] * 3 + [STAY] * 7, atol=1e-6)
    assert guarded.ask(request((0.66, 0.1, 0.3), turn=0.8)) == answer()
    assert guarded.kinds[-1] is EventKind.HAND_BACK
    assert guarded.events[-1].step == guarded.guard._monitor.step == 15


def test_a_tool_that_lags_is_corrected_within_the_limits():
    guarded = Guarded(alarmed(8))
    guarded.ask(request())
    guarded.ask(request())
    rows = guarded.rows(request())  # it has not moved at all
    assert np.abs(rows[:, :3]).max() == pytest.approx(0.5)  # 25 of 50 mm
    assert rows[:, 0].sum() * 0.05 == pytest.approx(0.16, abs=1e-6)  # all the way, with the rows of padding
    assert rows[:, 5].sum() * 0.5 == pytest.approx(0.8, abs=1e-6)


def test_actions_that_count_from_the_last_target():
    space = ActionSpace(chunk=2)
    guarded = Guarded(alarmed(3), Wire(space), timing=QueryTiming(interval=0.3))
    policy = answer(np.tile(np.array([0.01, 0, 0, 0, 0, 0, -1.0]), (4, 1)))
    guarded.ask(request(), policy)
    # Each two rows ask for 20 mm along x, and the tool lags by 15. The model is queried after 6 steps.
    guarded.ask(request((0.505, 0.1, 0.3)), policy)
    guarded.ask(request((0.525, 0.1, 0.3)), policy)
    rows = guarded.rows(request((0.545, 0.1, 0.3)), policy)
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows[0, :3], [0.545 + 0.02 - 0.56, 0, 0], atol=1e-9)
    np.testing.assert_allclose(rows[1:, 0], [0.02, 0.02, 0], atol=1e-9)
    # Its own rows count from now on.
    rows = guarded.rows(request((0.57, 0.1, 0.3), turn=0.2), policy)
    np.testing.assert_allclose(rows, [[0.02, 0, 0, 0, 0, 0.1, 1]] + [[0, 0, 0, 0, 0, 0, 1]] * 3, atol=1e-9)


@pytest.mark.parametrize(
    "another",
    [request(prompt="stack the cubes"), request((0.5, 0.1, 0.451))],
    ids=["another prompt", "a jump"],
)
def test_another_episode(another):
    guarded = Guarded(alarmed(20))
    guarded.ask(request())
    assert guarded.ask(request()) != answer()
    assert guarded.ask(another) == answer()
    assert guarded.guard._monitor.step == 0
    assert guarded.guard._monitor.events == []


def test_an_arm_that_lags_cannot_jump_as_far_as_its_commands():
    """LIBERO's robot is told to move by up to 87 mm in a control step, and gets 22 mm far."""
    guarded = Guarded(calm(), Wire(embodiment=LIBERO_PANDA))
    guarded.ask(request())
    guarded.ask(request((0.5, 0.1, 0.42)))
    assert guarded.guard._monitor.step == 5
    guarded.ask(request((0.5, 0.1, 0.56)))
    assert guarded.guard._monitor.step == 0


def test_a_move_is_no_jump():
    guarded = Guarded(calm())
    guarded.ask(request())
    guarded.ask(request((0.5, 0.1, 0.449)))
    assert guarded.guard._monitor.step == 5


BAD_REQUESTS = {
    "text": "please",
    "no MessagePack": b"\xc1",
    "no map": pack([1, 2]),
    "no prompt": request(prompt=None),
    "no string": request(prompt=7),
    "no state": request(**{"observation/state": None}),
    "a short state": request(**{"observation/state": np.zeros(7)}),
    "NaN": request((0.5, np.nan, 0.3)),
    "a string for a state": request(**{"observation/state": "here"}),
    "no image": request(**{"observation/image": None}),
    "floats": request(**{"observation/image": np.zeros((8, 8, 3))}),
    "pickle": pack({**unpack(request()), "prompt": {b"__ndarray__": True, b"data": b"x", b"dtype": "O"}}),
}


@pytest.mark.parametrize("bad", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_requests_that_cannot_be_read(bad):
    guarded = Guarded(alarmed(20))
    guarded.ask(request())
    assert guarded.ask(bad) == answer()
    assert len(guarded.faults()) == 1
    assert guarded.faults()[0].startswith("request: ")
    # The steps of both answers have passed by the next request, at which the model is queried.
    assert guarded.ask(request()) != answer()
    assert guarded.guard._monitor.step == 10
    # Inside a correction it ends the correction.
    assert guarded.ask(bad) == answer()
    assert guarded.kinds[-2:] == [EventKind.FAULT, EventKind.HAND_BACK]


BAD_ANSWERS = {
    "no MessagePack": b"\xc1",
    "no map": pack(3),
    "no actions": pack({"__ack__": "episode_start"}),
    "one row": answer(np.zeros(7)),
    "eight columns": answer(np.zeros((10, 8))),
    "no rows": answer(np.zeros((0, 7))),
    "too many rows": answer(np.zeros((65, 7))),
    "NaN": answer(np.full((10, 7), np.nan)),
    "whole numbers": answer(np.zeros((10, 7), dtype=np.int64)),
    "a list": answer([[0.0] * 7]),
}


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_answers_that_cannot_be_read(bad):
    guarded = Guarded(alarmed(20))
    guarded.ask(request())
    assert guarded.ask(request(), bad) == bad
    assert guarded.kinds[-3:] == [EventKind.TAKE_OVER, EventKind.FAULT, EventKind.HAND_BACK]
    assert guarded.faults()[0].startswith("answer: ")


@pytest.mark.parametrize("model", [raising(), not_a_number()], ids=["raises", "NaN"])
def test_a_model_that_fails(model: Model):
    guarded = Guarded(model)
    for _ in range(3):
        assert guarded.ask(request()) == answer()
    assert guarded.kinds == [EventKind.FAULT] * 2


def test_a_model_that_hangs():
    over = threading.Event()
    guarded = Guarded(hanging(over), deadline=0.1)
    for _ in range(3):
        assert guarded.ask(request()) == answer()
    over.set()
    assert guarded.kinds == [EventKind.LATE, EventKind.FAULT]


def test_a_monitor_that_breaks(monkeypatch):
    guarded = Guarded(alarmed())
    monkeypatch.setattr(guarded.guard._monitor, "decide", lambda _: 1 / 0)
    assert guarded.ask(request()) == answer()
    assert guarded.faults() == ["request: ZeroDivisionError: division by zero"]


def test_a_tool_outside_the_workspace_is_not_corrected():
    guarded = Guarded(alarmed())
    guarded.ask(request((-0.1, 0.1, 1.2)))  # LIBERO's own positions count from the world's origin
    assert guarded.ask(request((-0.1, 0.1, 1.2))) == answer()
    assert "is this the robot's base frame?" in guarded.faults()[0]
    moved = Guarded(alarmed(), Wire(base=(-0.6, 0.0, 0.9)))
    moved.ask(request((-0.1, 0.1, 1.2)))
    np.testing.assert_allclose(moved.rows(request((-0.1, 0.1, 1.2)))[0], ROW, atol=1e-6)


def test_short_chunks():
    guarded = Guarded(alarmed(8), Wire(LIBERO))
    short = answer(ACTIONS[:3])
    for _ in range(2):
        guarded.ask(request(), short)
    assert guarded.guard._monitor.step == 3  # three rows are all that can be executed
    guarded.ask(request(), short)
    assert guarded.rows(request(), short).shape == (3, 7)
    assert guarded.guard._monitor.step == 9


def test_the_model_is_queried_by_one_client_at_a_time():
    inside, most = [], []

    def first():
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.05)
        inside.pop()

    make = guard_clients(
        Model(Assessment(), first), 0.5, MonitorSettings(), Wire(), lambda number, event: None
    )
    guards = [make(number) for number in (1, 2, 3)]

    def run(guard):
        for _ in range(3):
            guard.on_request(request())
            guard.on_answer(answer())

    threads = [threading.Thread(target=run, args=(guard,)) for guard in guards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_a_wrong_wire_is_refused():
    with pytest.raises(UserError, match="each show another view"):
        Wire(image_views={"a": "front", "b": "front"})
    with pytest.raises(UserError, match="each show another view"):
        Wire(image_views={})
    with pytest.raises(UserError, match="finite position"):
        Wire(base=(0.0, float("inf"), 0.0))
    assert Wire().missing_views(Model.window_spec) == ("side",)
