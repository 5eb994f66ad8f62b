"""Serve a guarded policy: put a monitor between the clients of openpi's server and that server."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from failsafe.errors import UnknownNameError, UserError
from failsafe.models.contract import RecoveryModel
from failsafe.models.loading import COMPACT, fingerprint, load_model
from failsafe.monitors.calibration import NEVER, Calibration, check_usable, read_calibration
from failsafe.monitors.proxy import Proxy, Upstream
from failsafe.monitors.requests import Wire, guard_clients
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.contract import Policy
from failsafe.policies.loading import load_policy
from failsafe.policies.openpi import OpenpiPolicy
from failsafe.records import codec
from failsafe.records.event import Event, EventKind

LOOPBACK = "127.0.0.1"
"""Address that only this machine can reach."""
_ROUTINE = (EventKind.QUERY, EventKind.CHECK)
"""Events of every query: logged, not announced."""


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
    """

    proxy: Proxy
    upstream: str
    model: str
    missing_views: tuple[str, ...]


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
    base: tuple[float, float, float] = (0.0, 0.0, 0.0),
    deadline: float = 5.0,
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
        base: Position of the robot's base in the frame of the positions in a request's state, metres.
        deadline: Seconds after which an assessment is dropped.
        on_event: Called with the number of a client and an event, from several threads.
        on_warning: Called with a sentence about what limits the monitor.

    Raises:
        UserError: If a value is out of range, the server does not speak openpi's protocol, the calibration
            is of another model, or no image shows a view of the model.
    """
    policy = load_policy(upstream)
    if not isinstance(policy, OpenpiPolicy):
        raise UserError(f"expected a server of openpi such as ws://127.0.0.1:8000, got '{upstream}'")
    if steps_per_request is not None and steps_per_request < 1:
        raise UserError(f"expected 1 step per request or more, got {steps_per_request}")
    if deadline <= 0:
        raise UserError(f"expected a deadline above 0, got {deadline:g}")
    limit, settings = _limit(model, calibration, threshold, on_warning)
    loaded = load_model(model)
    spec, space = loaded.window_spec, policy.action_space
    for view in (views or {}).values():
        if view not in spec.views:
            raise UnknownNameError("view", view, spec.views)
    wire = Wire(
        dataclasses.replace(space, chunk=steps_per_request or space.chunk), views or policy.image_views, base
    )
    hidden = wire.missing_views(spec)
    if len(hidden) == len(spec.views):
        raise UserError(f"expected an image of {' or '.join(spec.views)}, the views of the model; got none")
    settings = dataclasses.replace(settings, deadline=deadline)
    make_guard = guard_clients(loaded, limit, settings, wire, on_event)
    behind = Upstream(policy.url, policy.timeout, policy.connect_timeout)
    return Service(Proxy(behind, make_guard, host, port), policy.url, loaded.name, hidden)


class EventLog:
    """Writes events to a file, one line of JSON each, and announces those that matter at once.

    Args:
        file: The file, None to write none.
        on_notable: Called with a line about an event that is not routine. An event that repeats the one
            before is announced once.
    """

    def __init__(self, file: TextIO | None, on_notable: Callable[[str], None] = _ignore) -> None:
        self._file, self._on_notable = file, on_notable
        self._lock = threading.Lock()
        self._last: dict[int, tuple[EventKind, str]] = {}

    def add(self, client: int, event: Event) -> None:
        """Log an event; may be called from several threads.

        Args:
            client: Number of the client.
            event: The event.
        """
        line = json.dumps({"client": client, **codec.to_plain(event)})
        with self._lock:
            if self._file is not None:
                print(line, file=self._file, flush=True)
            seen = (event.kind, event.description)
            if event.kind in _ROUTINE or self._last.get(client) == seen:
                return
            self._last[client] = seen
            description = f": {event.description}" if event.description else ""
            self._on_notable(f"client {client}, step {event.step}: {event.kind.value}{description}")


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
    return _warn_where_missing(found, on_warning), MonitorSettings(drift=found.drift)


def _warn_where_missing(
    calibration: Calibration, on_warning: Callable[[str], None]
) -> Callable[[str], float]:
    known: set[str] = {""}  # a monitor has no instruction before its first request

    def threshold(instruction: str) -> float:
        found = calibration.thresholds.get(instruction)
        if (found is None or found.value is None) and instruction not in known:
            known.add(instruction)
            on_warning(f"no threshold for '{instruction}': the monitor only observes")
        return calibration.threshold(instruction)

    return threshold
