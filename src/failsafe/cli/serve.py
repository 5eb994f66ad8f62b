"""`failsafe serve`: the monitor between a client of openpi's server and that server."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from failsafe.cli.output import print_json
from failsafe.errors import UserError
from failsafe.models.address import is_loopback
from failsafe.models.loading import COMPACT
from failsafe.policies.loading import load_policy

_HOST = "127.0.0.1"


def serve(
    upstream: str,
    monitor: str = COMPACT,
    listen: str = f"{_HOST}:9000",
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

    Clients connect here, and need no change. Serves until it is interrupted with Ctrl-C.

    Args:
        upstream: The server behind, ws://HOST:PORT. A query states what its actions mean, as for a policy:
            ws://127.0.0.1:8000?rotation=euler_xyz.
        monitor: Recovery model: "compact", or a checkpoint.
        listen: HOST:PORT, or a port of this machine alone; 0 for any free port.
        calibration: Thresholds made by `failsafe calibrate`. Without thresholds the monitor only observes.
        threshold: Alarm threshold in accumulated log odds (5, for example), in place of a calibration.
        steps_per_request: Actions of an answer that a client executes before its next request; 5 by default.
        views: Images of a request, "front=observation/image,hand=observation/wrist_image" by default.
        base: Position of the robot's base in the frame of the positions in "observation/state", metres.
        deadline: Seconds after which an assessment is dropped.
        events: File to append the monitor's events to, one line of JSON each.
        json: Print the address as JSON.
    """
    host, port = parse_address(listen)
    load_policy(upstream)  # says what is not installed before the imports that need it
    from failsafe.monitors.serving import EventLog, make_service

    with contextlib.ExitStack() as stack:
        log = EventLog(stack.enter_context(_append(events)) if events else None, _print_error)
        service = make_service(
            upstream,
            monitor,
            host=host,
            port=port,
            calibration=calibration,
            threshold=threshold,
            steps_per_request=steps_per_request,
            views=parse_views(views) if views else None,
            base=base,
            deadline=deadline,
            on_event=log.add,
            on_warning=lambda sentence: _print_error(f"failsafe: {sentence}"),
        )
        address = f"ws://{f'[{host}]' if ':' in host else host}:{service.proxy.port}"
        _announce(address, service.upstream, service.model, service.missing_views, json)
        if not is_loopback(host):
            _print_error(f"failsafe: anyone who reaches {listen} over the network can move the robot")
        _interrupt_on_signals()
        with contextlib.suppress(KeyboardInterrupt):
            service.proxy.run()
    return 0


def parse_address(text: str) -> tuple[str, int]:
    """Return the host and port of HOST:PORT; a port alone is one of this machine alone.

    Raises:
        UserError: If the text has another form.
    """
    host, _, port = f"{_HOST}:{text}".rpartition(":") if text.isdecimal() else text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host or not (port.isdecimal() and int(port) < 2**16):
        raise UserError(f"expected HOST:PORT such as {_HOST}:9000 to listen on, got '{text}'")
    return host, int(port)


def parse_views(text: str) -> Mapping[str, str]:
    """Return VIEW=KEY,VIEW=KEY as the view by the image's key.

    Raises:
        UserError: If the text has another form.
    """
    found: dict[str, str] = {}
    for pair in text.split(","):
        view, equals, key = (part.strip() for part in pair.partition("="))
        if not (view and equals and key) or key in found:
            raise UserError(f"expected views such as front=observation/image,hand=..., got '{text}'")
        found[key] = view
    return found


def _append(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"expected a file to write events to, got {path}: {error.strerror}") from error


def _announce(url: str, upstream: str, model: str, hidden: tuple[str, ...], json: bool) -> None:
    if json:
        print_json({"listening": url, "upstream": upstream, "monitor": model, "black": list(hidden)})
    else:
        print(f"listening on {url}; {model} monitors {upstream}")
        if hidden:
            print(f"no image shows {', '.join(hidden)}: the model sees black there")
    sys.stdout.flush()


def _print_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _interrupt_on_signals() -> None:
    """Let Ctrl-C and `kill` end the process cleanly, also where a shell started it in the background."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
