"""The log of a served monitor: events as lines of JSON, and announcements of those that matter.

The robot waits for whoever logs an event. So lines are written by a thread of the log's own: a disk that is
full, a pipe that nobody reads or a terminal that is held (Ctrl-S) costs lines, which are counted, but no
time.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from failsafe.errors import UserError
from failsafe.records import codec
from failsafe.records.event import Event, EventKind

_ROUTINE = (EventKind.QUERY, EventKind.CHECK)
"""Events of every query: logged, not announced."""
MAX_WAITING = 4096
"""Largest number of lines that wait to be written."""
_CLIENTS = 256
"""Clients whose last announcement is remembered."""
_CLOSE_SECONDS = 2.0


class EventLog:
    """Writes events to a file, one line of JSON each, and announces those that matter at once. Never raises.

    Args:
        path: The file, to which lines are appended; None to write none.
        announce: Called with a line about an event that is not routine, in the log's own thread. An event
            that repeats the one before is announced once.

    Raises:
        UserError: If the file cannot be opened.
    """

    def __init__(self, path: Path | None, announce: Callable[[str], None]) -> None:
        self._announce, self._path = announce, path
        try:
            # Not blocking: opening a named pipe that nobody reads would wait for ever.
            self._file = open(path, "ab", buffering=0, opener=_open) if path else None  # noqa: SIM115
        except OSError as error:
            raise UserError(f"expected a file to write events to, got {path}: {error.strerror}") from error
        self._last: OrderedDict[int, tuple[EventKind, str]] = OrderedDict()
        self._lines: queue.Queue[tuple[bytes, str] | None] = queue.Queue(MAX_WAITING)
        self._lock = threading.Lock()
        self._lost, self._torn, self._told = 0, False, False
        self._thread = threading.Thread(target=self._write_lines, name="event log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Number of events that were not written to the file."""
        return self._lost

    def add(self, client: int, event: Event) -> None:
        """Log an event; may be called from several threads.

        Args:
            client: Number of the client.
            event: The event.
        """
        line = json.dumps({"client": client, **codec.to_plain(event)}).encode() + b"\n"
        self._put(line if self._file else b"", self._announcement(client, event))

    def say(self, line: str) -> None:
        """Announce a line that is not an event.

        Args:
            line: The line.
        """
        self._put(b"", line)

    def close(self) -> None:
        """Write what waits, for a short time at most, and close the file."""
        with contextlib.suppress(queue.Empty):
            while True:
                try:
                    self._lines.put(None, timeout=_CLOSE_SECONDS)
                    break
                except queue.Full:  # nobody reads: the end takes the place of a line
                    entry = self._lines.get_nowait()
                    self._lost += bool(entry and entry[0])
        self._thread.join(_CLOSE_SECONDS)

    def _announcement(self, client: int, event: Event) -> str:
        seen = (event.kind, event.description)
        with self._lock:
            if event.kind in _ROUTINE or self._last.get(client) == seen:
                return ""
            self._last[client] = seen
            self._last.move_to_end(client)
            if len(self._last) > _CLIENTS:
                self._last.popitem(last=False)
        description = f": {event.description}" if event.description else ""
        return f"client {client}, step {event.step}: {event.kind.value}{description}"

    def _put(self, line: bytes, announcement: str) -> None:
        if not line and not announcement:
            return
        try:
            self._lines.put_nowait((line, announcement))
        except queue.Full:
            with self._lock:
                self._lost += bool(line)

    def _write_lines(self) -> None:
        while (entry := self._lines.get()) is not None:
            line, announcement = entry
            if line:
                self._write(line)
            if announcement:
                self._say(announcement)
        if self._lost:
            self._say(f"{self._lost} events are not in {self._path}")
        if self._file is not None:
            self._file.close()

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        try:
            # A line that was cut is ended first, so that it spoils no other.
            whole = b"\n" + line if self._torn else line
            written = self._file.write(whole) or 0
            self._torn = written < len(whole) and (self._torn or written > 0)
            problem = "" if written == len(whole) else "the file takes no more"
        except OSError as error:
            problem = error.strerror or type(error).__name__
        if problem:
            with self._lock:
                self._lost += 1
            if not self._told:
                self._told = True
                self._say(f"events cannot be written to {self._path}: {problem}; the robot is served on")

    def _say(self, line: str) -> None:
        try:
            self._announce(line)
        except Exception:  # a terminal that is gone must not end the thread
            return


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK, 0o644)
