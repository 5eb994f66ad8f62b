"""What goes wrong with the monitor changes nothing; what goes wrong with the policy ends its episode."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluation import bench
from tests.evaluation.bench import Glance, Wanderer, play
from tests.policies.websocket_server import WebsocketServer, pack

from failsafe.evaluation.study import run_study
from failsafe.execution.processes import ProcessExecutor
from failsafe.monitors.budget import InterventionBudget
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.openpi import OpenpiPolicy
from failsafe.records.assessment import Assessment, Status
from failsafe.records.episode import Ending
from failsafe.records.event import EventKind
from failsafe.simulators.contract import Camera
from failsafe.simulators.toy import ToyPick

UP = (0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0)


def guard(model: Any, threshold: float = 0.5, **changes: Any) -> MonitoredPolicy:
    return MonitoredPolicy(Wanderer(), model, threshold, MonitorSettings(drift=0.0, **changes))


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    episode, states = play(Wanderer())
    assert (episode.ending, episode.steps, len(states)) == (Ending.FAILURE, bench.STEPS, bench.STEPS)
    return states


def test_the_measure_is_sharp(alone: np.ndarray) -> None:
    """A single action that is otherwise shows in the states."""

    class Nudged(Wanderer):
        def act(self, observation: Any) -> np.ndarray:
            rows = super().act(observation)
            rows[0, 0] += 1e-5 * (self.chunks == 3)
            return rows

    assert not np.array_equal(play(Nudged())[1], alone)
    np.testing.assert_array_equal(play(Wanderer())[1], alone)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Assessment(failure_probability=0.1), EventKind.QUERY),
        (RuntimeError("out of memory"), EventKind.FAULT),
        (Assessment(failure_probability=math.nan), EventKind.FAULT),
        (Assessment(failure_probability=0.9, actions=((math.nan,) * 7,)), EventKind.FAULT),
        (
            Assessment(failure_probability=0.9, actions=((0.0, 0.0, 0.0, 1e200, 0.0, 0.0, 1.0),)),
            EventKind.FAULT,
        ),
        (Assessment(status=Status.UNREADABLE, raw="well"), EventKind.UNREADABLE),
        ("not an assessment", EventKind.FAULT),
    ],
)
def test_a_model_that_goes_wrong_changes_nothing(alone: np.ndarray, answer: Any, kind: EventKind) -> None:
    model = Glance(answer)
    episode, states = play(guard(model))
    np.testing.assert_array_equal(states, alone)
    assert episode.ending is Ending.FAILURE
    assert model.asked >= 3
    assert {event.kind for event in episode.events} == {kind}
    assert len(episode.events) == model.asked


class Hangs(Glance):
    """Does not come back until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def assess(self, window: Any) -> Assessment:
        self.let_go.wait(30)
        return super().assess(window)


@pytest.fixture
def hanging() -> Iterator[Hangs]:
    model = Hangs()
    yield model
    model.let_go.set()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_model_that_hangs_changes_nothing(alone: np.ndarray, hanging: Hangs, asynchronous: bool) -> None:
    episode, states = play(guard(hanging, deadline=0.05, asynchronous=asynchronous))
    np.testing.assert_array_equal(states, alone)
    assert episode.ending is Ending.FAILURE
    assert episode.count(EventKind.LATE) <= 1
    assert episode.count(EventKind.FAULT) >= 2
    assert {event.kind for event in episode.events} <= {EventKind.LATE, EventKind.FAULT}
    if not asynchronous:
        assert episode.count(EventKind.LATE) == 1
        assert 0.01 < episode.monitor_seconds < 5


def test_an_action_of_a_kilometre_is_a_few_small_steps() -> None:
    far = Assessment(failure_probability=0.9, actions=((1000.0, 1000.0, 0.0, 0.0, 0.0, 0.0, 1.0),) * 3)
    simulator = ToyPick()
    episode, states = play(guard(Glance(far), budget=InterventionBudget(takeovers=1)), simulator)
    assert episode.ending is Ending.FAILURE
    assert episode.count(EventKind.TAKE_OVER) == 1
    jumps = np.linalg.norm(np.diff(states[:, :3], axis=0), axis=1)
    assert jumps.max() < 2 * simulator.spec.embodiment.max_translation


def test_a_take_over_begins_where_the_tool_is_and_hands_back() -> None:
    up = Assessment(failure_probability=0.9, actions=(UP,) * 4)
    episode, states = play(guard(Glance(up), budget=InterventionBudget(takeovers=1), max_corrections=1))
    (start,) = [event.step for event in episode.events if event.kind is EventKind.TAKE_OVER]
    (end,) = [event.step for event in episode.events if event.kind is EventKind.HAND_BACK]
    assert end == start + 4
    risen = states[end, 2] - states[start, 2]
    assert risen == pytest.approx(0.08, abs=0.02)


class Cameras(ToyPick):
    """Some cameras fail from a step on: they show nothing, or raise."""

    def __init__(self, names: Sequence[str], raises: bool) -> None:
        self.names, self.raises = names, raises
        super().__init__()

    def render(self, cameras: Sequence[Camera], size: int, state: Any = None) -> np.ndarray:
        images = super().render(cameras, size, state)
        for i, camera in enumerate(cameras):
            if camera.name in self.names:
                if self.raises:
                    raise OSError("no such device")
                images[i] = 0
        return images


