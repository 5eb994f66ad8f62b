"""Output of the verbs: a progress bar on a terminal, plain lines otherwise, one JSON object with `--json`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from failsafe.cli.streams import printable

_SECONDS_BETWEEN_LINES = 10.0


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(value, indent=1, sort_keys=True))


class ProgressReporter:
    """Shows the progress of a verb on standard error.

    Args:
        what: What is counted, in a word or two.
        total: Number of pieces; 0 if the first `update` states it.
        quiet: Show nothing, because the result is JSON.
    """

    def __init__(self, what: str, total: int = 0, quiet: bool = False) -> None:
        self._what, self._total, self._quiet = what, total, quiet
        self._done = 0
        self._begun = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        console = Console(stderr=True)
        if console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
            )
            self._task = self._bar.add_task(what, total=total or None, note="")

    def __enter__(self) -> ProgressReporter:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun

    def update(self, done: int, total: int, note: str = "") -> None:
        """Set how many pieces are done, and how many there are.

        Args:
            done: Number of pieces that are done.
            total: Number of pieces.
            note: What else to show.
        """
        self._total = total
        if self._bar is not None:
            self._bar.update(self._task, total=total)
        self.advance(done - self._done, note)

    def advance(self, pieces: int = 1, note: str = "") -> None:
        """Count pieces that are done.

        Args:
            pieces: How many more, perhaps 0.
            note: What else to show.
        """
        self._done += pieces
        note = printable(note)
        if self._bar is not None:
            self._bar.update(self._task, advance=pieces, note=note)
            return
        now = time.monotonic()
        if self._quiet or (now - self._last_line < _SECONDS_BETWEEN_LINES and self._done < self._total):
            return
        if pieces or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            line = f"{self._what}: {self._done}/{self._total} after {now - self._begun:.0f} s"
            with contextlib.suppress(OSError):  # work goes on if nobody can read how far it is
                print(f"{line}; {note}" if note else line, file=sys.stderr, flush=True)
