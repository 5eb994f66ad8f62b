"""Work for several processes that may die: one item at a time to each, a dead one costs what it was at.

Simulators do crash a process now and then. What it was at is tried once more, in a new process, and given up
if that one dies of it, too.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import traceback
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from failsafe.errors import FailSafeError, UserError

Item = TypeVar("Item", bound=Hashable)
Item_contra = TypeVar("Item_contra", contravariant=True)
MAX_CRASHES = 2
"""Times that something may kill a process before it is given up."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_THERE, _BEGIN, _NEWS, _DONE, _ERROR, _BUG = "there", "begin", "news", "done", "error", "bug"
"""What a process says: that it is there, what part of the item it begins, something about it, that it is done
with it, or why it stops."""


def ignore(_: Any) -> None:
    """Nobody listens."""


class Line:
    """What a process at work on an item says to the one that gave it.

    Args:
        send: Takes what is said, a word and what goes with it; by default nobody does.
    """

    def __init__(self, send: Callable[[tuple[str, Any]], None] = ignore) -> None:
        self._send = send

    def begin(self, part: str) -> None:
        """A part of the item is begun: if the process dies, this is what it died of."""
        self._send((_BEGIN, part))

    def tell(self, news: object) -> None:
        """Something that the others are to hear of."""
        self._send((_NEWS, news))


SILENT = Line()


@runtime_checkable
class Job(Protocol[Item_contra]):
    """What a process does. It is sent to every new process, which keeps what it makes there."""

    def run(self, item: Item_contra, line: Line = SILENT) -> None:
        """Do one item, and store what comes of it; goes on where a process that died has left it."""
        ...

    def give_up(self, item: Item_contra, part: str = "") -> bool:
        """A part of an item has killed two processes; whether something of the item is still to be done.

        It is called where the items are handed out. `part` is empty where none had been begun.
        """
        ...


def work_through(
    job: Job[Item],
    items: Iterable[Item],
    workers: int,
    done: Callable[[Item], None] = ignore,
    hear: Callable[[Any], None] = ignore,
) -> None:
    """Do all items.

    Args:
        job: What is done with an item; must survive being pickled.
        items: The items, no two alike.
        workers: Number of processes.
        done: Called in this process after every item.
        hear: Called in this process with what `Line.tell` is told.

    Raises:
        FailSafeError: What an item raised on purpose; or that processes die before they have begun one.
        RuntimeError: What it raised by mistake, with its traceback.
    """
    if workers < 1:
        raise UserError(f"expected at least one process, got {workers}")
    for name in _THREADS:  # the work is many small steps: threads of one worker only take time from others
        os.environ.setdefault(name, "1")
    todo, again = deque(items), deque[Item]()
    crashes: Counter[tuple[Item, str]] = Counter()
    stillborn = 0
    running: list[_Process[Item]] = []
    try:
        while todo or again or running:
            while (todo or again) and len(running) < workers:
                # What killed a process goes to a new one, which knows what has been given up.
                running.append(_Process(job, (again or todo).popleft()))
            for ready in wait([process.connection for process in running]):
                process = next(p for p in running if p.connection is ready)
                try:
                    said, content = process.connection.recv()
                except (EOFError, OSError):
                    running.remove(process)
                    process.stop()
                    stillborn += not process.there
                    if stillborn >= MAX_CRASHES:
                        raise FailSafeError(
                            f"{MAX_CRASHES} processes died before they had begun to work; "
                            "`failsafe doctor` says what this machine can do"
                        ) from None
                    if _is_left(job, process, crashes):
                        again.append(process.item)
                    else:
                        done(process.item)
                    continue
                if said == _THERE:
                    process.there = True
                elif said == _BEGIN:
                    process.part = content
                elif said == _NEWS:
                    hear(content)
                elif said == _ERROR:
                    raise content
                elif said == _BUG:
                    raise RuntimeError(f"a process stopped at {process.item}:\n{content}")
                else:
                    done(process.item)
                    if todo:
                        process.give(todo.popleft())
                    else:
                        running.remove(process)
                        process.stop()
    finally:
        for process in running:
            process.stop()


class _Process(Generic[Item]):
    """A process, the item that it is at, and the part of it that it has begun."""

    def __init__(self, job: Job[Item], item: Item) -> None:
        context = mp.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(job, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.there = False
        self.give(item)

    def give(self, item: Item) -> None:
        self.item, self.part = item, ""
        try:
            self.connection.send(item)
        except (BrokenPipeError, OSError):
            return  # it has died: reading from it will say so

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(timeout=5)
        self.connection.close()


def _is_left(job: Job[Item], dead: _Process[Item], crashes: Counter[tuple[Item, str]]) -> bool:
    """Whether something of a dead process's item is still to be done."""
    if not dead.there:  # what never began died of nothing that it was given
        return True
    blamed = dead.item, dead.part
    crashes[blamed] += 1
    if crashes[blamed] < MAX_CRASHES:
        return True
    del crashes[blamed]
    return job.give_up(*blamed)


def _serve(job: Job[Any], connection: Connection) -> None:
    line = Line(connection.send)
    try:
        connection.send((_THERE, None))
        while True:
            job.run(connection.recv(), line)
            connection.send((_DONE, None))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # whoever asked for the work is gone
    except FailSafeError as error:
        connection.send((_ERROR, error))
    except Exception:  # a bug of ours is no crash of the simulator: it is shown, not retried
        connection.send((_BUG, traceback.format_exc()))
