"""A proxy between a client and openpi's server, with a guard that may replace the server's answers.

The protocol on both sides is openpi's: first the server's metadata; then each message is an observation, and
each answer a chunk of actions. A text frame is an error message, after which the connection is closed. Needs
websockets.
"""

from __future__ import annotations

import contextlib
import http
import itertools
import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection
from websockets.sync.connection import Connection
from websockets.sync.server import Server, ServerConnection, serve

from failsafe.errors import PolicyError, UserError
from failsafe.models.address import is_loopback
from failsafe.monitors.admission import Admission, is_address
from failsafe.monitors.listener import Listener
from failsafe.monitors.seats import Seats
from failsafe.policies.openpi import limit_sending, open_connection
from failsafe.policies.served import excerpt

LOOPBACK = "127.0.0.1"
MAX_BYTES = 32 * 2**20
"""Largest message in either direction, bytes: ten images of 1024x1024."""
MAX_CLIENTS = 16
IDLE_TIMEOUT = 900.0
"""Seconds without a request after which a client gives up its seat, if another client needs it."""
_OPEN_TIMEOUT = 5.0
"""Longest handshake, seconds."""
_MAX_WAITING = 4
"""Messages of a client that wait to be read; a client of openpi sends one at a time."""
_BETWEEN_PROBES = 1.0
"""Seconds between two tries to reach the upstream server at the start."""
_SEND_TIMEOUT = 30.0
_CLOSE_TIMEOUT = 0.5
_METADATA = "metadata"
_WANTS_A_KEY = (401, 403)
"""Status codes of a server that is up and refuses a handshake without a key."""
_REASON = "Internal server error. Traceback included in previous frame."
"""The reason with which openpi's server closes a connection."""

_Side = TypeVar("_Side", bound=Connection)

# What websockets logs is either told to the client, or is a client's affair: no tracebacks on standard error.
_logger = logging.getLogger("failsafe.proxy")
_logger.addHandler(logging.NullHandler())
_logger.propagate = False


class Guard(Protocol):
    """Observes one client and its server. Methods must not raise, and must return within a bounded time."""

    def on_request(self, request: bytes | str) -> None:
        """Observe a request, which has already been sent to the server."""
        ...

    def on_answer(self, answer: bytes) -> bytes:
        """Return what the client gets for the server's answer."""
        ...


@dataclass(frozen=True)
class Upstream:
    """The server behind the proxy.

    Attributes:
        url: Its address, such as "ws://127.0.0.1:8000".
        timeout: Longest wait for an answer, seconds.
        connect_timeout: Longest wait for a connection, and for the metadata, seconds.
        headers: Headers of the handshake, with the key of the server for example.
    """

    url: str
    timeout: float = 60.0
    connect_timeout: float = 5.0
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


