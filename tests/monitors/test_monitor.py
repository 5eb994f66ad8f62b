"""When the monitor raises an alarm, takes over and gives up; its waypoints; and faults of the model."""

import itertools
import time
from dataclasses import replace

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.monitors.scripted import (
    DOWN,
    EVERY,
    FINE,
    FIRST,
    PATIENCE,
    UP,
    BlockingModel,
    Images,
    ScriptedModel,
    descriptions_of,
    failing,
    make_monitor,
    observation,
    play,
    seconds,
    settings,
    steps_of,
)

from failsafe.monitors.budget import NO_LIMIT
from failsafe.monitors.hand_back import HandBackModel
from failsafe.monitors.timing import QueryTiming
from failsafe.monitors.waypoints import waypoints
from failsafe.policies.contract import Frame
from failsafe.records import poses
from failsafe.records.assessment import Assessment, Status
from failsafe.records.embodiment import MANISKILL_PANDA
from failsafe.records.event import EventKind

MAX_TRANSLATION, MAX_ROTATION = MANISKILL_PANDA.step_limits

QUERY, ALARM, TAKE_OVER, HAND_BACK = (
    EventKind.QUERY,
    EventKind.ALARM,
    EventKind.TAKE_OVER,
    EventKind.HAND_BACK,
)


def query_with(probabilities, threshold=0.5, **changes):
    monitor = make_monitor(
        ScriptedModel(*(failing(p) for p in probabilities)), threshold, settings(**changes)
    )
    play(monitor, EVERY * (len(probabilities) + 1))
    return monitor


# ------------------------------------------------------------------ alarms


def test_it_queries_once_the_history_is_full_and_then_at_the_interval():
    monitor = query_with([0.1] * 4)
    assert steps_of(monitor, QUERY) == [FIRST, FIRST + EVERY, FIRST + 2 * EVERY, FIRST + 3 * EVERY]
    assert monitor.model.asked == 4


def test_it_queries_sooner_if_the_tool_has_stalled():
    monitor = make_monitor(
        ScriptedModel(FINE),
        0.5,
        settings(timing=QueryTiming(interval=seconds(4 * EVERY), min_interval=seconds(EVERY))),
    )
    stop = FIRST + 10 * EVERY
    play(monitor, stop + 12 * EVERY, lambda step: observation(step, [0.5, 0.01 * min(step, stop), 0.3]))
    queries = steps_of(monitor, QUERY)
    apart = {True: set(), False: set()}
    for before, after in itertools.pairwise(queries):
        apart[before > stop + monitor.model.window_spec.history].add(after - before)
    assert queries[1] - queries[0] == 4 * EVERY, "while it moves"
    assert apart[True] == {EVERY}, "once it stands still"


@pytest.mark.parametrize(
    ("probabilities", "drift", "threshold", "alarms"),
    [
        ([0.9], 0.0, 2.19, [0]),  # log(0.9 / 0.1) = 2.197
        ([0.9], 0.0, 2.20, []),
        ([0.5], 0.0, 0.0, []),  # at the threshold is not above it
        ([0.9, 0.9, 0.9], 0.0, 6.5, [2]),
        ([0.9, 0.1, 0.9], 0.0, 2.5, []),  # a failure, then none
        ([0.1, 0.1, 0.1, 0.9], 0.0, 2.1, [3]),  # the score never goes below zero
        ([0.95] * 4, 2.0, 3.7, [3]),  # log(0.95 / 0.05) = 2.944, less 2 each
        ([0.88] * 40, 2.0, 0.0, []),  # log(0.88 / 0.12) = 1.992: never enough
        ([0.89] * 10, 2.0, 0.85, [9]),  # log(0.89 / 0.11) = 2.091: in the end
        ([1.0], 0.0, 6.91, []),  # probabilities are clipped to 0.999
        ([1.0], 0.0, 6.90, [0]),
    ],
)
def test_an_alarm_needs_looks_that_add_up_to_more_than_the_threshold(probabilities, drift, threshold, alarms):
    monitor = query_with(probabilities, threshold, drift=drift)
    assert steps_of(monitor, ALARM) == [FIRST + EVERY * query for query in alarms]
    assert steps_of(monitor, TAKE_OVER) == steps_of(monitor, ALARM)


