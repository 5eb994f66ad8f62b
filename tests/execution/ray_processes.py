"""Processes of a Ray that a process started on this machine, found in /proc."""

from __future__ import annotations

import time
from pathlib import Path


def processes_of(driver: int, title: str = "") -> list[int]:
    """The processes that have this one among their ancestors, and a command line that begins so."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue  # it has ended

    def belongs(number: int) -> bool:
        while number in parents and number != driver:
            number = parents[number]
        return number == driver

    return [n for n in titles if n != driver and belongs(n) and titles[n].startswith(title)]


def wait_for_end(numbers: list[int], seconds: float = 15.0) -> list[int]:
    """Wait until processes have ended; return those that have not."""
    end = time.monotonic() + seconds
    while (left := [n for n in numbers if _runs(n)]) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def _runs(number: int) -> bool:
    try:
        return (Path("/proc") / str(number) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
