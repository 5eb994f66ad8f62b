"""The intervention budget: a promise that holds whatever the model says."""

from dataclasses import replace

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.monitors.scripted import (
    EVERY,
    FIRST,
    UP,
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

from failsafe.errors import UserError
from failsafe.monitors.budget import InterventionBudget
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.monitors.states import MonitorState
from failsafe.policies.contract import ActionSpace
from failsafe.records.assessment import Assessment, Status
from failsafe.records.event import EventKind

LENGTH = 60
"""Control steps of an episode."""


class Stub:
    """A policy that counts how often it acts."""

    name = "stub"
    action_space = ActionSpace()
    views = {"front": 8}  # noqa: RUF012 -- never changed

    def __init__(self):
        self.acted = 0

    def reset(self, instruction):
        self.acted = 0

    def act(self, observation):
        self.acted += 1
        return [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]

    def drop_queue(self):
        pass


# Plain values: building a record draws random numbers, because its types are checked by samples.
ANSWERS = st.fixed_dictionaries(
    {
        "status": st.sampled_from([Status.OK] * 9 + [Status.REFUSED]),
        "failure_probability": st.sampled_from([0.2, 0.9, 0.9, 1.0]) | st.floats(0, 1),
        "actions": st.integers(0, 24),
        "continuation": st.integers(0, 24),
        "needs_help": st.sampled_from([False] * 9 + [True]),
    }
)
BUDGETS = st.fixed_dictionaries(
    {
        "share": st.sampled_from([1.0, 0.25, 0.0]) | st.floats(0, 1),
        "consecutive_seconds": st.integers(1, 30).map(seconds),
        "takeovers": st.sampled_from([6, 2, 1, 0]),
    }
)


@hypothesis.settings(deadline=None, max_examples=60)
@given(
    answers=st.lists(ANSWERS, min_size=1, max_size=12),
    limits=BUDGETS,
    assist=st.booleans(),
    escalate_after=st.none() | st.integers(0, 3),
    retry_after=st.none() | st.integers(0, 3),
    corrections=st.integers(1, 6),
    interrupted=st.lists(st.integers(0, LENGTH - 1), max_size=3),
)
def test_a_monitor_never_exceeds_its_budget(
    answers, limits, assist, escalate_after, retry_after, corrections, interrupted
):
    policy, budget = Stub(), InterventionBudget(**limits, episode_seconds=seconds(LENGTH))
    rows = ("actions", "continuation")
    said = [
        Assessment(**{name: (UP,) * value if name in rows else value for name, value in answer.items()})
        for answer in answers
    ]
    longer = {"assist": assist, "escalate_after": escalate_after, "retry_after": retry_after}
    changes = settings(budget=budget, max_corrections=corrections, **longer)
    guarded = MonitoredPolicy(policy, ScriptedModel(*said), 0.0, changes)
    guarded.reset("lift")
    acting = []
    for step in range(LENGTH):
        if step in interrupted:
            guarded.drop_queue()
        before = policy.acted
        guarded.act(observation(step))
        acting.append(policy.acted == before)
    assert sum(acting) <= budget.share * LENGTH + 1e-6
    longest = max(len(row) for row in "".join("m" if acts else " " for acts in acting).split(" "))
    assert longest <= round(budget.consecutive_seconds * 20)
    takeovers = steps_of(guarded.monitor, EventKind.TAKE_OVER)
    assert len(takeovers) <= budget.takeovers
    if min(budget.share, budget.takeovers) == 0:
        assert policy.acted == LENGTH
    spent = guarded.monitor.state is MonitorState.STAYING_OUT
    assert not spent or descriptions_of(guarded.monitor, EventKind.HELP), "it asks before it stays out"


def budget_of(steps, **changes):
    return settings(
        budget=InterventionBudget(share=steps / LENGTH, episode_seconds=seconds(LENGTH), **changes)
    )


def test_a_budget_that_is_spent_is_an_alarm_without_a_takeover_and_a_call_for_help():
    monitor = make_monitor(ScriptedModel(failing(actions=(UP,) * 4)), 0.5, budget_of(10))
    ways = play(monitor, LENGTH)
    assert [len(way) for way in ways.values()] == [4, 4], "the third would take 12 steps of 10"
    assert monitor.state is MonitorState.STAYING_OUT
    assert descriptions_of(monitor, EventKind.HELP) == [
        "still failing, and the intervention budget has 2 steps left"
    ]
    assert len(steps_of(monitor, EventKind.ALARM)) > 5, "it goes on watching"
    monitor.reset("lift")
    assert [len(way) for way in play(monitor, FIRST + 1).values()] == [4], "each episode has its own"


def test_it_stays_out_even_if_a_shorter_correction_would_fit():
    answers = [failing(actions=(UP,) * n) for n in (4, 4, 1)]
    monitor = make_monitor(ScriptedModel(*answers), 0.5, budget_of(6))
    assert [len(way) for way in play(monitor, LENGTH).values()] == [4]


def test_a_further_correction_that_does_not_fit_hands_back():
    monitor = make_monitor(
        ScriptedModel(failing(actions=(UP,) * 4)),
        0.5,
        replace(budget_of(LENGTH, consecutive_seconds=seconds(10)), max_corrections=6),
    )
    assert [len(way) for way in play(monitor, FIRST + 1).values()] == [4, 4], "the third would take 12 of 10"
    assert steps_of(monitor, EventKind.HAND_BACK) == [FIRST + 8]


def test_going_on_as_the_expert_ends_with_the_budget():
    well = Assessment(failure_probability=0.1, continuation=(UP,) * 5)
    model = ScriptedModel(failing(actions=(UP,) * 4), well)
    monitor = make_monitor(model, 0.5, replace(budget_of(11), assist=True))
    assert [len(way) for way in play(monitor, FIRST + 1).values()] == [4, 5, 2]


def test_a_whole_budget_can_be_spent():
    monitor = make_monitor(ScriptedModel(failing(actions=(UP,) * 5)), 0.5, budget_of(10))
    assert [len(way) for way in play(monitor, LENGTH).values()] == [5, 5]


def test_a_correction_that_takes_too_long_in_a_row_is_refused_and_a_shorter_one_is_not():
    limit = budget_of(LENGTH, consecutive_seconds=seconds(3))
    model = ScriptedModel(failing(actions=(UP,) * 4), failing(actions=(UP,) * 3))
    monitor = make_monitor(model, 0.5, limit)
    assert list(play(monitor, FIRST + EVERY + 1)) == [FIRST + EVERY]
    assert descriptions_of(monitor, EventKind.REFUSAL) == [
        "a correction of 4 steps, at most 3 steps in a row"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": -0.1}, "expected an intervention budget from 0 to 1 of an episode, got -0.1"),
        ({"share": 25.0}, "expected an intervention budget from 0 to 1 of an episode, got 25.0"),
        ({"share": float("nan")}, "from 0 to 1 of an episode, got nan"),
        ({"takeovers": -1}, "expected an intervention budget of at least 0 takeovers, got -1"),
        ({"consecutive_seconds": 0.0}, "expected consecutive_seconds of an intervention budget above 0"),
        ({"episode_seconds": float("inf")}, "expected episode_seconds of an intervention budget above 0"),
    ],
)
def test_a_budget_out_of_range_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        InterventionBudget(**changes)
