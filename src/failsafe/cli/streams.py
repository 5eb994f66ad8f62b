"""Standard output and standard error: any text can be printed, no reader is a reason for a traceback."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
import unicodedata
from types import TracebackType

LONGEST = 4000
"""Most characters of an error message that are printed."""
_ESCAPED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that are not printed as they are: controls, formats, surrogates, line separators."""


class OutputLostError(Exception):
    """Standard output cannot be written to. The cause is the `OSError`."""


class _Output(io.TextIOWrapper):
    """Standard output: shows control characters, and its errors cannot be mistaken for those of other files.

    Everything that a verb prints passes here, text of datasets, records and messages included.
    """

    def write(self, text: str, /) -> int:
        self.write_styled(show_controls(text))
        return len(text)

    def write_styled(self, text: str) -> None:
        """Write text of FailSafe's own with its control characters, which set colours."""
        try:
            super().write(text)
        except OSError as error:
            raise OutputLostError from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputLostError from error


class StyledOutput(io.TextIOBase):
    """Standard output for a table of FailSafe's own text, in colours where it is a terminal."""

    def write(self, text: str, /) -> int:
        """Write text with its control characters."""
        if isinstance(sys.stdout, _Output):
            sys.stdout.write_styled(text)
        else:
            sys.stdout.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is waiting."""
        sys.stdout.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return sys.stdout.isatty()

    def fileno(self) -> int:
        """Return the number of the file, by which its width is found."""
        return sys.stdout.fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The encoding."""
        return sys.stdout.encoding


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
    sys.excepthook = _print_bug


def _print_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of a bug. Its message may quote others."""
    with contextlib.suppress(OSError):
        print(show_controls("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr)


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
    shown = show_controls(text[:LONGEST], keep="")
    return shown if len(text) <= LONGEST else f"{shown} ... ({len(text)} characters)"


def show_controls(text: str, keep: str = "\n\t") -> str:
    """Return a text with its control characters as escapes.

    Args:
        text: The text.
        keep: Those that stay as they are.
    """

    def shown(part: str) -> str:
        if part.isprintable():
            return part
        return "".join(
            c.encode("unicode_escape").decode("ascii")
            if c not in keep and unicodedata.category(c) in _ESCAPED
            else c
            for c in part
        )

    return "\n".join(map(shown, text.split("\n"))) if "\n" in keep else shown(text)
