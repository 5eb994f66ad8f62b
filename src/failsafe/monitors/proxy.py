"""A proxy between a client and openpi's server: speaks its protocol on both sides, and lets a guard look on.

The server's metadata comes first; then each message is an observation, and each answer a chunk of actions. A
frame of text instead of bytes is what went wrong, and the connection is closed behind it. Needs websockets.
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
"""The most bytes of a message, either way: ten pictures of 1024x1024."""
MAX_CLIENTS = 16
_SEND_TIMEOUT = 30.0
_CLOSE_TIMEOUT = 0.5
_REASON = "Internal server error. Traceback included in previous frame."
"""What openpi's server closes with."""

_Side = TypeVar("_Side", bound=Connection)


class Guard(Protocol):
    """Looks on while a client and its server talk. Neither method may raise, or take for ever."""

    def see(self, request: bytes | str) -> None:
        """A request, which the server has already been sent."""
        ...

    def answer(self, reply: bytes) -> bytes:
        """What the client is given for the server's answer."""
        ...


@dataclass(frozen=True)
class Upstream:
    """The server behind the proxy.

    Attributes:
        url: Where it is, "ws://127.0.0.1:8000".
        timeout: Seconds for an answer.
        connect_timeout: Seconds for a connection, and for the metadata.
    """

    url: str
    timeout: float = 60.0
    connect_timeout: float = 5.0


class Proxy:
    """Listens from the moment it is made; `run` serves.

    Each client has a thread, a guard and a connection to the server behind of its own. Messages are passed on
    as they come, and so is the header "Authorization".

    Args:
        upstream: The server behind.
        make_guard: Makes the guard of a client; it is given the client's number, from 1.
        host: Name or address to listen on.
        port: Port to listen on; 0 for any that is free.

    Raises:
        UserError: If it cannot listen there.
    """

    def __init__(
        self, upstream: Upstream, make_guard: Callable[[int], Guard], host: str = LOOPBACK, port: int = 9000
    ) -> None:
        self._upstream, self._make_guard = upstream, make_guard
        self._numbers = itertools.count(1)
        self._seats = threading.BoundedSemaphore(MAX_CLIENTS)
        self._open: set[Connection] = set()
        self._changing = threading.Lock()
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
        """Port that it listens on."""
        return int(self._server.socket.getsockname()[1])

    def run(self) -> None:
        """Serve, until `stop` is called in another thread or something is raised in this one."""
        try:
            self._server.serve_forever()
        finally:
            self.stop()

    def stop(self) -> None:
        """Take no more clients, and close all connections, on both sides; for while or after it runs."""
        with self._changing:
            self._stopping = True
            still_open = list(self._open)
        for connection in still_open:
            connection.close(CloseCode.GOING_AWAY)
        self._server.shutdown()

    def _serve(self, client: ServerConnection) -> None:
        # Suppressed: the client is gone, and there is nobody to tell.
        with contextlib.suppress(ConnectionClosed), self._kept(client):
            try:
                if not self._seats.acquire(blocking=False):
                    raise PolicyError(f"expected at most {MAX_CLIENTS} clients at once, got one more")
                try:
                    self._serve_seated(client)
                finally:
                    self._seats.release()
            except PolicyError as error:
                if self._stopping:
                    client.close(CloseCode.GOING_AWAY)
                client.send(str(error))
                client.close(CloseCode.INTERNAL_ERROR, _REASON)

    def _serve_seated(self, client: ServerConnection) -> None:
        guard = self._make_guard(next(self._numbers))
        with self._kept(self._connect(client)) as upstream:
            client.send(self._receive(client, upstream, self._upstream.connect_timeout, "metadata"))
            for request in client:
                deadline = time.monotonic() + self._upstream.timeout
                try:
                    upstream.send(request)
                except ConnectionClosed as error:
                    raise self._lost("an answer", error) from None
                # While the server thinks: so a look costs time only where it takes the longer of the two.
                guard.see(request)
                left = max(deadline - time.monotonic(), 0.01)
                client.send(guard.answer(self._receive(client, upstream, left, "an answer")))

    def _connect(self, client: ServerConnection) -> ClientConnection:
        said = client.request.headers.get("Authorization") if client.request else None
        headers = {"Authorization": said} if said else None
        seconds = self._upstream.connect_timeout
        try:
            return open_connection(self._upstream.url, seconds, headers, MAX_BYTES)
        except (OSError, WebSocketException) as error:
            raise self._lost("a connection", error) from None

    def _receive(
        self, client: ServerConnection, upstream: ClientConnection, seconds: float, what: str
    ) -> bytes:
        """The next message of the server behind.

        Raises:
            ConnectionClosed: If it was one of text, which the client has been given, and the same close.
            PolicyError: If there is none in time.
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
    def _kept(self, connection: _Side) -> Generator[_Side, None, None]:
        """A connection, closed at the end, or when the proxy stops."""
        limit_sending(connection, _SEND_TIMEOUT)
        with connection:
            with self._changing:
                if self._stopping:
                    raise ConnectionClosed(None, None)
                self._open.add(connection)
            try:
                yield connection
            finally:
                with self._changing:
                    self._open.discard(connection)


def _health(connection: ServerConnection, request: Request) -> Response | None:
    """Says at `/healthz` that the proxy is up, as openpi's server does."""
    return connection.respond(http.HTTPStatus.OK, "OK\n") if request.path == "/healthz" else None
