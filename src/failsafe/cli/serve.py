"""`failsafe serve`: the monitor between a client of openpi's server and that server."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json as json_module
import math
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from failsafe.cli.output import print_json
from failsafe.errors import UnknownNameError, UserError
from failsafe.models.loading import COMPACT, fingerprint, load_model
from failsafe.monitors.calibration import NEVER, Calibration, read_calibration
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.loading import load_policy
from failsafe.records import codec
from failsafe.records.event import Event, EventKind

LOOPBACK = "127.0.0.1"
_QUIET = (EventKind.QUERY, EventKind.CHECK)


def serve(
    upstream: str,
    monitor: str = COMPACT,
    listen: str = f"{LOOPBACK}:9000",
    calibration: Path | None = None,
    threshold: float | None = None,
    steps_per_request: int | None = None,
    views: str = "",
    base: tuple[float, float, float] = (0.0, 0.0, 0.0),
    deadline: float = 5.0,
    events: Path | None = None,
    json: bool = False,
) -> int:
    """Serve a policy with the monitor around it, over openpi's protocol.

    Serves until it is interrupted with Ctrl-C.

    Args:
        upstream: The server behind, ws://HOST:PORT; what its actions mean is said as for a policy,
            ws://127.0.0.1:8000?rotation=euler_xyz.
        monitor: Recovery model: "compact", or a checkpoint.
        listen: HOST:PORT, or a port of this machine alone; 0 for any port that is free.
        calibration: Thresholds made by `failsafe calibrate`. Without thresholds the monitor only looks on.
        threshold: Alarm above this score (log odds that have added up, 5 say), in place of a calibration.
        steps_per_request: Actions of an answer that a client executes before it asks again; 5 by default.
        views: What the pictures of a request show, "front=observation/image,hand=observation/wrist_image" by
            default.
        base: Where the robot's base is in the frame of the positions in "observation/state", metres.
        deadline: Seconds after which a verdict is dropped.
        events: File for what the monitor sees and does, a line of JSON each; it is added to.
        json: Say as JSON where it listens.
    """
    host, port = parse_address(listen)
    policy = load_policy(upstream)
    # Imported only now: what they need may not be installed, and load_policy has said so.
    from failsafe.monitors.proxy import Proxy, Upstream
    from failsafe.monitors.requests import Wire, guard_clients
    from failsafe.policies.openpi import OpenpiPolicy

    if not isinstance(policy, OpenpiPolicy):
        raise UserError(f"expected a server of openpi such as ws://127.0.0.1:8000, got '{upstream}'")
    if steps_per_request is not None and steps_per_request < 1:
        raise UserError(f"expected 1 step per request or more, got {steps_per_request}")
    if deadline <= 0:
        raise UserError(f"expected a deadline above 0, got {deadline:g}")
    limit, settings = _limit(monitor, calibration, threshold)
    model = load_model(monitor)
    spec = model.window_spec
    space = policy.action_space
    wire = Wire(
        dataclasses.replace(space, chunk=steps_per_request or space.chunk),
        parse_views(views, spec.views) if views else policy.pictures,
        base,
    )
    hidden = wire.missing_views(spec)
    if len(hidden) == len(spec.views):
        raise UserError(
            f"expected a picture of {', '.join(spec.views)}: the model looks through nothing else"
        )
    settings = dataclasses.replace(settings, deadline=deadline)
    with contextlib.ExitStack() as stack:
        log = _EventLog(stack.enter_context(_append(events)) if events else None)
        make_guard = guard_clients(model, limit, settings, wire, log.tell)
        behind = Upstream(policy.url, policy.timeout, policy.connect_timeout)
        proxy = Proxy(behind, make_guard, host, port)
        _announce(f"ws://{_bracketed(host)}:{proxy.port}", policy.url, model.name, hidden, json)
        if not is_loopback(host):
            print(
                f"failsafe: anybody who reaches {listen} over the network can move the robot", file=sys.stderr
            )
        _end_when_told()
        with contextlib.suppress(KeyboardInterrupt):
            proxy.run()
    return 0


def _end_when_told() -> None:
    """Let Ctrl-C and `kill` end the process cleanly, also where a shell has started it in the background."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT as host and port; a port alone is one of this machine alone.

    Raises:
        UserError: If it is something else.
    """
    host, _, port = f"{LOOPBACK}:{text}".rpartition(":") if text.isdecimal() else text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host or not (port.isdecimal() and int(port) < 2**16):
        raise UserError(f"expected HOST:PORT such as {LOOPBACK}:9000 to listen on, got '{text}'")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether a host to listen on is out of reach for other machines."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_views(text: str, known: tuple[str, ...]) -> Mapping[str, str]:
    """VIEW=KEY,VIEW=KEY as the view by the picture's name.

    Args:
        text: What was typed.
        known: The views that the model looks through.

    Raises:
        UserError: If it is something else, or there is no such view.
    """
    found: dict[str, str] = {}
    for pair in text.split(","):
        view, equals, key = (part.strip() for part in pair.partition("="))
        if not (view and equals and key) or key in found:
            raise UserError(f"expected views such as front=observation/image,hand=..., got '{text}'")
        if view not in known:
            raise UnknownNameError("view", view, known)
        found[key] = view
    return found


class _EventLog:
    """Writes events where they are wanted; those that matter at once are said, too."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._writing = threading.Lock()
        self._said: dict[int, tuple[EventKind, str]] = {}

    def tell(self, client: int, event: Event) -> None:
        line = json_module.dumps({"client": client, **codec.to_plain(event)})
        with self._writing:
            if self._file is not None:
                print(line, file=self._file, flush=True)
            # A fault that comes with each request is said once.
            if event.kind in _QUIET or self._said.get(client) == (event.kind, event.description):
                return
            self._said[client] = (event.kind, event.description)
            description = f": {event.description}" if event.description else ""
            print(
                f"client {client}, step {event.step}: {event.kind.value}{description}",
                file=sys.stderr,
                flush=True,
            )


