"""`failsafe serve`: the monitor between a client of openpi's server and that server."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from failsafe.cli.output import print_json
from failsafe.cli.parsing import parse_names
from failsafe.cli.streams import printable
from failsafe.errors import UserError
from failsafe.models.address import is_loopback, read_key
from failsafe.models.loading import COMPACT
from failsafe.policies.loading import load_policy

if TYPE_CHECKING:
    from failsafe.monitors.serving import Service

_HOST = "127.0.0.1"
TOKEN = "FAILSAFE_SERVE_TOKEN"
"""The environment variable with the token that clients must send."""


def serve(
    upstream: str,
    monitor: str = COMPACT,
    listen: str = f"{_HOST}:9000",
    calibration: Path | None = None,
    threshold: float | None = None,
    steps_per_request: int | None = None,
    views: str = "",
    base: tuple[float, float, float] | None = None,
    deadline: float = 5.0,
    any_instruction: bool = False,
    idle_timeout: float = 900.0,
    allow: str = "",
    budget: float = 0.25,
    assist: bool = False,
    learned_hand_back: bool = False,
    retry: bool = False,
    events: Path | None = None,
    json: bool = False,
) -> int:
    """Serve a policy with the monitor around it, over openpi's protocol.

    Clients connect here, and need no change. Connections are refused until the server behind answers, as
    openpi's client expects it. Serves until it is interrupted with Ctrl-C. With a token in the environment
    variable FAILSAFE_SERVE_TOKEN, clients must send "Authorization: Api-Key TOKEN"; a key for the server
    behind is taken from FAILSAFE_OPENPI_API_KEY.

    Args:
        upstream: The server behind, ws://HOST:PORT. A query states what its actions mean, as for a policy:
            ws://127.0.0.1:8000?rotation=euler_xyz. For clients that run LIBERO's evaluation:
            ws://127.0.0.1:8000?preset=libero.
        monitor: Recovery model: "compact", or a checkpoint.
        listen: HOST:PORT, or a port of this machine alone; 0 for any free port.
        calibration: Thresholds made by `failsafe calibrate`. Without thresholds the monitor only observes.
        threshold: Alarm threshold in accumulated log odds (5, for example), in place of a calibration.
        steps_per_request: Actions of an answer that a client executes before its next request; 5 by default.
        views: Images of a request, "front=observation/image,hand=observation/wrist_image" by default.
        base: Position of the robot's base in the frame of the positions in "observation/state", metres; its
            origin by default, and needed with preset=libero.
        deadline: Seconds after which an assessment is dropped.
        any_instruction: Also assess instructions that the model was not trained on.
        idle_timeout: Seconds without a request after which a client is disconnected, if all 16 places are
            taken and another client needs one.
        allow: Host names, separated by commas, that clients may use for this machine beside its addresses,
            and from which web pages may connect.
        budget: Largest share of 20 seconds of an episode in which the monitor acts, 0 to 1; with 0 it only
            watches.
        assist: Go on as the expert after the corrections, in place of handing back at once.
        learned_hand_back: Hand back where the policy is likely to succeed, in place of at once; the
            thresholds need a hand-back model (`failsafe calibrate --hand-backs`).
        retry: Begin anew from the start in place of a correction that was undone, and where the model sees no
            way back.
        events: File to append the monitor's events to, one line of JSON each.
        json: Print the address as JSON.
    """
    host, port = parse_address(listen)
    load_policy(upstream)  # says what is not installed before the imports that need it
    from failsafe.monitors.admission import Admission
    from failsafe.monitors.event_log import EventLog
    from failsafe.monitors.serving import make_service

    with contextlib.closing(EventLog(events, _print_error)) as log:
        admission = Admission(parse_names(allow), read_key(TOKEN))
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
            any_instruction=any_instruction,
            idle_timeout=idle_timeout,
            admission=admission,
            budget=budget,
            assist=assist,
            learned_hand_back=learned_hand_back,
            retry=retry,
            on_event=log.add,
            on_warning=lambda sentence: log.say(f"failsafe: {sentence}"),
        )
        address = f"ws://{f'[{host}]' if ':' in host else host}:{service.proxy.port}"
        if not is_loopback(host) and not admission.token:
            log.say(
                f"failsafe: anyone who reaches {listen} over the network can move the robot: set {TOKEN} to "
                "a token, and give it to the clients as their API key"
            )
        _interrupt_on_signals()
        with contextlib.suppress(KeyboardInterrupt):
            service.proxy.run(
                on_ready=lambda: _announce(address, service, json),
                on_waiting=lambda reason: log.say(
                    f"failsafe: waiting for the server at {service.upstream} ({reason}); clients are refused "
                    "until it answers"
                ),
            )
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


def _announce(url: str, service: Service, json: bool) -> None:
    known, hidden = service.instructions, service.missing_views
    if json:
        print_json(
            {
                "listening": url,
                "upstream": service.upstream,
                "monitor": service.model,
                "black": list(hidden),
                "instructions": list(known),
                "alarms": service.alarms,
            }
        )
    else:
        print(f"listening on {url}; {service.model} monitors {service.upstream}: {service.alarms}")
        if known:
            shown = "', '".join(map(printable, known))
            print(f"the model knows {len(known)} instructions, which must be sent word for word: '{shown}'")
        if hidden:
            print(f"no image shows {', '.join(hidden)}: the model sees black there")
    sys.stdout.flush()


def _print_error(line: str) -> None:
    # Lines quote clients: their control characters must not reach the terminal.
    print(printable(line), file=sys.stderr, flush=True)


def _interrupt_on_signals() -> None:
    """Let Ctrl-C and `kill` end the process cleanly, also where a shell started it in the background."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
