"""Conditions of an experiment: what is put around the base policy in an episode.

The recovery models of the controls and oracles are in `failsafe.evaluation.controls`.
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
    OracleDetector,
    OracleRecovery,
    PrivilegedState,
    RandomNudge,
)
from failsafe.models.contract import RecoveryModel
from failsafe.monitors.budget import NO_LIMIT
from failsafe.monitors.settings import MonitorSettings
from failsafe.registry import Registry

NEVER, WATCH, MONITOR = "never", "watch", "monitor"
"""The policy alone; a monitor that never intervenes, for calibration; the monitor as it is by default."""
MINIMAL, ASSIST = "minimal", "assist"
"""A monitor that corrects once per alarm; one that goes on as the expert, without a budget."""
CONTROLS = (
    MINIMAL,
    ASSIST,
    "always-nudge",
    "random-nudge",
    "fixed-retry",
    "oracle-detector",
    "oracle-recovery",
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
    """

    monitored: bool = True
    threshold: float | None = None
    control: Callable[[RecoveryModel, PrivilegedState], RecoveryModel] | None = None
    settings: Callable[[MonitorSettings], MonitorSettings] | None = None


def _checked(name: str, entry: object) -> Condition:
    if not isinstance(entry, Condition):
        raise UserError(
            f"expected a failsafe.evaluation.conditions.Condition as condition '{name}', got {entry!r:.80}"
        )
    return entry


CONDITIONS: Registry[Condition] = registry.conditions
"""Every condition by name, in the order in which they are run and reported."""
CONDITIONS.prepare = _checked
CONDITIONS.add(NEVER, Condition(monitored=False))
CONDITIONS.add(WATCH, Condition(threshold=math.inf))


def _minimal(settings: MonitorSettings) -> MonitorSettings:
    return replace(settings, max_corrections=1)


def _assist(settings: MonitorSettings) -> MonitorSettings:
    return replace(settings, assist=True, budget=replace(NO_LIMIT, takeovers=settings.budget.takeovers))


CONDITIONS.add(MINIMAL, Condition(settings=_minimal))
CONDITIONS.add(MONITOR, Condition())
CONDITIONS.add(ASSIST, Condition(settings=_assist))


def _always_nudge(model: RecoveryModel, truth: PrivilegedState) -> RecoveryModel:
    return AlwaysNudge(model.window_spec, truth)


def _random_nudge(model: RecoveryModel, truth: PrivilegedState) -> RecoveryModel:
    return RandomNudge(
        model.window_spec, truth.embodiment, np.random.default_rng([truth.nominal.record.seed, 11])
    )


def _fixed_retry(model: RecoveryModel, truth: PrivilegedState) -> RecoveryModel:
    return FixedRetry(model, truth.start, truth.task.simulator.spec.embodiment)


def _oracle_recovery(model: RecoveryModel, truth: PrivilegedState) -> RecoveryModel:
    return OracleRecovery(model.window_spec, truth)


CONDITIONS.add("always-nudge", Condition(threshold=EVEN_ODDS, control=_always_nudge))
CONDITIONS.add("random-nudge", Condition(threshold=EVEN_ODDS, control=_random_nudge))
CONDITIONS.add("fixed-retry", Condition(control=_fixed_retry))
CONDITIONS.add("oracle-detector", Condition(threshold=EVEN_ODDS, control=OracleDetector))
CONDITIONS.add("oracle-recovery", Condition(threshold=EVEN_ODDS, control=_oracle_recovery))