def test_an_alarm_resets_the_score_even_without_a_correction():
    monitor = make_monitor(
        ScriptedModel(failing(0.99, actions=()), failing(0.6), failing(0.9)), 1.0, settings()
    )
    play(monitor, FIRST + 2 * EVERY + 1)
    assert [event.score for event in monitor.events if event.kind is QUERY] == [4.59512, 0.405465, 2.602690]
    assert steps_of(monitor, ALARM) == [FIRST, FIRST + 2 * EVERY]
    assert steps_of(monitor, TAKE_OVER) == [FIRST + 2 * EVERY]


@pytest.mark.parametrize("queries", range(1, 8))
def test_an_episode_does_not_exceed_a_threshold_that_was_taken_from_it(queries):
    watched = query_with([1.0] * queries, np.inf, drift=2.0)
    top = max(event.score for event in watched.events if event.kind is QUERY)
    again = query_with([1.0] * queries, top, drift=2.0)
    assert steps_of(again, ALARM) == []


@pytest.mark.parametrize(("again", "queries"), [(4.0, 2), (20.0, 4)])
def test_another_alarm_in_an_episode_needs_less(again, queries):
    monitor = make_monitor(ScriptedModel(failing()), 8.0, settings(repeat_threshold=again))
    play(monitor, FIRST + 10 * EVERY)
    first, second = steps_of(monitor, TAKE_OVER)[:2]
    assert first == FIRST + 3 * EVERY, "four queries of 2.197 each"
    assert second == steps_of(monitor, HAND_BACK)[0] + queries * EVERY
    monitor.reset("lift")
    play(monitor, FIRST + 2 * EVERY)
    assert steps_of(monitor, ALARM) == [], "another episode, another first alarm"


def test_queries_within_the_cool_down_do_not_count():
    monitor = make_monitor(ScriptedModel(failing()), 3.0, settings(cool_down_seconds=seconds(EVERY + 1)))
    play(monitor, FIRST + 5 * EVERY)
    back = steps_of(monitor, HAND_BACK)[0]
    queries = [(e.step, e.score) for e in monitor.events if e.kind is QUERY and e.step > back]
    assert queries[:3] == [(back + EVERY, None), (back + 2 * EVERY, 2.197225), (back + 3 * EVERY, 4.394449)]
    assert steps_of(monitor, TAKE_OVER)[1] == back + 3 * EVERY


def test_events_have_the_assessment():
    monitor = query_with([0.8, 0.6], 1.5)
    first, second, alarm, take_over, hand_back = monitor.events
    assert [(e.score, e.probability, e.threshold) for e in (first, second)] == [
        (1.386294, 0.8, 1.5),  # log 4
        (1.791759, 0.6, 1.5),  # log 4 + log 1.5
    ]
    assert (alarm.kind, alarm.mode, alarm.score) == (ALARM, "slip", 1.791759)
    assert (take_over.kind, take_over.actions, take_over.step) == (TAKE_OVER, 2, FIRST + EVERY)
    assert (hand_back.kind, hand_back.step) == (HAND_BACK, FIRST + EVERY + 2)


def test_the_threshold_may_depend_on_the_instruction():
    monitor = make_monitor(ScriptedModel(failing(0.6)), {"lift": 0.4, "push": 0.5}.get, settings(takeovers=1))
    for instruction, alarms in (("push", 0), ("lift", 1)):
        monitor.reset(instruction)
        play(monitor, FIRST + 1)
        assert len(steps_of(monitor, ALARM)) == alarms


def test_an_infinite_threshold_never_raises_an_alarm():
    monitor = query_with([1.0] * 5, np.inf)
    assert steps_of(monitor, ALARM) == []
    assert {event.threshold for event in monitor.events} == {None}


def test_reset_starts_from_scratch():
    monitor = make_monitor(ScriptedModel(failing()), 3.0, settings(takeovers=1))
    play(monitor, 40)
    assert monitor.needs_help
    monitor.reset("lift")
    assert (monitor.events, monitor.step, monitor.needs_help, monitor.blocking_latency) == (
        [],
        -1,
        False,
        0.0,
    )
    play(monitor, FIRST + 1)
    assert steps_of(monitor, ALARM) == [], "one query is not enough, whatever the last episode was"
    play(monitor, EVERY)
    assert steps_of(monitor, TAKE_OVER) == [FIRST + EVERY]


