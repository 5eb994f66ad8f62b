"""How verbs speak: a progress bar on a terminal, plain lines elsewhere, one JSON object with `--json`."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 10.0


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, indent=1, sort_keys=True))


class ProgressReporter:
    """Shows how far a piece of work is.

    Args:
        what: What is being done, in a word or two.
        total: How many pieces there are.
        quiet: Say nothing: the result will be JSON.
    """

    def __init__(self, what: str, total: int, quiet: bool = False) -> None:
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
            self._task = self._bar.add_task(what, total=total, note="")

    def __enter__(self) -> ProgressReporter:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, pieces: int = 1, note: str = "") -> None:
        """Some pieces more are done, perhaps none; the note says what else there is to know."""
        self._done += pieces
        if self._bar is not None:
            self._bar.update(self._task, advance=pieces, note=note)
            return
        now = time.monotonic()
        if self._quiet or (now - self._last_line < _SECONDS_BETWEEN_LINES and self._done < self._total):
            return
        if pieces or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            line = f"{self._what}: {self._done}/{self._total} after {now - self._begun:.0f} s"
            print(f"{line}; {note}" if note else line, file=sys.stderr, flush=True)
