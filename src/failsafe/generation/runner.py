"""Who runs the lanes: this process, or several that may die.

Simulators do crash a process now and then. A worker that dies costs the item it was at: the lane goes on in
a new process, and an item that kills a second one is recorded as crashed and passed over.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from failsafe.errors import FailSafeError, StoreError, UserError
from failsafe.generation.config import GenerationConfig
from failsafe.generation.lane import LaneWorker, Progress, Sink

MAX_CRASHES = 2
"""Times that an item may kill a process before it is given up."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_lanes(
    config: GenerationConfig, sink: Sink, lanes: Sequence[int], tell: Callable[[Progress], None]
) -> None:
    """Run lanes one after another in this process, which a crash of the simulator ends."""
    worker = LaneWorker(config, sink, tell)
    try:
        for lane in lanes:
            worker.run(lane)
    finally:
        worker.close()


def run_processes(
    config: GenerationConfig,
    sink: Sink,
    lanes: Sequence[int],
    tell: Callable[[Progress], None],
    workers: int,
) -> None:
    """Run lanes in worker processes.

    Args:
        config: What the dataset is to hold.
        sink: Where to put it; travels to the workers.
        lanes: Lanes to run.
        tell: Called in this process after every work item.
        workers: Number of processes.

    Raises:
        FailSafeError: What stopped a worker for good (a full disk, a task that nobody solves).
    """
    for name in _THREADS:  # the work is many small steps: threads of one worker only take time from others
        os.environ.setdefault(name, "1")
    todo = deque(lanes)
    crashes: Counter[str] = Counter()
    running: list[_Worker] = []
    try:
        while todo or running:
            while todo and len(running) < workers:
                given_up = {name for name, n in crashes.items() if n >= MAX_CRASHES}
                running.append(_Worker.start(config, sink, todo, given_up))
            for ready in wait([w.connection for w in running]):
                worker = next(w for w in running if w.connection is ready)
                try:
                    message = cast(tuple[str, Any], worker.connection.recv())
                except (EOFError, OSError):
                    running.remove(worker)
                    _bury(worker, todo, crashes)
                    continue
                _handle(worker, message, todo, tell)
    finally:
        for worker in running:
            worker.stop()


@dataclass
class _Worker:
    """A process, the lane that it is at, and the item that it has begun."""

    process: Any
    connection: Connection
    lane: int | None = None
    item: str = ""

    @classmethod
    def start(cls, config: GenerationConfig, sink: Sink, todo: deque[int], given_up: set[str]) -> _Worker:
        context = mp.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(config, sink, theirs, given_up), daemon=True)
        process.start()
        theirs.close()
        worker = cls(process, ours)
        worker.give(todo)
        return worker

    def give(self, todo: deque[int]) -> None:
        """Hand out the next lane, or the word to go home."""
        self.lane, self.item = (todo.popleft() if todo else None), ""
        try:
            self.connection.send(self.lane)
        except (BrokenPipeError, OSError):
            return  # it has died: reading from it will say so

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(timeout=5)
        self.connection.close()


def _handle(
    worker: _Worker, message: tuple[str, Any], todo: deque[int], tell: Callable[[Progress], None]
) -> None:
    kind, content = message
    if kind == "begin":
        worker.item = content
    elif kind == "progress":
        worker.item = ""
        tell(content)
    elif kind == "lane_done":
        worker.give(todo)
    elif kind == "failed":
        name, text = content
        raise {"StoreError": StoreError, "UserError": UserError}.get(name, FailSafeError)(text)
    elif kind == "bug":
        raise RuntimeError(f"a worker process stopped at lane {worker.lane}:\n{content}")


def _bury(worker: _Worker, todo: deque[int], crashes: Counter[str]) -> None:
    """Put a dead worker's lane back, and remember what it died of."""
    worker.process.join(timeout=5)
    worker.connection.close()
    if worker.lane is None:
        return
    blamed = worker.item or f"the beginning of lane {worker.lane}"
    crashes[blamed] += 1
    if not worker.item and crashes[blamed] >= MAX_CRASHES:
        raise FailSafeError(
            f"a worker process died {MAX_CRASHES} times before its first item (exit code "
            f"{worker.process.exitcode}); `failsafe doctor` says what this machine can do"
        )
    todo.appendleft(worker.lane)


def _serve(config: GenerationConfig, sink: Sink, connection: Connection, given_up: set[str]) -> None:
    """What a worker process does: lanes, until there are none."""
    worker = LaneWorker(
        config,
        sink,
        tell=lambda progress: connection.send(("progress", progress)),
        begin=lambda name: connection.send(("begin", name)),
        give_up=given_up,
    )
    try:
        while (lane := connection.recv()) is not None:
            worker.run(lane)
            connection.send(("lane_done", lane))
    except FailSafeError as error:
        connection.send(("failed", (type(error).__name__, str(error))))
    except (BrokenPipeError, EOFError, KeyboardInterrupt):
        return  # whoever asked for the work is gone
    except Exception:  # a bug of ours is no crash of the simulator: it is shown, not retried
        connection.send(("bug", traceback.format_exc()))
    finally:
        worker.close()
