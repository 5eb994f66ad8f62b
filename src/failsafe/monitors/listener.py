"""A listening socket that connections without a word cannot exhaust.

A connection counts as opening until its WebSocket handshake is done. Beyond a number of those, the oldest
one is closed in favour of a new one, so that silent connections delay nobody. Running out of file descriptors
or memory is waited out, because the connections that exist must go on.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

MAX_OPENING = 32
"""Largest number of connections before the end of their handshake."""
MAX_THREADS = 96
"""Threads of connections, closing ones included, above which accepting pauses."""
_PAUSE = 0.02
_TRANSIENT = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.EPERM,  # a firewall's rule
        errno.EINTR,
        errno.EAGAIN,
    }
)

Handler = Callable[[socket.socket, Any], None]
"""Serves one connection, from its socket and its address."""


class Listener(socket.socket):
    """A bound TCP socket whose `accept` limits connections before their handshake and survives shortages.

    It refuses connections until `listen` is called.

    Args:
        host: Host name or address to bind to.
        port: Port; 0 for any free one.

    Attributes:
        problem: Why `accept` has failed; empty as long as it has not.

    Raises:
        OSError, OverflowError: If the address cannot be bound to.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self.problem = ""
        self._opening: dict[socket.socket, None] = {}
        self._threads = 0
        self._lock = threading.Lock()
        try:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind((host, port))
        except BaseException:
            self.close()
            raise

    def accept(self) -> tuple[socket.socket, Any]:
        """Wait for a connection.

        Raises:
            OSError: If the socket is closed, or cannot accept for another reason than a shortage.
        """
        while True:
            while self._threads >= MAX_THREADS and self.fileno() >= 0:
                time.sleep(_PAUSE)
            try:
                connection, address = super().accept()
            except OSError as error:
                if self.fileno() < 0 or error.errno not in _TRANSIENT:
                    self.problem = error.strerror or type(error).__name__
                    raise
                time.sleep(_PAUSE)
                continue
            with self._lock:
                self._opening[connection] = None
                late = next(iter(self._opening)) if len(self._opening) > MAX_OPENING else None
                self._opening.pop(late, None) if late else None
            if late:
                _shut(late)
            return connection, address

    def counted(self, serve: Handler) -> Handler:
        """Return a handler that keeps the count of threads and opening connections.

        Args:
            serve: Serves a connection, its handshake included.
        """

        def handle(connection: socket.socket, address: Any) -> None:
            with self._lock:
                self._threads += 1
            try:
                serve(connection, address)
            finally:
                with self._lock:
                    self._threads -= 1
                    self._opening.pop(connection, None)

        return handle

    def opened(self, connection: socket.socket) -> None:
        """Count a connection as open: its handshake is done.

        Args:
            connection: Its socket.
        """
        with self._lock:
            self._opening.pop(connection, None)

    def drop_opening(self) -> None:
        """Close every connection whose handshake is not done."""
        with self._lock:
            opening = list(self._opening)
            self._opening.clear()
        for connection in opening:
            _shut(connection)


def _shut(connection: socket.socket) -> None:
    """End a connection; its own thread then closes the socket."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # its peer, or its thread, was faster