# ------------------------------------------------------------------ waypoints


def waypoints_of(assessment, place=(0.5, 0.0, 0.3), quaternion=DOWN, **changes):
    """The planned from a pose, and the pose."""
    start = poses.pose(place, quaternion)

    def see(step):
        seen = observation(step, place)
        seen.tcp_pose[:] = start
        seen.target_pose[:] = poses.pose([0.9, 0.5, 0.6], DOWN)  # differs from the measured pose
        return seen

    ways = play(make_monitor(ScriptedModel(assessment), 0.5, settings(**changes)), FIRST + 1, see)
    return next(iter(ways.values())), start


def test_a_correction_starts_at_the_measured_pose():
    step = (0.01, -0.005, 0.002, 0.0, 0.0, 0.1, -1.0)
    planned, start = waypoints_of(failing(actions=(step, UP)))
    np.testing.assert_allclose(planned[0], poses.apply_delta(start, step[:6]))
    np.testing.assert_allclose(planned[1], poses.apply_delta(planned[0], UP[:6]))


def test_a_correction_in_the_tool_frame_is_rotated():
    # A tool that points down has its z axis downwards and its y axis to the robot's -y.
    step = (0.01, 0.005, 0.02, 0.0, 0.0, 0.1, 1.0)
    planned, start = waypoints_of(failing(actions=(step,), frame="tcp"))
    np.testing.assert_allclose(planned[0], poses.apply_delta(start, (0.01, -0.005, -0.02, 0.0, 0.0, -0.1)))


def test_assisting_takes_as_long_as_the_settings_say():
    assessment, well = failing(actions=(UP,) * 3), Assessment(failure_probability=0.1, continuation=(UP,) * 5)
    for wanted, lengths in (
        ({"assist": True, "assist_seconds": seconds(72)}, [3, 5]),
        ({"assist": True, "assist_seconds": seconds(2)}, [3, 2]),
        ({"assist_seconds": seconds(72), "max_actions": 2}, [2]),
    ):
        monitor = make_monitor(ScriptedModel(assessment, well, FINE), 0.5, settings(**wanted))
        assert [len(planned) for planned in play(monitor, FIRST + 1).values()] == lengths


def test_a_correction_that_was_not_enough_is_followed_by_another():
    first, second = (
        failing(actions=(UP,) * 3, continuation=(UP,) * 9),
        failing(actions=(UP,), continuation=(UP,) * 9),
    )
    well = Assessment(failure_probability=0.1, continuation=(UP,) * 4)
    monitor = make_monitor(
        ScriptedModel(first, second, well, FINE),
        0.5,
        settings(max_corrections=3, assist=True, assist_seconds=seconds(72)),
    )
    ways = play(monitor, FIRST + 1)
    # Two corrections, then the expert's next actions.
    assert [len(planned) for planned in ways.values()] == [3, 1, 4]
    assert steps_of(monitor, EventKind.TAKE_OVER) == [FIRST]
    assert steps_of(monitor, EventKind.AGAIN) == [FIRST + 3]
    assert steps_of(monitor, EventKind.HAND_BACK) == [FIRST + 8]
    assert steps_of(monitor, QUERY) == [FIRST, FIRST + 3, FIRST + 4, FIRST + 8]


def test_it_continues_while_there_is_no_failure():
    well = Assessment(failure_probability=0.1, continuation=(UP,) * 4)
    monitor = make_monitor(
        ScriptedModel(failing(actions=(UP,) * 3), well),
        0.5,
        settings(assist=True, assist_seconds=seconds(10)),
    )
    assert [len(planned) for planned in play(monitor, FIRST + 1).values()] == [3, 4, 4, 2]
    assert steps_of(monitor, QUERY) == [FIRST, FIRST + 3, FIRST + 7, FIRST + 11]
    assert steps_of(monitor, HAND_BACK) == [FIRST + 13]
    assert monitor._assist_left == 0
    again = make_monitor(
        ScriptedModel(failing(actions=(UP,) * 3), well),
        0.5,
        settings(assist=True, assist_seconds=seconds(10), takeovers=1),
    )
    play(again, FIRST + 1)
    assert steps_of(again, TAKE_OVER) == [FIRST]