def _append(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"expected a file to write events to, got {path}: {error.strerror}") from error


def _limit(
    monitor: str, calibration: Path | None, threshold: float | None
) -> tuple[float | Callable[[str], float], MonitorSettings]:
    """Score above which an alarm is raised, and the settings that it holds for."""
    if threshold is not None:
        if not 0 <= threshold < math.inf:
            raise UserError(f"expected a finite threshold of at least 0, got {threshold}")
        return threshold, MonitorSettings()
    if calibration is None:
        print(
            "failsafe: there are no thresholds, so the monitor only looks on: give some made by "
            "`failsafe calibrate` with --calibration, or choose one with --threshold",
            file=sys.stderr,
        )
        return NEVER, MonitorSettings()
    found = read_calibration(calibration, monitor, fingerprint(monitor))
    return _saying_where_none(found), MonitorSettings(drift=found.drift)


def _saying_where_none(calibration: Calibration) -> Callable[[str], float]:
    silent: set[str] = {""}  # a monitor has no instruction before its first request

    def threshold(instruction: str) -> float:
        found = calibration.thresholds.get(instruction)
        if (found is None or found.value is None) and instruction not in silent:
            silent.add(instruction)
            print(f"failsafe: no threshold for '{instruction}': the monitor only looks on", file=sys.stderr)
        return calibration.threshold(instruction)

    return threshold


def _announce(url: str, upstream: str, model: str, hidden: tuple[str, ...], json: bool) -> None:
    if json:
        print_json({"listening": url, "upstream": upstream, "monitor": model, "black": list(hidden)})
    else:
        print(f"listening on {url}; {model} looks on, in front of {upstream}")
        if hidden:
            print(f"the model looks through {', '.join(hidden)} too, and no picture shows it: it sees black")
    sys.stdout.flush()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
