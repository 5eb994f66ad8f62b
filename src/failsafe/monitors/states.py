"""The states of a monitor, and the table of transitions between them.

What a monitor does next depends on its state and on one trigger, and `TRANSITIONS` lists every combination.
`failsafe.monitors.monitor` decides which trigger applies and carries out the action. To add a state, add it
to `MonitorState`, add its rows to the table, and add a method to `Monitor` for each new action. The table in
docs/monitor.md is what `transition_table` returns.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class MonitorState(str, enum.Enum):
    """What a monitor is doing. The value is the name in the documentation."""

    WATCHING = "watching"
    """The policy acts. Queries add to the score, and a score above the threshold is an alarm."""
    TAKING_OVER = "taking over"
    """The monitor acts: it executes a correction."""
    ASSISTING = "assisting"
    """The monitor acts: it executes the actions that the expert would take next."""
    COOLING_DOWN = "cooling down"
    """The policy acts. Queries do not count, because their windows still show the failure."""
    GAVE_UP = "gave up"
    """The policy acts, and help has been asked for. Queries count as in `WATCHING`."""
    STAYING_OUT = "staying out"
    """The policy acts until the end of the episode: the intervention budget is spent, and help has been asked
    for. Queries count as in `WATCHING`."""

    @property
    def in_control(self) -> bool:
        """Whether the monitor acts in place of the policy."""
        return self in (MonitorState.TAKING_OVER, MonitorState.ASSISTING)


class Trigger(str, enum.Enum):
    """What makes a monitor change its state. The value is the description in the documentation."""

    ALARM = "alarm, and the correction can be executed"
    REFUSED_ALARM = "alarm, but there is no correction that can be executed"
    HOPELESS_ALARM = "alarm, but the model sees no way back"
    SPENT_ALARM = "alarm, but the intervention budget does not allow the correction"
    STILL_FAILING = "all actions done, the next query still sees a failure, corrections are left"
    ASSIST = "all actions done, no further correction, time left to go on as the expert"
    DONE = "all actions done, the policy is likely to succeed, or neither a correction nor time is left"
    INTERRUPTED = "the policy's action queue was dropped, or a request could not be read"
    COOLED_DOWN = "the cool-down is over"


class MonitorAction(str, enum.Enum):
    """What a monitor does in a transition. The value is the description in the documentation."""

    NONE = "none"
    TAKE_OVER = "drop the policy's action queue and execute the correction"
    CORRECT_AGAIN = "execute the next correction"
    ASSIST = "execute the expert's next actions"
    HAND_BACK = "hand back to the policy and start the cool-down"
    ASK_FOR_HELP = "ask for help, once per episode"


@dataclass(frozen=True)
class Transition:
    """The result of a trigger in a state.

    Attributes:
        state: The next state.
        action: What the monitor does.
    """

    state: MonitorState
    action: MonitorAction


_WATCHING, _TAKING_OVER, _ASSISTING, _COOLING_DOWN, _GAVE_UP, _STAYING_OUT = MonitorState

TRANSITIONS: Mapping[tuple[MonitorState, Trigger], Transition] = {
    (_WATCHING, Trigger.ALARM): Transition(_TAKING_OVER, MonitorAction.TAKE_OVER),
    (_WATCHING, Trigger.REFUSED_ALARM): Transition(_WATCHING, MonitorAction.NONE),
    (_WATCHING, Trigger.HOPELESS_ALARM): Transition(_GAVE_UP, MonitorAction.ASK_FOR_HELP),
    (_WATCHING, Trigger.SPENT_ALARM): Transition(_STAYING_OUT, MonitorAction.ASK_FOR_HELP),
    (_TAKING_OVER, Trigger.STILL_FAILING): Transition(_TAKING_OVER, MonitorAction.CORRECT_AGAIN),
    (_TAKING_OVER, Trigger.ASSIST): Transition(_ASSISTING, MonitorAction.ASSIST),
    (_TAKING_OVER, Trigger.DONE): Transition(_COOLING_DOWN, MonitorAction.HAND_BACK),
    (_TAKING_OVER, Trigger.INTERRUPTED): Transition(_COOLING_DOWN, MonitorAction.HAND_BACK),
    (_ASSISTING, Trigger.STILL_FAILING): Transition(_TAKING_OVER, MonitorAction.CORRECT_AGAIN),
    (_ASSISTING, Trigger.ASSIST): Transition(_ASSISTING, MonitorAction.ASSIST),
    (_ASSISTING, Trigger.DONE): Transition(_COOLING_DOWN, MonitorAction.HAND_BACK),
    (_ASSISTING, Trigger.INTERRUPTED): Transition(_COOLING_DOWN, MonitorAction.HAND_BACK),
    (_COOLING_DOWN, Trigger.COOLED_DOWN): Transition(_WATCHING, MonitorAction.NONE),
    (_GAVE_UP, Trigger.ALARM): Transition(_TAKING_OVER, MonitorAction.TAKE_OVER),
    (_GAVE_UP, Trigger.REFUSED_ALARM): Transition(_GAVE_UP, MonitorAction.NONE),
    (_GAVE_UP, Trigger.HOPELESS_ALARM): Transition(_GAVE_UP, MonitorAction.NONE),
    (_GAVE_UP, Trigger.SPENT_ALARM): Transition(_STAYING_OUT, MonitorAction.NONE),
    (_STAYING_OUT, Trigger.SPENT_ALARM): Transition(_STAYING_OUT, MonitorAction.NONE),
}
"""The next state and the action for every trigger that a state knows. A new episode starts in `WATCHING`."""


def transition_table() -> str:
    """Return `TRANSITIONS` as a Markdown table, with a line break at its end."""
    rows = ["| state | trigger | next state | action |", "|---|---|---|---|"]
    rows += [
        f"| {state.value} | {trigger.value} | {found.state.value} | {found.action.value} |"
        for (state, trigger), found in TRANSITIONS.items()
    ]
    return "\n".join(rows) + "\n"
