"""The table of transitions: complete, connected, and the one that the documentation shows."""

from pathlib import Path

import pytest
from tests.monitors.scripted import FIRST, ScriptedModel, failing, make_monitor, observation, play, settings

from failsafe.monitors.states import TRANSITIONS, MonitorAction, MonitorState, Trigger, transition_table

DOCS = Path(__file__).parents[2] / "docs" / "monitor.md"


def table_in(text: str) -> str:
    """Return the table of transitions in a Markdown page, empty if there is none."""
    lines = text.splitlines()
    header = transition_table().splitlines()[0]
    if header not in lines:
        return ""
    rows = lines[lines.index(header) :]
    end = next((i for i, line in enumerate(rows) if not line.startswith("|")), len(rows))
    return "\n".join(rows[:end]) + "\n"


def test_the_documentation_shows_the_table():
    assert table_in(DOCS.read_text()) == transition_table(), (
        "paste the output of: python -c 'from failsafe.monitors.states import transition_table; "
        'print(transition_table(), end="")\' into docs/monitor.md'
    )


def test_every_state_can_be_reached_and_left_but_for_a_spent_budget():
    reached, todo = {MonitorState.WATCHING}, [MonitorState.WATCHING]
    while todo:
        state = todo.pop()
        for (start, _), found in TRANSITIONS.items():
            if start is state and found.state not in reached:
                reached.add(found.state)
                todo.append(found.state)
    assert reached == set(MonitorState)
    left = {start for (start, _), found in TRANSITIONS.items() if found.state is not start}
    assert left == set(MonitorState) - {MonitorState.STAYING_OUT}


def test_every_trigger_and_action_is_used():
    assert {trigger for _, trigger in TRANSITIONS} == set(Trigger)
    assert {found.action for found in TRANSITIONS.values()} == set(MonitorAction)


@pytest.mark.parametrize(
    "triggers",
    [
        {Trigger.ALARM, Trigger.REFUSED_ALARM, Trigger.HOPELESS_ALARM, Trigger.SPENT_ALARM},
        {Trigger.STILL_FAILING, Trigger.ASSIST, Trigger.DONE, Trigger.INTERRUPTED},
        {Trigger.COOLED_DOWN},
    ],
    ids=["policy in control", "monitor in control", "cooling down"],
)
def test_a_state_knows_all_triggers_that_occur_in_it(triggers):
    known = {state: {t for s, t in TRANSITIONS if s is state} for state in MonitorState}
    states = {state for state, found in known.items() if found == triggers}
    expected = {state for state, found in known.items() if found & triggers} - {MonitorState.STAYING_OUT}
    assert known[MonitorState.STAYING_OUT] == {Trigger.SPENT_ALARM}
    assert states == expected


def test_the_monitor_passes_through_the_states():
    model = ScriptedModel(failing(), failing(0.1, continuation=((0.0,) * 7,) * 2), failing(0.1))
    monitor = make_monitor(model, 0.5, settings(assist=True, assist_seconds=0.1, cool_down_seconds=0.2))
    states, left = [], 0
    for step in range(FIRST + 12):
        if left > 1:
            left -= 1
            monitor.observe(observation(step))
        else:
            left = len(monitor.decide(observation(step)))
        states.append(monitor.state)
    assert states == [
        *[MonitorState.WATCHING] * FIRST,
        *[MonitorState.TAKING_OVER] * 2,
        *[MonitorState.ASSISTING] * 2,
        *[MonitorState.COOLING_DOWN] * 4,
        *[MonitorState.WATCHING] * 4,
    ]


@pytest.mark.parametrize(
    ("assessment", "state"),
    [(failing(), MonitorState.STAYING_OUT), (failing(needs_help=True), MonitorState.GAVE_UP)],
)
def test_help_is_asked_for_in_two_states_and_another_episode_starts_anew(assessment, state):
    monitor = make_monitor(ScriptedModel(assessment), 0.5, settings(takeovers=1))
    play(monitor, 40)
    assert monitor.state is state
    monitor.reset("lift")
    assert monitor.state is MonitorState.WATCHING
