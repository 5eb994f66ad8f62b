"""The log of a served monitor never raises and never holds the robot up."""

from __future__ import annotations

import json
import os
import resource
import threading
import time
from pathlib import Path

import pytest

from failsafe.errors import UserError
from failsafe.monitors import event_log
from failsafe.monitors.event_log import EventLog
from failsafe.records.event import Event, EventKind

TAKE_OVER = Event(7, EventKind.TAKE_OVER, description="slip")


def test_lines_are_in_order_and_routine_is_not_announced(tmp_path: Path) -> None:
    said: list[str] = []
    log = EventLog(tmp_path / "events.jsonl", said.append)
    for event in (Event(1, EventKind.QUERY), TAKE_OVER, TAKE_OVER, Event(9, EventKind.HAND_BACK)):
        log.add(3, event)
    log.add(4, TAKE_OVER)
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(line["client"], line["step"]) for line in lines] == [(3, 1), (3, 7), (3, 7), (3, 9), (4, 7)]
    assert said == [
        "client 3, step 7: take_over: slip",
        "client 3, step 9: hand_back",
        "client 4, step 7: take_over: slip",
    ]
    assert log.lost == 0


def test_a_full_device_is_said_once_and_counted() -> None:
    said: list[str] = []
    log = EventLog(Path("/dev/full"), said.append)
    for step in range(5):
        log.add(1, Event(step, EventKind.QUERY))
    log.close()
    assert said == [
        "events cannot be written to /dev/full: No space left on device; the robot is served on",
        "5 events are not in /dev/full",
    ]
    assert log.lost == 5


def test_a_limit_of_the_file_size_spoils_one_line(tmp_path: Path) -> None:
    path, said = tmp_path / "events.jsonl", list[str]()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = EventLog(path, said.append)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        for step in range(4):
            log.add(1, Event(step, EventKind.QUERY))
        wait_until_written(log)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.add(1, Event(9, EventKind.QUERY))
    log.close()
    readable = []
    for line in path.read_text().splitlines():
        if line.endswith("}"):
            readable.append(json.loads(line)["step"])
    assert readable[-1] == 9, "the space is there again, and so is the log"
    assert log.lost == 5 - len(readable) > 0


def wait_until_written(log: EventLog) -> None:
    deadline = time.monotonic() + 5
    while not log._lines.empty() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)


def test_who_does_not_read_delays_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is held with Ctrl-S, or a pipe that nobody reads."""
    monkeypatch.setattr(event_log, "MAX_WAITING", 10)
    monkeypatch.setattr(event_log, "_CLOSE_SECONDS", 0.1)
    held = threading.Event()
    log = EventLog(tmp_path / "events.jsonl", lambda line: held.wait(10))
    begun = time.monotonic()
    for step in range(50):
        log.add(1, Event(step, EventKind.TAKE_OVER, description=str(step)))
    assert time.monotonic() - begun < 1
    assert log.lost >= 39
    log.close()
    assert time.monotonic() - begun < 2
    held.set()
    log._thread.join(5)


def test_an_announcement_that_fails_is_dropped(tmp_path: Path) -> None:
    def gone(line: str) -> None:
        raise BrokenPipeError

    log = EventLog(tmp_path / "events.jsonl", gone)
    log.add(1, TAKE_OVER)
    log.add(1, Event(8, EventKind.HAND_BACK))
    log.close()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 2


def test_clients_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(None, lambda line: None)
    for client in range(1000):
        log.add(client, TAKE_OVER)
    log.close()
    assert len(log._last) == 256


def test_files_that_cannot_be_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "no" / "events.jsonl", tmp_path, tmp_path / "pipe"):
        with pytest.raises(UserError, match="expected a file to write events to, got"):
            EventLog(path, lambda line: None)
