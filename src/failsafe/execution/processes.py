"""Run a job in several processes on this machine, one item at a time in each.

Simulators crash a process now and then. A process that dies costs only the item (or the part of it) that it
was running: it is run once more in a new process, and given up if that process dies too.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection, wait
from typing import Any, Generic

from failsafe import registry
from failsafe.errors import FailSafeError, UserError
from failsafe.execution.contract import Item, Job, Reporter, ignore
from failsafe.execution.retries import UNGUARDED, Retries
from failsafe.execution.threads import single_threaded
from failsafe.imports import ImportRules, import_rules, set_import_rules

_READY, _BEGIN, _MESSAGE, _DONE, _ERROR, _BUG = "ready", "begin", "message", "done", "error", "bug"
"""Kinds of what a process sends."""
_DIED = "died"
"""Stands for what a process sends when it has died."""


@registry.executors.register("processes")
class ProcessExecutor:
    """Runs items in processes of this machine.

    Args:
        workers: Number of processes; None for the number of cores.

    Raises:
        UserError: If `workers` is less than 1.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = (os.cpu_count() or 1) if workers is None else workers
        if self.workers < 1:
            raise UserError(f"expected at least 1 worker, got {self.workers}")

    def run(
        self,
        job: Job[Item],
        items: Iterable[Item],
        on_done: Callable[[Item], None] = ignore,
        on_message: Callable[[Any], None] = ignore,
    ) -> None:
        """Run a job on every item. See `Executor.run`.

        Raises:
            UserError: If the calling script does not guard its calls, so that its workers run them, too.
            FailSafeError: If the job raises one, or if processes die before they have started.
            RuntimeError: If the job raises any other exception; the message holds the traceback.
        """
        exit_if_imported_by_worker()
        waiting = iter(items)
        again = deque[Item]()  # items whose process died
        retries = Retries(job)
        running: list[_Process[Item]] = []
        try:
            while True:
                while len(running) < self.workers:
                    # An item that killed a process needs a new one, which knows what has been given up.
                    item = again.popleft() if again else next(waiting, None)
                    if item is None:
                        break
                    running.append(_Process(job, item))
                if not running:
                    return
                for connection in wait([process.connection for process in running]):
                    process = next(p for p in running if p.connection is connection)
                    kind, content = process.receive()
                    if kind == _DIED:
                        running.remove(process)
                        status = process.wait()
                        if not process.ready:
                            retries.unstarted(status)
                            again.append(process.item)
                        elif retries.crashed(process.item, process.part):
                            again.append(process.item)
                        else:
                            on_done(process.item)
                        continue
                    if kind == _READY:
                        process.ready = True
                    elif kind == _BEGIN:
                        process.part = content
                    elif kind == _MESSAGE:
                        on_message(content)
                    elif kind == _ERROR:
                        raise content
                    elif kind == _BUG:
                        raise RuntimeError(f"a worker process failed on {process.item}:\n{content}")
                    else:
                        on_done(process.item)
                        item = next(waiting, None)
                        if item is not None:
                            process.give(item)
                        else:
                            running.remove(process)
                            process.stop()
        finally:
            for process in running:
                process.stop()


def exit_if_imported_by_worker() -> None:
    """End this process if it is a worker that is importing the user's script, and has come to a call in it.

    The process that started the worker then says what the script lacks.

    Raises:
        SystemExit: In such a worker, with the status `UNGUARDED`.
    """
    if getattr(mp.current_process(), "_inheriting", False):
        raise SystemExit(UNGUARDED)


class _Process(Generic[Item]):
    """A process with the item that it runs, and the part of the item that has begun."""

    def __init__(self, job: Job[Item], item: Item) -> None:
        context = mp.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(job, theirs, import_rules()), daemon=True)
        with single_threaded():  # the process inherits the environment
            self._process.start()
        theirs.close()
        self.ready = False
        self.give(item)

    def give(self, item: Item) -> None:
        self.item, self.part = item, ""
        try:
            self.connection.send(item)
        except (BrokenPipeError, OSError):
            return  # the process has died: the next read from the connection fails

    def receive(self) -> tuple[str, Any]:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return _DIED, None

    def wait(self) -> int | None:
        """Wait for the end of a process that closed its connection; return its exit status."""
        self._process.join(timeout=5)
        status = self._process.exitcode
        self.stop()
        return status

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(timeout=5)
        self.connection.close()


def _serve(job: Job[Any], connection: Connection, rules: ImportRules) -> None:
    """Run items from the connection until the caller is gone."""
    set_import_rules(rules)
    reporter = Reporter(
        lambda part: connection.send((_BEGIN, part)), lambda message: connection.send((_MESSAGE, message))
    )
    try:
        connection.send((_READY, None))
        while True:
            job.run(connection.recv(), reporter)
            connection.send((_DONE, None))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except FailSafeError as error:
        connection.send((_ERROR, error))
    except Exception:  # a bug is no crash of the simulator: it is shown, not retried
        connection.send((_BUG, traceback.format_exc()))
