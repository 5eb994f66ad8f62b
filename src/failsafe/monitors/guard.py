"""Wrap a policy in a monitor: `failsafe.guard`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from failsafe.errors import UserError
from failsafe.models.contract import RecoveryModel
from failsafe.models.loading import COMPACT, fingerprint, load_model
from failsafe.monitors.calibration import (
    Calibration,
    check_known,
    check_usable,
    read_calibration,
    shipped_calibration,
)
from failsafe.monitors.monitor import EventCallback, ignore
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.contract import Policy
from failsafe.policies.loading import load_policy
from failsafe.records.embodiment import EmbodimentSpec


def guard(
    policy: str | Policy,
    model: str | RecoveryModel = COMPACT,
    *,
    calibration: str | Path | Calibration | None = None,
    threshold: float | None = None,
    settings: MonitorSettings | None = None,
    on_event: EventCallback = ignore,
    embodiment: EmbodimentSpec | None = None,
) -> MonitoredPolicy:
    """Return a policy that monitors another one, corrects its failures, and hands back.

    The result is a policy like any other: it can be evaluated, served, or called step by step. Actions of the
    base policy pass through unchanged unless the monitor takes over.

    Args:
        policy: Base policy: a name as for `load_policy`, or an object.
        model: Recovery model: a name as for `load_model`, or an object.
        calibration: Alarm thresholds by instruction, or the JSON file that holds them (`calibrate` makes it).
            A file is checked against the weights of a model that is given by name. Default: the shipped
            thresholds, which exist for reference policies and the shipped model of their tasks, both given by
            name.
        threshold: Alarm threshold for every instruction, in accumulated log odds, in place of a calibration.
        settings: When the monitor queries the model, acts and gives up.
        on_event: Called with every event of the monitor.
        embodiment: The robot, with its step limits and workspace; by default that of the model's training
            data, or ManiSkill's Panda if the model states none. The control rate is the policy's.

    Raises:
        UserError: If there is no threshold for this policy and model, or both kinds are given.
        FailSafeError: If the policy, the model or the calibration cannot be loaded.
    """
    found: Callable[[str], float] | float
    loaded: Calibration | None = None
    if threshold is not None:
        if calibration is not None:
            raise UserError("expected a calibration or a threshold, got both: give one of them")
        found = threshold
    else:
        loaded = find_calibration(policy, model, calibration)
        settings = settings or MonitorSettings(drift=loaded.drift)
        if settings.drift != loaded.drift:
            raise UserError(
                f"expected settings with drift={loaded.drift:g}, for which the thresholds hold, got "
                f"{settings.drift:g}: use that drift, or calibrate again"
            )
        found = loaded.threshold
    recovery = load_model(model)
    if loaded is not None:
        check_known(loaded, recovery)
    return MonitoredPolicy(
        load_policy(policy),
        recovery,
        found,
        settings,
        on_event,
        embodiment=embodiment,
    )


def find_calibration(
    policy: str | Policy, model: str | RecoveryModel, given: str | Path | Calibration | None
) -> Calibration:
    """Return the thresholds for a policy with a model.

    Args:
        policy: The policy, or its name.
        model: The model, or its name.
        given: Thresholds, or the file that holds them; a file is checked against the weights of a model that
            is given by name. None for the shipped ones.

    Raises:
        UserError: If the file is of another model or has no threshold, or there are no shipped thresholds for
            the two.
        RecordError: If the file is damaged or of another version.
    """
    if isinstance(given, Calibration):
        check_usable(given)
        return given
    if given is not None:
        checked = (model, fingerprint(model)) if isinstance(model, str) else ()
        found = read_calibration(Path(given), *checked)
        check_usable(found, str(given))
        return found
    shipped = shipped_calibration(policy) if isinstance(policy, str) else None
    if shipped is not None and shipped.model == model:
        return shipped
    names = [found if isinstance(found, str) else found.name for found in (policy, model)]
    got = (
        f"those of {shipped.model}: use that model, make"
        if shipped and isinstance(model, str)
        else "none: make"
    )
    raise UserError(
        f"expected thresholds for {names[0]} with the model {names[1]}, got {got} a calibration with "
        "`failsafe.calibrate`, or choose a threshold"
    )