def test_it_goes_on_for_as_long_as_the_budget_allows_once_corrections_were_undone():
    class Undone(ScriptedModel):
        """Sees a failure whenever the policy acts, and none once it is corrected."""

        def assess(self, window):
            super().assess(window)
            well = Assessment(failure_probability=0.1, continuation=(UP,) * 4)
            return well if monitor.in_control else failing(actions=(UP,) * 3)

    def lengths(after, steps=400):
        nonlocal monitor
        limits = replace(NO_LIMIT, takeovers=4, consecutive_seconds=seconds(13))
        limits = replace(limits, share=steps / 400, episode_seconds=seconds(400))
        monitor = make_monitor(Undone(FINE), 0.5, settings(escalate_after=after, budget=limits))
        at = play(monitor, 120)
        starts = steps_of(monitor, TAKE_OVER)
        return [[len(at[step]) for step in at if sum(s <= step for s in starts) == n + 1] for n in range(4)]

    monitor = None
    assert lengths(None) == [[3]] * 4
    assert lengths(4) == [[3]] * 4
    assert lengths(2) == [[3], [3], [3, 4, 4, 2], [3, 4, 4, 2]]
    assert lengths(1) == [[3], [3, 4, 4, 2], [3, 4, 4, 2], [3, 4, 4, 2]]
    assert lengths(0) == [[3, 4, 4, 2]] * 4
    # Of 24 steps, 3 + 13 are spent before the third takeover, and nothing is left for a fourth.
    assert lengths(1, steps=24) == [[3], [3, 4, 4, 2], [3, 4, 1], []]


@pytest.mark.parametrize(
    ("instruction", "least", "lengths"),
    [
        # The policy is likely to succeed from "place" on, and less so after each takeover.
        ("lift", 0.5, [[3, 4, 4], [3, 4, 4], [3, 4, 4, 2]]),
        ("lift", 0.05, [[3], [3, 4, 4], [3, 4, 4]]),
        ("lift", 0.0, [[3], [3], [3]]),
        ("lift", 1.0, [[3, 4, 4, 2]] * 3),
        ("another", 0.5, [[3], [3], [3]]),  # nothing is known about it
    ],
)
def test_it_hands_back_where_the_policy_is_likely_to_succeed(instruction, least, lengths):
    class Progress(ScriptedModel):
        """Sees a failure whenever the policy acts; in a takeover, "place" from its third query on."""

        looks = 0

        def assess(self, window):
            super().assess(window)
            self.looks = self.looks + 1 if monitor.in_control else 0
            stage = "place" if self.looks > 2 else "reach"
            well = Assessment(failure_probability=0.499999, stage=stage, continuation=(UP,) * 4)
            return well if monitor.in_control else failing(actions=(UP,) * 3)

    model = HandBackModel(
        {"lift": -2.5}, {"lift": {"place": 3.5}}, takeovers=-1.0, failing=0.3, hand_backs=9, successes=3
    )
    limits = replace(NO_LIMIT, takeovers=3, consecutive_seconds=seconds(13))
    monitor = make_monitor(
        Progress(FINE),
        0.5,
        settings(hand_back=model, hand_back_probability=least, budget=limits),
    )
    monitor.reset(instruction)
    at = play(monitor, 120)
    starts = steps_of(monitor, TAKE_OVER)
    assert [
        [len(at[step]) for step in at if sum(s <= step for s in starts) == n + 1] for n in range(3)
    ] == lengths


def test_a_failure_while_assisting_is_corrected_at_even_odds():
    well = Assessment(failure_probability=0.1, continuation=(UP,) * 4)
    sure, likely = failing(0.99, actions=(UP,) * 3), failing(0.6, actions=(UP,))
    monitor = make_monitor(
        ScriptedModel(sure, well, likely, well),
        0.95,
        settings(max_corrections=2, assist=True, assist_seconds=seconds(8)),
    )
    assert [len(planned) for planned in play(monitor, FIRST + 1).values()] == [3, 4, 1, 4]
    assert steps_of(monitor, EventKind.AGAIN) == [FIRST + 7]
    assert steps_of(monitor, HAND_BACK) == [FIRST + 12]


