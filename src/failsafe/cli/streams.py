"""Standard output and standard error: any text can be printed, and no reader is a reason for a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import unicodedata

LONGEST = 4000
"""Most characters of an error message that are printed."""
_ESCAPED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that are not printed as they are: controls, formats, surrogates, line separators."""


class OutputLostError(Exception):
    """Standard output cannot be written to. The cause is the `OSError`."""


class _Output(io.TextIOWrapper):
    """Standard output, whose errors cannot be mistaken for those of other files."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputLostError from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputLostError from error


def prepare_streams() -> None:
    """Print characters that the terminal's encoding lacks as escapes, and tell errors of the output apart.

    Raises from then on, where standard output is written to:
        OutputLostError: If that is not possible.
    """
    if type(sys.stdout) is io.TextIOWrapper:  # not one that captures the output
        old = sys.stdout
        encoding, at_once = old.encoding, old.line_buffering
        sys.stdout = _Output(old.detach(), encoding, "backslashreplace", line_buffering=at_once)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def complain(message: str) -> None:
    """Print a message on standard error, if that can be written to."""
    with contextlib.suppress(OSError):
        print(f"failsafe: {message}", file=sys.stderr, flush=True)


def drop_output() -> None:
    """Let the rest of the output go nowhere: the interpreter writes it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """Return a text that may quote files and messages of others, safe for a terminal.

    Args:
        text: The text.

    Returns:
        The text with control characters as escapes, and at most `LONGEST` characters of it.
    """
    shown = "".join(
        c.encode("unicode_escape").decode("ascii") if unicodedata.category(c) in _ESCAPED else c
        for c in text[:LONGEST]
    )
    return shown if len(text) <= LONGEST else f"{shown} ... ({len(text)} characters)"