class Proxy:
    """A proxy that reserves its port when it is constructed, and serves in `run`.

    Each client has its own thread, guard and connection to the upstream server. Messages pass unchanged, and
    so does the header "Authorization", unless it holds the proxy's own token.

    Args:
        upstream: The server behind the proxy.
        make_guard: Returns the guard of a client, from the client's number (1, 2, ...).
        host: Host name or address to listen on.
        port: Port to listen on; 0 for any free port.
        admission: Who may connect. Default: clients that are no web pages and name an address of this
            machine.
        idle_timeout: Seconds without a request after which a client gives up its seat, if all `MAX_CLIENTS`
            are taken and another client needs it.

    Raises:
        UserError: If the address cannot be listened on, or the time-out is not above 0.
    """

    def __init__(
        self,
        upstream: Upstream,
        make_guard: Callable[[int], Guard],
        host: str = LOOPBACK,
        port: int = 9000,
        admission: Admission | None = None,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        if not idle_timeout > 0:
            raise UserError(f"expected an idle time-out above 0, got {idle_timeout:g}")
        admission = admission or Admission()
        listened_on = () if is_address(host) or is_loopback(host) else (host,)
        self._admission = replace(admission, hosts=(*admission.hosts, *listened_on))
        self._upstream, self._make_guard = upstream, make_guard
        self._numbers = itertools.count(1)
        self._seats: Seats[ServerConnection] = Seats(MAX_CLIENTS, idle_timeout)
        self._open: set[Connection] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._server: Server | None = None
        try:
            self._listener = Listener(host, port)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"expected an address to listen on, got {host}:{port}: {excerpt(str(error))}"
            ) from error

    @property
    def port(self) -> int:
        """The port that the proxy listens on."""
        return int(self._listener.getsockname()[1])

    def run(
        self,
        on_ready: Callable[[], None] = lambda: None,
        on_waiting: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Serve until `stop` is called in another thread, or an exception is raised in this one.

        Until the upstream server answers for the first time, connections are refused: openpi's client then
        waits, as it does for a server that loads its model.

        Args:
            on_ready: Called when clients can connect.
            on_waiting: Called once with the reason, if the upstream server does not answer at once.

        Raises:
            PolicyError: If no clients can be accepted any more.
        """
        try:
            if self._wait_for_upstream(on_waiting):
                self._listener.listen()
                on_ready()
                self._server = self._make_server()
                self._server.serve_forever()
                if not self._stop.is_set():
                    raise PolicyError(
                        "expected to go on accepting clients, got a listening socket that fails: "
                        f"{self._listener.problem}"
                    )
        except (OSError, RuntimeError) as error:  # no thread can be started, for example
            if not self._stop.is_set():
                raise PolicyError(
                    f"expected to go on accepting clients, got {type(error).__name__}: {excerpt(str(error))}"
                ) from error
        finally:
            self.stop()

    def stop(self) -> None:
        """Refuse new clients and close all connections on both sides, during or after `run`."""
        with self._lock:
            self._stop.set()
            still_open = list(self._open)
        for connection in still_open:
            connection.close(CloseCode.GOING_AWAY)
        self._listener.drop_opening()
        if self._server is not None:
            self._server.shutdown()
        else:
            self._listener.close()

    def _make_server(self) -> Server:
        server = serve(
            self._serve,
            sock=self._listener,
            compression=None,
            process_request=self._admit,
            open_timeout=_OPEN_TIMEOUT,
            close_timeout=_CLOSE_TIMEOUT,
            max_size=MAX_BYTES,
            max_queue=_MAX_WAITING,
            logger=_logger,
        )
        server.handler = self._listener.counted(server.handler)
        return server

    def _wait_for_upstream(self, on_waiting: Callable[[str], None]) -> bool:
        """Wait until the upstream server answers a handshake; return False if the proxy stops first."""
        upstream, told = self._upstream, False
        while not self._stop.is_set():
            try:
                with open_connection(
                    upstream.url, upstream.connect_timeout, upstream.headers, MAX_BYTES
                ) as connection:
                    connection.recv(timeout=upstream.connect_timeout)
                return True
            except (OSError, WebSocketException, TimeoutError) as error:
                if isinstance(error, InvalidStatus) and error.response.status_code in _WANTS_A_KEY:
                    return True  # its clients have the key
                if not told:
                    told = True
                    on_waiting(excerpt(str(error) or type(error).__name__))
            self._stop.wait(_BETWEEN_PROBES)
        return False

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer `/healthz` as openpi's server does, and refuse clients that may not connect."""
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        refused = self._admission.refusal(request.headers)
        return connection.respond(refused[0], refused[1] + "\n") if refused else None

    def _serve(self, client: ServerConnection) -> None:
        self._listener.opened(client.socket)
        # Suppressed: the client is gone, so no error can be reported to it.
        with contextlib.suppress(ConnectionClosed), self._closing(client):
            try:
                seated, idle = self._seats.take(client)
                if idle is not None:
                    idle.close(CloseCode.POLICY_VIOLATION, "idle, and another client needs the seat")
                if not seated:
                    raise PolicyError(f"expected at most {MAX_CLIENTS} clients at once, got one more")
                self._serve_client(client)
            except PolicyError as error:
                if self._stop.is_set():
                    client.close(CloseCode.GOING_AWAY)
                client.send(str(error))
                client.close(CloseCode.INTERNAL_ERROR, _REASON)
            finally:
                self._seats.leave(client)

    def _serve_client(self, client: ServerConnection) -> None:
        guard = self._make_guard(next(self._numbers))
        with self._closing(self._connect(client)) as upstream:
            client.send(self._receive(client, upstream, self._upstream.connect_timeout, _METADATA))
            for request in client:
                self._seats.set_busy(client, True)
                deadline = time.monotonic() + self._upstream.timeout
                try:
                    upstream.send(request)
                except ConnectionClosed as error:
                    raise self._lost("an answer", error) from None
                # In parallel with the server: a query delays the client only if it takes longer than that.
                guard.on_request(request)
                left = max(deadline - time.monotonic(), 0.01)
                client.send(guard.on_answer(self._receive(client, upstream, left, "an answer")))
                self._seats.set_busy(client, False)

    def _connect(self, client: ServerConnection) -> ClientConnection:
        headers = self._upstream.headers
        authorization = client.request.headers.get("Authorization") if client.request else None
        if authorization and not self._admission.token:
            headers = {**headers, "Authorization": authorization}
        seconds = self._upstream.connect_timeout
        try:
            return open_connection(self._upstream.url, seconds, headers, MAX_BYTES)
        except (OSError, WebSocketException) as error:
            raise self._lost("a connection", error) from None

    def _receive(
        self, client: ServerConnection, upstream: ClientConnection, seconds: float, what: str
    ) -> bytes:
        """Return the server's next message.

        Args:
            client: The client's connection, which gets a text frame and the close that follows it.
            upstream: The server's connection.
            seconds: Longest wait.
            what: Name of the message, for the error message.

        Raises:
            ConnectionClosed: If the message is a text frame.
            PolicyError: If no message arrives in time.
        """
        try:
            frame = upstream.recv(timeout=seconds)
        except TimeoutError:
            setting = "connect_timeout" if what == _METADATA else "timeout"
            limit: float = getattr(self._upstream, setting)
            raise PolicyError(
                f"the server at {self._upstream.url}: expected {what} within {limit:g} s, got nothing: see "
                f"whether the server is busy, or allow more time with ?{setting}={2 * limit:g} behind its "
                "address"
            ) from None
        except ConnectionClosed as error:
            raise self._lost(what, error) from None
        if isinstance(frame, bytes):
            return frame
        client.send(frame)
        code, reason = CloseCode.INTERNAL_ERROR, _REASON
        try:
            upstream.recv(timeout=_CLOSE_TIMEOUT)
        except TimeoutError:
            pass
        except ConnectionClosed as error:
            if error.rcvd is not None:
                code, reason = error.rcvd.code, error.rcvd.reason
        client.close(code, reason)
        raise ConnectionClosed(None, None)

    def _lost(self, what: str, error: Exception) -> PolicyError:
        description = excerpt(str(error) or type(error).__name__)
        return PolicyError(
            f"the server at {self._upstream.url}: expected {what}, got no connection, or a dropped one "
            f"({description})"
        )

    @contextlib.contextmanager
    def _closing(self, connection: _Side) -> Generator[_Side, None, None]:
        """Close a connection at the end of the context, or when the proxy stops."""
        try:
            limit_sending(connection, _SEND_TIMEOUT)
        except OSError:  # its socket is closed already
            raise ConnectionClosed(None, None) from None
        with connection:
            with self._lock:
                if self._stop.is_set():
                    raise ConnectionClosed(None, None)
                self._open.add(connection)
            try:
                yield connection
            finally:
                with self._lock:
                    self._open.discard(connection)