def test_a_takeover_has_at_most_max_corrections():
    monitor = make_monitor(
        ScriptedModel(failing(actions=(UP,))), 0.5, settings(max_corrections=3, takeovers=1)
    )
    ways = play(monitor, FIRST + 1)
    assert [len(planned) for planned in ways.values()] == [1, 1, 1]
    assert len(steps_of(monitor, EventKind.AGAIN)) == 2


@pytest.mark.parametrize(
    "answer", [FINE, failing(needs_help=True), failing(actions=()), RuntimeError("broken"), failing(0.4)]
)
def test_without_a_second_correction_the_takeover_ends(answer):
    first = failing(actions=(UP,) * 3, continuation=(UP,) * 2)
    monitor = make_monitor(
        ScriptedModel(first, answer, FINE),
        0.5,
        settings(max_corrections=3, assist=True, assist_seconds=seconds(72)),
    )
    assert [len(planned) for planned in play(monitor, FIRST + 1).values()] == [3]
    assert steps_of(monitor, EventKind.AGAIN) == []
    assert steps_of(monitor, EventKind.HAND_BACK) == [FIRST + 3]


def test_a_negligible_correction_is_not_repeated():
    """It has stood still, and queries as if it failed: a correction of nothing would be repeated for ever."""
    bit = (0.004, 0.0, 0.003, 0.0, 0.02, 0.0, 1.0)
    for rows, lengths in (
        ((bit,), [3, 4]),
        ((bit, bit), [3, 2]),  # ten millimetres are not negligible
        ((bit,) * 3, [3, 3]),  # nor are three steps, in which fingers open
        (((0.0, 0.0, 0.0, 0.0, 0.12, 0.0, 1.0),), [3, 1]),
    ):
        stuck = failing(actions=rows, continuation=(UP,) * 4)
        changes = settings(max_corrections=2, assist=True, assist_seconds=seconds(9))
        monitor = make_monitor(ScriptedModel(failing(actions=(UP,) * 3), stuck, FINE), 0.5, changes)
        assert [len(planned) for planned in play(monitor, FIRST + 1).values()] == lengths


NUMBERS = st.floats(-1e6, 1e6) | st.floats(-0.05, 0.05)


@hypothesis.settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(st.tuples(*[NUMBERS] * 7), min_size=1, max_size=6),
    place=st.tuples(st.floats(0.2, 0.9), st.floats(-0.55, 0.55), st.floats(0.01, 0.65)),
    frame=st.sampled_from(list(Frame)),
)
def test_every_waypoint_is_near_the_last_and_in_the_workspace(rows, place, frame):
    low, high = MANISKILL_PANDA.workspace_low, MANISKILL_PANDA.workspace_high
    at = poses.pose(place, DOWN)
    for waypoint in waypoints(rows, frame, at, MANISKILL_PANDA):
        metres, radians = poses.distance(at, waypoint.pose)
        assert metres <= MAX_TRANSLATION + 1e-9
        assert radians <= MAX_ROTATION + 1e-6
        assert (waypoint.pose[:3] >= np.array(low) - 1e-12).all()
        assert (waypoint.pose[:3] <= np.array(high) + 1e-12).all()
        assert -1 <= waypoint.gripper <= 1
        at = waypoint.pose


def test_a_kilometre_is_a_step_of_the_limit():
    planned, start = waypoints_of(failing(actions=((0.0, 1000.0, 0.0, 0.0, 0.0, 0.0, 50.0),) * 3))
    assert [pose[1] for pose in planned] == pytest.approx([0.025, 0.05, 0.075])
    assert poses.distance(start, planned[-1])[1] == pytest.approx(0.0)


def test_waypoints_stay_above_the_table():
    planned, _ = waypoints_of(
        failing(actions=((0.0, 0.0, -0.025, 0.0, 0.0, 0.0, 1.0),) * 3), place=(0.5, 0.0, 0.04)
    )
    assert [pose[2] for pose in planned] == pytest.approx([0.015, 0.005, 0.005])


