"""The seats of a server: at most so many clients at once, and idle ones make room for others."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

Client = TypeVar("Client")


class Seats(Generic[Client]):
    """Seats for clients. If all are taken, the client that has been idle longest may lose its seat.

    Args:
        number: Number of seats.
        idle_timeout: Seconds without a request after which a client gives up its seat to another one.
    """

    def __init__(self, number: int, idle_timeout: float) -> None:
        self._number, self._idle_timeout = number, idle_timeout
        self._idle_since: dict[Client, float | None] = {}
        self._lock = threading.Lock()

    def take(self, client: Client) -> tuple[bool, Client | None]:
        """Give a client a seat, if there is one.

        Args:
            client: The client.

        Returns:
            Whether it has a seat, and the idle client that lost its seat, if one did.
        """
        with self._lock:
            lost = None
            if len(self._idle_since) >= self._number:
                since, lost = min(
                    ((since, client) for client, since in self._idle_since.items() if since is not None),
                    key=lambda pair: pair[0],
                    default=(time.monotonic(), None),
                )
                if lost is None or time.monotonic() - since < self._idle_timeout:
                    return False, None
                del self._idle_since[lost]
            self._idle_since[client] = time.monotonic()
            return True, lost

    def set_busy(self, client: Client, busy: bool) -> None:
        """Note that a request of a client has come, or that it has been answered.

        Args:
            client: The client.
            busy: Whether a request is being answered.
        """
        with self._lock:
            if client in self._idle_since:
                self._idle_since[client] = None if busy else time.monotonic()

    def leave(self, client: Client) -> None:
        """Free the seat of a client, if it has one.

        Args:
            client: The client.
        """
        with self._lock:
            self._idle_since.pop(client, None)