def test_a_camera_of_the_monitors_that_goes_black_changes_nothing(alone: np.ndarray) -> None:
    seen: list[Any] = []
    model = Glance()
    model.assess = lambda window: seen.append(window) or Assessment(failure_probability=0.1)
    _, states = play(guard(model), Cameras(["hand"], raises=False))
    np.testing.assert_array_equal(states, alone)
    assert seen[0].frames[0].any()
    assert not seen[0].frames[1].any()


def test_a_camera_of_the_monitors_that_raises_is_a_fault(alone: np.ndarray) -> None:
    model = Glance()
    episode, states = play(guard(model), Cameras(["hand"], raises=True))
    np.testing.assert_array_equal(states, alone)
    assert episode.ending is Ending.FAILURE
    assert model.asked == 0
    assert {(e.kind, e.description) for e in episode.events} == {
        (EventKind.FAULT, "no window: OSError: no such device")
    }


@pytest.mark.parametrize("raises", [False, True])
def test_a_camera_of_the_policys_is_the_policys_affair(raises: bool) -> None:
    class TwoEyes(Wanderer):
        views = {"side": 16, "front": 16}  # noqa: RUF012 -- never changed

    (plain, before), (guarded, after) = (
        play(policy, Cameras(["front"], raises))
        for policy in (TwoEyes(), MonitoredPolicy(TwoEyes(), Glance()))
    )
    np.testing.assert_array_equal(before, after)
    assert plain.ending is guarded.ending is (Ending.POLICY_ERROR if raises else Ending.FAILURE)
    assert plain.description == ("wanderer raised OSError: no such device" if raises else "")


def test_a_policy_that_goes_wrong_or_dies_loses_its_own_episode_alone(tmp_path: Path) -> None:
    """One run of twelve seeds in processes of their own, on ten of which something else goes wrong."""
    study = bench.config(12, ("never",), policies=(bench.FAULTY,))
    done: list[int] = []
    results = run_study(study, tmp_path / "results", ProcessExecutor(1), lambda item: done.append(item.seed))
    assert sorted(done) == list(range(12))
    found = {episode.key.seed: episode for episode in results.episodes()}
    assert sorted(found) == list(range(12))
    assert {seed for seed, e in found.items() if e.ending is Ending.FAILURE} == set(bench.FINE_SEEDS)
    assert found[bench.DIES].ending is Ending.CRASHED
    assert found[bench.DIES].description == "the process died twice during this episode"
    assert (found[bench.DIVERGES].ending, found[bench.DIVERGES].description) == (
        Ending.DIVERGED,
        "the box is nowhere",
    )
    for seed, (_, description) in bench.FAULTS.items():
        assert found[seed].ending is Ending.POLICY_ERROR
        assert found[seed].description.startswith(description)
        assert found[seed].steps == 8, "two chunks of four"
    for seed in bench.FINE_SEEDS:
        assert found[seed].steps == 20


@pytest.mark.parametrize(
    ("faults", "description"),
    [
        (["drop"] * 9, "got no connection, or a dropped one"),
        (["CUDA out of memory"], "CUDA out of memory"),
        ([pack({"actions": np.zeros((10, 3), dtype=np.float32)})], "actions"),
        (["late"], "got nothing within 0.2 s"),
    ],
    ids=["drops the connection", "sends a text", "sends a chunk of the wrong shape", "answers too late"],
)
def test_a_server_that_goes_wrong_ends_its_episode_alike_with_the_monitor(
    faults: list[Any], description: str
) -> None:
    """It answers twice first: what is recorded is an episode that came so far."""
    endings: list[Any] = []
    for guarded in (False, True):
        with WebsocketServer(lambda observation: {"actions": np.full((10, 7), 1e-3, np.float32)}) as server:
            policy = OpenpiPolicy(server.url, timeout=0.2 if faults == ["late"] else 2.0, pause=0.01)
            answered = server.reply

            def reply(observation: Any, server: Any = server, answered: Any = answered) -> Any:
                if len(server.observations) == 2:
                    server.faults = list(faults)
                return answered(observation)

            server.reply = reply
            episode, states = play(MonitoredPolicy(policy, Glance()) if guarded else policy)
            policy.close()
            said = episode.description.replace(server.url, "URL")
        assert episode.ending is Ending.POLICY_ERROR
        assert description in episode.description
        endings.append((said, states))
    (said, alone), (said_too, under) = endings
    assert said == said_too
    assert len(alone) == 11, "two chunks of five, and the step at which the third was requested"
    np.testing.assert_array_equal(alone, under)


def test_a_policy_that_raises_in_reset_loses_its_own_episode_alone() -> None:
    class Shy(Wanderer):
        def reset(self, instruction: str) -> None:
            raise KeyError(instruction)

    for policy in (Shy(), MonitoredPolicy(Shy(), Glance())):
        episode, states = play(policy)
        assert episode.ending is Ending.POLICY_ERROR
        assert "raised KeyError" in episode.description
        assert len(states) == 0