def test_a_tool_outside_the_workspace_returns_to_it_step_by_step():
    still = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    planned, _ = waypoints_of(failing(actions=(still,) * 4), place=(0.5, 0.64, 0.3))
    assert [pose[1] for pose in planned] == pytest.approx([0.615, 0.6, 0.6, 0.6])


def test_a_tool_far_outside_the_workspace_is_not_corrected():
    monitor = make_monitor(ScriptedModel(failing()), 0.5, settings())
    assert play(monitor, FIRST + 1, lambda step: observation(step, (-0.1, 0.1, 1.2))) == {}
    assert descriptions_of(monitor, EventKind.FAULT) == [
        "the tool is outside the workspace, at -0.10, 0.10, 1.20: is this the robot's base frame?"
    ]


def test_an_unknown_frame_is_not_executed():
    monitor = make_monitor(ScriptedModel(failing(frame="camera")), 0.5, settings())
    assert play(monitor, FIRST + 1) == {}
    assert descriptions_of(monitor, EventKind.FAULT) == ["the model's frame is unknown: 'camera'"]


# ------------------------------------------------------------------ giving up


def test_after_the_last_takeover_it_asks_for_help_once():
    told, asked = [], []
    monitor = make_monitor(ScriptedModel(failing()), 0.5, settings(takeovers=2), told.append, asked.append)
    play(monitor, 60)
    assert len(steps_of(monitor, TAKE_OVER)) == 2
    assert len(steps_of(monitor, ALARM)) > 4
    assert descriptions_of(monitor, EventKind.HELP) == ["still failing after 2 takeovers"]
    assert [event.kind for event in asked] == [EventKind.HELP]
    assert told == monitor.events
    assert monitor.needs_help
    monitor.reset("lift")
    play(monitor, 60)
    assert len(asked) == 2, "once an episode"


def test_an_unrecoverable_failure_asks_for_help():
    monitor = make_monitor(ScriptedModel(failing(needs_help=True)), 0.5, settings())
    assert play(monitor, 20) == {}
    assert descriptions_of(monitor, EventKind.HELP) == ["the model sees no way back"]


def poses_of(monitor, steps, place=(0.55, 0.1, 0.2)):
    """Play an episode that begins at one place and goes on at another; return what each takeover commands."""
    return list(play(monitor, steps, lambda step: observation(step, None if step == 0 else place)).values())


def test_a_correction_that_was_undone_is_followed_by_a_new_beginning():
    monitor = make_monitor(ScriptedModel(failing(continuation=(UP,) * 4)), 0.5, settings(2, retry_after=1))
    correction, anew = poses_of(monitor, 60)
    assert len(correction) == 2
    start, release = observation(0).tcp_pose, round(0.3 * MANISKILL_PANDA.control_hz)
    assert all(np.allclose(pose[:3], (0.55, 0.1, 0.2)) for pose in anew[:release])
    assert max(pose[2] for pose in anew) == pytest.approx(0.3)
    assert np.allclose(anew[release + 3][:3], (0.55, 0.1, 0.28))
    assert np.allclose(anew[-1], start)
    assert steps_of(monitor, EventKind.AGAIN) == []
    # It hands back at once, without a query: the policy begins anew.
    assert steps_of(monitor, HAND_BACK)[1] == steps_of(monitor, TAKE_OVER)[1] + len(anew)
    assert steps_of(monitor, HAND_BACK)[1] not in steps_of(monitor, QUERY)


def test_the_gripper_is_open_during_a_new_beginning():
    monitor = make_monitor(ScriptedModel(failing()), 0.5, settings(retry_after=0))
    planned = ()
    while not planned:
        planned = monitor.decide(observation(monitor.step + 1))
    assert {waypoint.gripper for waypoint in planned} == {1.0}


@pytest.mark.parametrize(("after", "commands"), [(None, 0), (3, 1)])
def test_without_a_way_back_it_begins_anew_if_it_may(after, commands):
    monitor = make_monitor(ScriptedModel(failing(needs_help=True)), 0.5, settings(1, retry_after=after))
    planned = poses_of(monitor, FIRST + 1)
    assert len(planned) == commands
    assert descriptions_of(monitor, EventKind.HELP) == ([] if commands else ["the model sees no way back"])
    assert all(np.allclose(poses[-1], observation(0).tcp_pose) for poses in planned)


