"""Conditions of an experiment: what is put around the base policy in an episode.

Controls are in `failsafe.evaluation.controls`, the search of `oracle-minimal` in
`failsafe.evaluation.oracles`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from failsafe import registry
from failsafe.errors import UserError
from failsafe.evaluation.controls import (
    AlwaysNudge,
    FixedRetry,
    HoldPolicy,
    ModelAlone,
    OracleDetector,
    PrivilegedState,
    RandomNudge,
)
from failsafe.evaluation.oracles import run_oracle_minimal
from failsafe.models.contract import RecoveryModel
from failsafe.monitors.budget import NO_LIMIT
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.contract import Policy
from failsafe.records.episode import Episode
from failsafe.registry import Registry

NEVER, WATCH, MONITOR = "never", "watch", "monitor"
"""The policy alone; a monitor that never intervenes, for calibration; the monitor as it is by default."""
LEARNED = "learned-hand-back"
"""A monitor that hands back where the policy has been found to succeed."""
MINIMAL, RETRY, ESCALATE, ASSIST = "minimal", "retry", "escalate", "assist"
"""A monitor that corrects once per alarm; one that begins anew if its corrections are undone; one that then
goes on as the expert; one that goes on as the expert after each takeover, without a budget."""
CONTROLS = (
    MINIMAL,
    RETRY,
    ESCALATE,
    ASSIST,
    "model-alone",
    "hold",
    "fixed-retry",
    "always-nudge",
    "random-nudge",
    "oracle-detector",
    "oracle-minimal",
)
"""The conditions that `monitor` is compared with, other than the policy alone."""
EVEN_ODDS = 0.0
"""Threshold of models that are certain: any failure probability above 0.5 raises an alarm."""


@dataclass(frozen=True)
class Condition:
    """One condition of an experiment.

    Attributes:
        monitored: Whether a monitor is put around the policy.
        threshold: Score above which the monitor raises an alarm; None for the calibrated one.
        control: Makes the monitor's recovery model from the model under test and the privileged state of the
            episode; None for the model under test.
        settings: Changes the monitor's settings; None to keep them.
        learned: Whether the monitor hands back where the calibration's hand-back model says.
        policy: Makes what acts in place of the base policy; None for the base policy.
        run: Runs the whole episode, with the record of the policy alone; None for the usual course.
        description: Who acts and when, in one sentence, for the docs.
    """

    monitored: bool = True
    threshold: float | None = None
    control: Callable[[RecoveryModel, PrivilegedState], RecoveryModel] | None = None
    settings: Callable[[MonitorSettings], MonitorSettings] | None = None
    learned: bool = False
    policy: Callable[[Policy], Policy] | None = None
    run: Callable[..., Episode] | None = None
    description: str = ""


def _checked(name: str, entry: object) -> Condition:
    if not isinstance(entry, Condition):
        raise UserError(
            f"expected a failsafe.evaluation.conditions.Condition as condition '{name}', got {entry!r:.80}"
        )
    return entry


CONDITIONS: Registry[Condition] = registry.conditions
"""Every condition by name, in the order in which they are run and reported."""
CONDITIONS.prepare = _checked


def _minimal(settings: MonitorSettings) -> MonitorSettings:
    return replace(settings, max_corrections=1, escalate_after=None, retry_after=None)


def _escalate(settings: MonitorSettings) -> MonitorSettings:
    return replace(settings, escalate_after=1)


def _retry(settings: MonitorSettings) -> MonitorSettings:
    return replace(settings, retry_after=1)


def _assist(settings: MonitorSettings) -> MonitorSettings:
    return replace(settings, assist=True, budget=replace(NO_LIMIT, takeovers=settings.budget.takeovers))


def _always(settings: MonitorSettings) -> MonitorSettings:
    return replace(settings, max_corrections=10**6, cool_down_seconds=0.0, budget=NO_LIMIT)


def _always_nudge(model: RecoveryModel, truth: PrivilegedState) -> RecoveryModel:
    return AlwaysNudge(model.window_spec, truth)


def _random_nudge(model: RecoveryModel, truth: PrivilegedState) -> RecoveryModel:
    return RandomNudge(
        model.window_spec, truth.embodiment, np.random.default_rng([truth.nominal.record.seed, 11])
    )


def _fixed_retry(model: RecoveryModel, truth: PrivilegedState) -> RecoveryModel:
    return FixedRetry(model, truth.start, truth.embodiment)


def _model_alone(model: RecoveryModel, truth: PrivilegedState) -> RecoveryModel:
    return ModelAlone(model, truth.embodiment)


for _name, _condition in {
    NEVER: Condition(monitored=False, description="The policy alone."),
    WATCH: Condition(
        threshold=math.inf, description="A monitor that queries the model and never acts, for calibration."
    ),
    MINIMAL: Condition(
        settings=_minimal, description="The monitor with one correction per alarm, then hand-back."
    ),
    MONITOR: Condition(
        description="The monitor by default: corrections until the model sees no failure, within the budget, "
        "then hand-back."
    ),
    RETRY: Condition(
        settings=_retry,
        description="The monitor; from the second takeover of an episode on, and where the model sees no way "
        "back, it opens the gripper, rises and returns to the start in place of a correction.",
    ),
    ESCALATE: Condition(
        settings=_escalate,
        description="The monitor; from the second takeover of an episode on, it goes on as the expert after "
        "the corrections, for as long as the budget allows without a step of the policy.",
    ),
    LEARNED: Condition(
        learned=True,
        description="The monitor with a hand-back model: after the corrections it goes on as the expert "
        "until the policy is likely to succeed, for as long as the budget allows.",
    ),
    ASSIST: Condition(
        settings=_assist,
        description="The monitor with `assist`: after the corrections it goes on as the expert, without a "
        "budget of steps.",
    ),
    "model-alone": Condition(
        threshold=EVEN_ODDS,
        control=_model_alone,
        settings=_always,
        policy=HoldPolicy,
        description="The recovery model acts from its first query to the end; the policy never acts.",
    ),
    "hold": Condition(
        policy=HoldPolicy, description="The monitor around a policy that holds still, in place of the policy."
    ),
    "fixed-retry": Condition(
        control=_fixed_retry,
        description="The model's alarms; the recovery is to open the gripper, lift, and return to the start.",
    ),
    "always-nudge": Condition(
        threshold=EVEN_ODDS, control=_always_nudge, description="5 cm up at every query, once per takeover."
    ),
    "random-nudge": Condition(
        threshold=EVEN_ODDS,
        control=_random_nudge,
        description="Two full steps in a random direction, at 20 % of the queries.",
    ),
    "oracle-detector": Condition(
        threshold=EVEN_ODDS,
        control=OracleDetector,
        description="An alarm in each episode that is known to fail: 0.5 s after the perturbation, or, "
        "without one, once the expert would have finished. The corrections are the model's.",
    ),
    "oracle-minimal": Condition(
        monitored=False,
        run=run_oracle_minimal,
        description="One correction that a search with ground truth has proven with this policy going on, "
        "then hand-back.",
    ),
}.items():
    CONDITIONS.add(_name, _condition)


def condition_table() -> str:
    """Return every built-in condition with its description as a Markdown table."""
    rows = ["| condition | who acts |", "|---|---|"]
    rows += [
        f"| `{name}` | {CONDITIONS[name].description} |"
        for name in (NEVER, WATCH, MONITOR, LEARNED, *CONTROLS)
    ]
    return "\n".join(rows) + "\n"
