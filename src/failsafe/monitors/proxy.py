"""A proxy between a client and openpi's server, with a guard that may replace the server's answers.

The protocol on both sides is openpi's: first the server's metadata; then each message is an observation, and
each answer a chunk of actions. A text frame is an error message, after which the connection is closed. Needs
websockets.
"""

from __future__ import annotations

import contextlib
import http
import itertools
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection
from websockets.sync.connection import Connection
from websockets.sync.server import ServerConnection, serve

from failsafe.errors import PolicyError, UserError
from failsafe.policies.openpi import limit_sending, open_connection
from failsafe.policies.served import excerpt

LOOPBACK = "127.0.0.1"
MAX_BYTES = 32 * 2**20
"""Largest message in either direction, bytes: ten images of 1024x1024."""
MAX_CLIENTS = 16
_SEND_TIMEOUT = 30.0
_CLOSE_TIMEOUT = 0.5
_REASON = "Internal server error. Traceback included in previous frame."
"""The reason with which openpi's server closes a connection."""

_Side = TypeVar("_Side", bound=Connection)


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
    """

    url: str
    timeout: float = 60.0
    connect_timeout: float = 5.0


class Proxy:
    """A proxy that listens as soon as it is constructed; `run` serves.

    Each client has its own thread, guard and connection to the upstream server. Messages and the header
    "Authorization" pass unchanged.

    Args:
        upstream: The server behind the proxy.
        make_guard: Returns the guard of a client, from the client's number (1, 2, ...).
        host: Host name or address to listen on.
        port: Port to listen on; 0 for any free port.

    Raises:
        UserError: If the address cannot be listened on.
    """

    def __init__(
        self, upstream: Upstream, make_guard: Callable[[int], Guard], host: str = LOOPBACK, port: int = 9000
    ) -> None:
        self._upstream, self._make_guard = upstream, make_guard
        self._numbers = itertools.count(1)
        self._client_limit = threading.BoundedSemaphore(MAX_CLIENTS)
        self._open: set[Connection] = set()
        self._lock = threading.Lock()
        self._stopping = False
        try:
            self._server = serve(
                self._serve,
                host,
                port,
                compression=None,
                process_request=_health,
                close_timeout=_CLOSE_TIMEOUT,
                max_size=MAX_BYTES,
                family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            )
        except (OSError, OverflowError) as error:
            raise UserError(
                f"expected an address to listen on, got {host}:{port}: {excerpt(str(error))}"
            ) from error

    @property
    def port(self) -> int:
        """The port that the proxy listens on."""
        return int(self._server.socket.getsockname()[1])

    def run(self) -> None:
        """Serve until `stop` is called in another thread, or an exception is raised in this one."""
        try:
            self._server.serve_forever()
        finally:
            self.stop()

    def stop(self) -> None:
        """Refuse new clients and close all connections on both sides, during or after `run`."""
        with self._lock:
            self._stopping = True
            still_open = list(self._open)
        for connection in still_open:
            connection.close(CloseCode.GOING_AWAY)
        self._server.shutdown()

    def _serve(self, client: ServerConnection) -> None:
        # Suppressed: the client is gone, so no error can be reported to it.
        with contextlib.suppress(ConnectionClosed), self._closing(client):
            try:
                if not self._client_limit.acquire(blocking=False):
                    raise PolicyError(f"expected at most {MAX_CLIENTS} clients at once, got one more")
                try:
                    self._serve_client(client)
                finally:
                    self._client_limit.release()
            except PolicyError as error:
                if self._stopping:
                    client.close(CloseCode.GOING_AWAY)
                client.send(str(error))
                client.close(CloseCode.INTERNAL_ERROR, _REASON)

    def _serve_client(self, client: ServerConnection) -> None:
        guard = self._make_guard(next(self._numbers))
        with self._closing(self._connect(client)) as upstream:
            client.send(self._receive(client, upstream, self._upstream.connect_timeout, "metadata"))
            for request in client:
                deadline = time.monotonic() + self._upstream.timeout
                try:
                    upstream.send(request)
                except ConnectionClosed as error:
                    raise self._lost("an answer", error) from None
                # In parallel with the server: a query delays the client only if it takes longer than that.
                guard.on_request(request)
                left = max(deadline - time.monotonic(), 0.01)
                client.send(guard.on_answer(self._receive(client, upstream, left, "an answer")))

    def _connect(self, client: ServerConnection) -> ClientConnection:
        authorization = client.request.headers.get("Authorization") if client.request else None
        headers = {"Authorization": authorization} if authorization else None
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
            raise PolicyError(
                f"the server at {self._upstream.url}: expected {what} in time, got nothing"
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
        limit_sending(connection, _SEND_TIMEOUT)
        with connection:
            with self._lock:
                if self._stopping:
                    raise ConnectionClosed(None, None)
                self._open.add(connection)
            try:
                yield connection
            finally:
                with self._lock:
                    self._open.discard(connection)


def _health(connection: ServerConnection, request: Request) -> Response | None:
    """Answer `/healthz` as openpi's server does."""
    return connection.respond(http.HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None
