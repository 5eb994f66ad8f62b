"""What runs on a Ray cluster: workers, and the desk that passes messages between them and the driver.

The driver is the process that called `RayExecutor.run`. Ray delivers no message of a call that is still
running, and a worker may die at any moment, so workers put their messages on a desk, an actor beside the
driver.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from typing import Any

from failsafe.errors import FailSafeError, UserError
from failsafe.execution.contract import Reporter
from failsafe.imports import ImportRules, set_import_rules
from failsafe.records.forwarding import forward
from failsafe.records.provenance import Provenance, collect_provenance

READY, BEGIN, MESSAGE, CALL, DONE, ERROR, BUG = "ready", "begin", "message", "call", "done", "error", "bug"
"""Kinds of a worker's messages."""
Mail = tuple[int, str, bytes]
"""Number of the worker, kind of the message, pickled content."""
CAPACITY = 1000
"""Messages on the desk; workers wait while it is full."""


class Desk:
    """Keeps messages of workers for the driver, and hands its answers to them. A Ray actor."""

    def __init__(self) -> None:
        self._mail: asyncio.Queue[Mail] = asyncio.Queue(CAPACITY)
        self._answers: dict[int, asyncio.Future[bytes]] = {}

    async def put(self, mail: Mail) -> None:
        """Take a message; wait while the desk is full."""
        await self._mail.put(mail)

    async def ask(self, mail: Mail) -> bytes:
        """Take a message, and return the driver's answer to it."""
        answer = self._answers[mail[0]] = asyncio.get_running_loop().create_future()
        await self._mail.put(mail)
        return await answer

    async def answer(self, worker: int, content: bytes) -> None:
        """Hand over an answer.

        Args:
            worker: Number of the worker that asked.
            content: The pickled answer.
        """
        self._answers.pop(worker).set_result(content)

    async def take(self) -> list[Mail]:
        """Wait for a message, and return all that there are, in the order of their arrival."""
        mail = [await self._mail.get()]
        while not self._mail.empty():
            mail.append(self._mail.get_nowait())
        return mail


class Worker:
    """Runs items of a job, and keeps what the job has loaded. A Ray actor.

    Args:
        number: Number of the worker.
        desk: Handle of the desk.
    """

    def __init__(self, number: int, desk: Any) -> None:
        self._ray: Any = importlib.import_module("ray")
        self._number, self._desk = number, desk
        self._dump, self._load = self._ray.cloudpickle.dumps, self._ray.cloudpickle.loads
        self._reporter = Reporter(
            lambda part: self._put(BEGIN, part), lambda message: self._put(MESSAGE, message)
        )
        self._job: Any = None

    def start(self, job: bytes, rules: ImportRules, paths: Sequence[str], made: Provenance) -> None:
        """Load the job.

        Args:
            job: The pickled job.
            rules: Names that may be imported, as in the driver.
            paths: The driver's import path.
            made: The driver's software.
        """
        with self._reporting():
            check_same_software(made, collect_provenance())
            set_import_rules(rules)
            sys.path += [path for path in paths if path not in sys.path]
            self._job = self._unpickle(job)
            forward(self._job.folders, self._call)
            self._put(READY, self._ray.get_runtime_context().get_node_id())

    def run(self, item: Any) -> None:
        """Run an item of the job."""
        with self._reporting():
            self._job.run(item, self._reporter)
            self._put(DONE, None)

    def _unpickle(self, job: bytes) -> Any:
        """Return the job.

        Raises:
            UserError: If a module of it is not on this node.
        """
        try:
            return self._load(job)
        except ImportError as error:
            raise UserError(
                "expected the modules of the job on every node of the Ray cluster, got an error "
                f"({error}) on {socket.gethostname()}: install the package there"
            ) from error

    @contextlib.contextmanager
    def _reporting(self) -> Generator[None, None, None]:
        """Send errors of the job to the driver. Errors of Ray are left to Ray: the driver is not there."""
        try:
            yield
        except self._ray.exceptions.RayError:
            raise
        except FailSafeError as error:
            self._put(ERROR, error)
        except Exception:  # a bug is no crash of the simulator: it is shown, not retried
            self._put(BUG, traceback.format_exc())

    def _put(self, kind: str, content: object) -> None:
        self._ray.get(self._desk.put.remote((self._number, kind, self._dump(content))))

    def _call(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Run a function that concerns the folders of the job in the driver."""
        content = self._dump((name, arguments, options))
        error, result = self._load(self._ray.get(self._desk.ask.remote((self._number, CALL, content))))
        if error is not None:
            raise error
        return result


def answer_call(run: Callable[[], Any]) -> tuple[BaseException | None, Any]:
    """Return the error or the result of a function that a worker forwarded.

    Args:
        run: Runs it.
    """
    try:
        return None, run()
    except (FailSafeError, OSError) as error:
        return error, None


def check_same_software(driver: Provenance, here: Provenance) -> None:
    """Check that a worker has the driver's software: other versions may compute other bytes.

    Args:
        driver: The driver's.
        here: This process's.

    Raises:
        UserError: If a package has another version, or FailSafe's source differs.
    """
    names = sorted(driver.versions.keys() | here.versions.keys())
    differ = [
        f"{name} {here.versions.get(name, 'missing')} in place of {driver.versions.get(name, 'none')}"
        for name in names
        if driver.versions.get(name) != here.versions.get(name)
    ]
    if driver.sources != here.sources and not differ:
        differ = ["another source of FailSafe"]
    if differ:
        raise UserError(
            f"expected the same software on every node of the Ray cluster, got {', '.join(differ)} on "
            f"{socket.gethostname()}: install the same versions there"
        )
