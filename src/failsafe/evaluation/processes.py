"""Work for several processes that may die: one item at a time to each, and a dead one costs only its item."""

from __future__ import annotations

import multiprocessing as mp
import os
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from failsafe.errors import FailSafeError, UserError

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
MAX_CRASHES = 2
"""Times that an item may kill a process before it is given up."""
_BEGUN = True
"""What a process says when it is there."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@runtime_checkable
class Job(Protocol[Item_contra]):
    """What a process does. It is sent to the process once, and keeps there what it makes."""

    def run(self, item: Item_contra) -> None:
        """Do one item, and store what comes of it."""
        ...

    def give_up(self, item: Item_contra) -> bool:
        """Store that an item has killed two processes; whether something of it is still to be done."""
        ...


def work_through(job: Job[Item], items: Iterable[Item], workers: int, tell: Callable[[Item], None]) -> None:
    """Do all items.

    Args:
        job: What is done with an item; must survive being pickled.
        items: The items.
        workers: Number of processes.
        tell: Called in this process after every item.

    Raises:
        FailSafeError: What an item raised on purpose; or that processes die before they have begun one.
        RuntimeError: What it raised by mistake, with its traceback.
    """
    if workers < 1:
        raise UserError(f"expected at least one process, got {workers}")
    for name in _THREADS:  # the work is many small steps: threads of one worker only take time from others
        os.environ.setdefault(name, "1")
    todo = deque(items)
    crashes: Counter[int] = Counter()
    stillborn = 0
    running: list[_Process[Item]] = []
    try:
        while todo or running:
            while todo and len(running) < workers:
                running.append(_Process(job, todo.popleft()))
            for ready in wait([process.connection for process in running]):
                process = next(p for p in running if p.connection is ready)
                item = process.item
                try:
                    said = process.connection.recv()
                except (EOFError, OSError):
                    running.remove(process)
                    process.stop()
                    if not process.begun:
                        stillborn += 1
                        if stillborn >= MAX_CRASHES:
                            raise FailSafeError(
                                f"{MAX_CRASHES} processes died before they had begun to work; "
                                "`failsafe doctor` says what this machine can do"
                            ) from None
                        todo.appendleft(item)
                        continue
                    crashes[id(item)] += 1
                    if crashes[id(item)] < MAX_CRASHES:
                        todo.appendleft(item)
                    elif job.give_up(item):
                        crashes[id(item)] = 0
                        todo.appendleft(item)
                    else:
                        tell(item)
                    continue
                if said is _BEGUN:
                    process.begun = True
                    continue
                if said is not None:
                    expected, words = said
                    raise FailSafeError(words) if expected else RuntimeError(f"a process stopped:\n{words}")
                tell(item)
                if todo:
                    process.give(todo.popleft())
                else:
                    running.remove(process)
                    process.stop()
    finally:
        for process in running:
            process.stop()


class _Process(Generic[Item]):
    """A process and the item that it is at."""

    def __init__(self, job: Job[Item], item: Item) -> None:
        context = mp.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(job, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.begun = False
        self.item = item
        self.give(item)

    def give(self, item: Item) -> None:
        self.item = item
        try:
            self.connection.send(item)
        except (BrokenPipeError, OSError):
            return  # it has died: reading from it will say so

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(timeout=5)
        self.connection.close()


def _serve(job: Job[Any], connection: Connection) -> None:
    try:
        connection.send(_BEGUN)
        while True:
            job.run(connection.recv())
            connection.send(None)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # whoever asked for the work is gone
    except FailSafeError as error:
        connection.send((True, str(error)))
    except Exception:  # a bug is shown, not retried
        connection.send((False, traceback.format_exc()))
