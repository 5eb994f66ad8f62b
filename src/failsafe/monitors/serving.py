"""Serve a guarded policy: put a monitor between the clients of openpi's server and that server."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from failsafe.errors import UnknownNameError, UserError
from failsafe.models.contract import RecoveryModel, embodiment_of, known_instructions
from failsafe.models.loading import COMPACT, fingerprint, load_model
from failsafe.monitors.admission import Admission
from failsafe.monitors.budget import InterventionBudget
from failsafe.monitors.calibration import NEVER, Calibration, check_known, check_usable, read_calibration
from failsafe.monitors.proxy import IDLE_TIMEOUT, Proxy, Upstream
from failsafe.monitors.requests import Wire, guard_clients
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.contract import Policy
from failsafe.policies.loading import load_policy
from failsafe.policies.openpi import OpenpiPolicy
from failsafe.records.event import Event

LOOPBACK = "127.0.0.1"
"""Address that only this machine can reach."""
_NAMED = 32
"""Instructions of clients that are named in warnings."""


def _ignore(_: str) -> None:
    """Default callback: does nothing."""


@dataclasses.dataclass(frozen=True)
class Service:
    """A proxy that is ready to run.

    Attributes:
        proxy: The proxy; `proxy.run()` serves until it is stopped.
        upstream: URL of the server behind it.
        model: Name of the recovery model.
        missing_views: Views of the model that no image shows; the model sees black there.
        instructions: Instructions that the model was trained on, as clients send them; empty if it states
            none.
        alarms: When the monitor raises an alarm, in words: "alarms above 5".
    """

    proxy: Proxy
    upstream: str
    model: str
    missing_views: tuple[str, ...]
    instructions: tuple[str, ...]
    alarms: str


def make_service(
    upstream: str | Policy,
    model: str | RecoveryModel = COMPACT,
    *,
    host: str = LOOPBACK,
    port: int = 9000,
    calibration: str | Path | Calibration | None = None,
    threshold: float | None = None,
    steps_per_request: int | None = None,
    views: Mapping[str, str] | None = None,
    base: tuple[float, float, float] | None = None,
    deadline: float = 5.0,
    any_instruction: bool = False,
    idle_timeout: float = IDLE_TIMEOUT,
    admission: Admission | None = None,
    budget: float = 0.25,
    assist: bool = False,
    learned_hand_back: bool = False,
    retry: bool = False,
    on_event: Callable[[int, Event], None] = lambda client, event: None,
    on_warning: Callable[[str], None] = _ignore,
) -> Service:
    """Put a monitor in front of openpi's server.

    Args:
        upstream: The server behind: a name such as "ws://127.0.0.1:8000", or an `OpenpiPolicy`.
        model: Recovery model: a name as for `load_model`, or an object.
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.
        calibration: Thresholds by instruction, or the file that holds them. With neither a calibration nor a
            threshold, the monitor observes and never takes over.
        threshold: Alarm threshold for every instruction, in accumulated log odds, in place of a calibration.
        steps_per_request: Actions of an answer that a client executes before its next request. Default: as
            the policy states.
        views: The view that each image of a request shows, by the image's key. Default: as the policy
            states.
        base: Position of the robot's base in the frame of the positions in a request's state, metres; None:
            its origin.
        deadline: Seconds after which an assessment is dropped.
        any_instruction: Let the model assess instructions that it was not trained on.
        idle_timeout: Seconds without a request after which a client gives up its seat, if another client
            needs it.
        admission: Who may connect. Default: clients that are no web pages and name an address of this
            machine.
        budget: Largest share of 20 seconds of an episode in which the monitor acts, 0 to 1; with 0 it only
            watches.
        assist: Go on as the expert after the corrections, in place of handing back at once.
        learned_hand_back: Hand back where the calibration's hand-back model says, in place of at once.
        retry: Begin anew from the start in place of a correction that was undone, and where the model sees no
            way back.
        on_event: Called with the number of a client and an event, from several threads.
        on_warning: Called with a sentence about what limits the monitor.

    Raises:
        UserError: If a value is out of range, the server does not speak openpi's protocol, the calibration
            is of another model or lacks a hand-back model that is asked for, no image shows a view of the
            model, or there is no base with a preset.
    """
    policy = load_policy(upstream)
    if not isinstance(policy, OpenpiPolicy):
        raise UserError(f"expected a server of openpi such as ws://127.0.0.1:8000, got '{upstream}'")
    if steps_per_request is not None and steps_per_request < 1:
        raise UserError(f"expected 1 step per request or more, got {steps_per_request}")
    preset = policy.preset
    if preset is not None and base is None:
        raise UserError(
            "expected the position of the robot's base with a preset, whose requests have positions in the "
            "world frame, got none: it is -0.66 0 0.912 in libero_spatial and libero_goal, -0.6 0 0 in "
            "libero_object, and docs/serving.md lists the others"
        )
    if deadline <= 0:
        raise UserError(f"expected a deadline above 0, got {deadline:g}")
    limit, settings = _limit(model, calibration, threshold, on_warning)
    loaded = load_model(model, any_instruction)
    if isinstance(limit, _WarnWhereMissing):
        check_known(limit.calibration, loaded)
    spec, space = loaded.window_spec, policy.action_space
    for view in (views or {}).values():
        if view not in spec.views:
            raise UnknownNameError("view", view, spec.views)
    wire = Wire(
        dataclasses.replace(space, chunk=steps_per_request or space.chunk),
        views or policy.image_views,
        base or (0.0, 0.0, 0.0),
        (preset and preset.embodiment) or embodiment_of(loaded),
        preset,
    )
    hidden = wire.missing_views(spec)
    if len(hidden) == len(spec.views):
        raise UserError(f"expected an image of {' or '.join(spec.views)}, the views of the model; got none")
    limits = InterventionBudget(share=budget)
    settings = dataclasses.replace(settings, deadline=deadline, budget=limits, assist=assist)
    settings = dataclasses.replace(settings, retry_after=1 if retry else None)
    if learned_hand_back:
        found = limit.calibration.hand_back if isinstance(limit, _WarnWhereMissing) else None
        if found is None:
            raise UserError(
                "expected a calibration with a hand-back model, and no threshold in its place, got none: "
                "make one with `failsafe calibrate --hand-backs RESULTS`"
            )
        settings = dataclasses.replace(settings, hand_back=found)
    make_guard = guard_clients(loaded, limit, settings, wire, on_event)
    behind = Upstream(policy.url, policy.timeout, policy.connect_timeout, policy.headers)
    proxy = Proxy(behind, make_guard, host, port, admission, idle_timeout)
    known = known_instructions(loaded)
    sentence = preset.sentence if preset else None
    sent = tuple(map(sentence, known)) if sentence else known
    return Service(proxy, policy.url, loaded.name, hidden, sent, _describe(limit, known))


def _limit(
    model: str | RecoveryModel,
    calibration: str | Path | Calibration | None,
    threshold: float | None,
    on_warning: Callable[[str], None],
) -> tuple[float | Callable[[str], float], MonitorSettings]:
    """Return the alarm threshold, and the settings that it holds for."""
    if threshold is not None:
        if not 0 <= threshold < math.inf:
            raise UserError(f"expected a finite threshold of at least 0, got {threshold}")
        return threshold, MonitorSettings()
    if calibration is None:
        on_warning("there are no thresholds, so the monitor only observes: give a calibration or a threshold")
        return NEVER, MonitorSettings()
    if isinstance(calibration, Calibration):
        found = calibration
    elif isinstance(model, str):
        found = read_calibration(Path(calibration), model, fingerprint(model))
    else:
        found = read_calibration(Path(calibration))
    check_usable(found)
    return _WarnWhereMissing(found, on_warning), MonitorSettings(drift=found.drift)


def _describe(limit: float | Callable[[str], float], instructions: tuple[str, ...]) -> str:
    """Say in words when the monitor raises an alarm."""
    if isinstance(limit, _WarnWhereMissing):
        values = {limit(instruction) for instruction in instructions or limit.calibration.thresholds}
    else:
        values = {cast(float, limit)}
    found = sorted({f"{value:.3g}" for value in values if value != NEVER}, key=float)
    if not found:
        return "only observes"
    return f"alarms above {found[0]}" if len(found) == 1 else f"alarms above {found[0]} to {found[-1]}"


class _WarnWhereMissing:
    """The thresholds of a calibration; says once which instructions of clients have none.

    Instructions come from clients, who may send any number of any length: few are named, and none is kept.
    """

    def __init__(self, calibration: Calibration, on_warning: Callable[[str], None]) -> None:
        self.calibration, self._on_warning = calibration, on_warning
        self._named: set[int] = {hash("")}  # a monitor has no instruction before its first request
        self._lock = threading.Lock()

    def __call__(self, instruction: str) -> float:
        value = self.calibration.threshold(instruction)
        if value == NEVER:
            with self._lock:
                new = hash(instruction) not in self._named and len(self._named) <= _NAMED + 1
                if new:
                    self._named.add(hash(instruction))
                last = new and len(self._named) > _NAMED + 1
            if last:
                self._on_warning("there are more instructions without a threshold, which are not named")
            elif new:
                self._on_warning(f"no threshold for '{_short(instruction)}': the monitor only observes")
        return value


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]} ... ({len(text)} characters)"