def test_a_new_beginning_that_the_budget_does_not_allow_is_none():
    limits = replace(NO_LIMIT, share=0.05, episode_seconds=seconds(400))
    monitor = make_monitor(ScriptedModel(failing()), 0.5, settings(retry_after=0, budget=limits))
    assert poses_of(monitor, 40, (0.8, 0.5, 0.1)) == []
    assert descriptions_of(monitor, EventKind.HELP) == [
        "still failing, and the intervention budget has 20 steps left"
    ]


def test_an_alarm_without_actions_is_a_refusal():
    monitor = make_monitor(ScriptedModel(failing(actions=())), 0.5, settings())
    assert play(monitor, FIRST + 1) == {}
    assert descriptions_of(monitor, EventKind.REFUSAL) == ["the model gives no actions"]
    assert not monitor.needs_help


@pytest.mark.parametrize("cool_down", [0, 1, 12])
def test_a_takeover_is_followed_by_a_cool_down(cool_down):
    monitor = make_monitor(ScriptedModel(failing()), 0.5, settings(cool_down_seconds=seconds(cool_down)))
    play(monitor, 60)
    backs, overs = steps_of(monitor, HAND_BACK), steps_of(monitor, TAKE_OVER)
    # Two actions: the second is executed a step after the takeover. Then the next query that counts.
    assert [back - over for back, over in zip(backs, overs, strict=False)] == [2] * len(backs)
    wait = EVERY * max(1, -(-cool_down // EVERY))
    assert [over - back for back, over in zip(backs, overs[1:], strict=False)] == [wait] * (len(overs) - 1)


@pytest.mark.parametrize(
    ("then", "description"), [(0.3, ["better"]), (0.9, ["no better"]), (0.95, ["no better"])]
)
def test_the_query_after_a_takeover_is_a_check(then, description):
    monitor = make_monitor(ScriptedModel(failing(0.9), failing(then), FINE), 0.5, settings(takeovers=1))
    play(monitor, 40)
    assert descriptions_of(monitor, EventKind.CHECK) == description
    (check,) = [event for event in monitor.events if event.kind is EventKind.CHECK]
    assert (check.step, check.probability) == (FIRST + 2 + EVERY, then)


def test_a_query_within_the_cool_down_is_no_check():
    monitor = make_monitor(
        ScriptedModel(failing(0.9)), 0.5, settings(takeovers=1, cool_down_seconds=seconds(2 * EVERY))
    )
    play(monitor, 40)
    back = FIRST + 2
    assert steps_of(monitor, EventKind.CHECK) == [back + 2 * EVERY]
    assert back + EVERY in steps_of(monitor, QUERY)


# ------------------------------------------------------------------ faults of the model


@pytest.mark.parametrize(
    ("answer", "kind", "description"),
    [
        (RuntimeError("out of memory"), EventKind.FAULT, "RuntimeError: out of memory"),
        (failing(np.nan), EventKind.FAULT, "got nan"),
        (failing(actions=((np.nan,) * 7,)), EventKind.FAULT, "7 finite numbers"),
        (failing(actions=((0.0, 0.0, 0.0, 1e300, 0.0, 0.0, 1.0),)), EventKind.FAULT, "7 finite numbers"),
        (Assessment(status=Status.UNREADABLE, raw="I think it"), EventKind.UNREADABLE, "I think it"),
        (Assessment(status=Status.REFUSED, reason="too dark"), EventKind.FAULT, "too dark"),
    ],
)
def test_a_fault_leaves_the_policy_in_control_and_the_next_answer_counts(answer, kind, description):
    monitor = make_monitor(ScriptedModel(answer, failing()), 0.5, settings())
    assert play(monitor, FIRST + 1) == {}
    (event,) = monitor.events
    assert event.kind is kind
    assert description in event.description
    assert list(play(monitor, EVERY)) == [FIRST + EVERY]


def test_a_fault_does_not_change_the_score():
    monitor = make_monitor(ScriptedModel(failing(), ValueError("no"), failing()), 3.0, settings())
    play(monitor, FIRST + 2 * EVERY + 1)
    assert steps_of(monitor, TAKE_OVER) == [FIRST + 2 * EVERY]


class Broken(Images):
    """A camera that fails."""

    def __getitem__(self, view):
        if view == "hand" and self.broken:
            raise OSError("no camera")
        return super().__getitem__(view)

    broken = False


def test_a_camera_that_raises_is_a_fault():
    images = {}

    def see(step):
        images[step] = Broken(step)
        seen = observation(step, images=images[step])
        images[step].broken = step <= FIRST
        return seen

    monitor = make_monitor(ScriptedModel(failing()), 0.5, settings())
    assert play(monitor, FIRST + 1, see) == {}
    assert descriptions_of(monitor, EventKind.FAULT) == ["no window: OSError: no camera"]
    assert monitor.model.asked == 0
    # The next window without an image of the failed camera is assessed again.
    assert list(play(monitor, 2 * EVERY, see)) == [FIRST + EVERY]


def test_a_model_that_hangs_blocks_the_policy_once_and_gets_no_further_query():
    model = BlockingModel(failing(), failing(0.8))
    monitor = make_monitor(model, 0.5, settings(deadline=0.05))
    begun = time.monotonic()
    assert play(monitor, FIRST + 2 * EVERY + 1) == {}
    assert time.monotonic() - begun < PATIENCE / 2
    assert steps_of(monitor, EventKind.LATE) == [FIRST]
    assert descriptions_of(monitor, EventKind.LATE) == ["no answer within 0.05 s"]
    assert steps_of(monitor, EventKind.FAULT) == [FIRST + EVERY, FIRST + 2 * EVERY]
    assert 0 < monitor.blocking_latency < PATIENCE / 2
    model.go_on.set()
    wait_for(monitor)
    assert model.asked == 1
    # The model is free again: its old answer is dropped, the next one counts.
    monitor._queries.assessor._deadline = PATIENCE
    assert list(play(monitor, EVERY)) == [FIRST + 3 * EVERY]
    assert model.asked == 2
    assert monitor.events[-2].probability == 0.8


def wait_for(monitor):
    end = time.monotonic() + PATIENCE
    while monitor._queries.assessor.busy:
        assert time.monotonic() < end
        time.sleep(0.002)


# ------------------------------------------------------------------ asynchronous queries


def test_the_policy_acts_while_the_model_computes():
    model = BlockingModel(failing())
    monitor = make_monitor(model, 0.5, settings(asynchronous=True, deadline=PATIENCE))
    begun = time.monotonic()
    assert play(monitor, FIRST + 4) == {}
    assert time.monotonic() - begun < PATIENCE / 2
    assert monitor.events == []
    model.go_on.set()
    wait_for(monitor)
    # The correction counts from the pose of the query; the tool has moved on by three steps of 25 mm.
    saw, now = observation(FIRST), observation(FIRST)
    now.tcp_pose[1] += 3 * MAX_TRANSLATION
    planned = monitor.decide(now)
    goal = poses.apply_delta(poses.apply_delta(saw.tcp_pose, UP[:6]), UP[:6])
    np.testing.assert_allclose(planned[-1].pose, goal, atol=1e-9)
    assert 3 <= len(planned) <= 5
    path = [now.tcp_pose, *(waypoint.pose for waypoint in planned)]
    assert all(poses.distance(a, b)[0] <= MAX_TRANSLATION + 1e-9 for a, b in itertools.pairwise(path))
    assert steps_of(monitor, TAKE_OVER) == [FIRST + 4]


def test_an_assessment_older_than_the_deadline_is_dropped():
    model = BlockingModel(failing())
    monitor = make_monitor(model, 0.5, settings(asynchronous=True, deadline=0.05))
    assert play(monitor, FIRST + 1) == {}
    time.sleep(0.1)
    model.go_on.set()
    wait_for(monitor)
    assert play(monitor, 3) == {}
    assert steps_of(monitor, EventKind.LATE) == [FIRST + 1]
    assert steps_of(monitor, QUERY) == []


def test_an_assessment_of_the_last_episode_is_dropped():
    model = BlockingModel(failing())
    monitor = make_monitor(model, 0.5, settings(asynchronous=True, deadline=PATIENCE))
    play(monitor, FIRST + 1)
    monitor.reset("lift")
    model.go_on.set()
    wait_for(monitor)
    assert play(monitor, FIRST) == {}
    assert monitor.events == []
