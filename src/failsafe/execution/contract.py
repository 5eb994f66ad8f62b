"""The contract between a job, its items and the executor that runs them.

An executor may run items in any order, on any number of workers, in other processes or on other machines. So
the result of an item must depend on the job and the item alone. Workers report progress as picklable
messages. They write results themselves into the folders of the job, or report them as messages. A worker that
has no access to these folders forwards each access (`failsafe.records.forwarding`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item", bound=Hashable)
Item_contra = TypeVar("Item_contra", contravariant=True)


def ignore(*_: Any) -> None:
    """Default callback: do nothing."""


class Reporter:
    """Reports the progress of a running item from a worker to the caller of the executor.

    Args:
        on_begin: Receives the name of each part of the item as the part begins.
        on_message: Receives each message.
    """

    def __init__(
        self, on_begin: Callable[[str], None] = ignore, on_message: Callable[[Any], None] = ignore
    ) -> None:
        self._on_begin, self._on_message = on_begin, on_message

    def begin(self, part: str) -> None:
        """Mark the begin of a part of the item. If the worker dies, the executor blames this part."""
        self._on_begin(part)

    def report(self, message: object) -> None:
        """Send a message to the caller's `on_message`.

        Args:
            message: Any picklable object.
        """
        self._on_message(message)


SILENT = Reporter()
"""A reporter whose reports go nowhere."""


@runtime_checkable
class Job(Protocol[Item_contra]):
    """What to do with each item.

    A job is pickled and sent to every new worker. The worker keeps the job's attributes (loaded simulators,
    models) from one item to the next.
    """

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of the files that the job reads and writes."""
        ...

    def run(self, item: Item_contra, reporter: Reporter = SILENT) -> None:
        """Do one item and store its result. Skip what an earlier, interrupted run of the item has stored.

        Args:
            item: The item.
            reporter: Receives the begin of each part and the messages of the job.
        """
        ...

    def give_up(self, item: Item_contra, part: str = "") -> bool:
        """Record that a part of an item killed its worker twice. Called in the caller's process.

        The item then runs again in a new worker, which gets the job in its present state, so `run` can skip
        the parts that were given up.

        Args:
            item: The item.
            part: The last part that `Reporter.begin` named, empty if none.

        Returns:
            Whether other parts of the item are still to be done.
        """
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs a job on items."""

    def run(
        self,
        job: Job[Item],
        items: Iterable[Item],
        on_done: Callable[[Item], None] = ignore,
        on_message: Callable[[Any], None] = ignore,
    ) -> None:
        """Run a job on every item, and return when all are done or given up.

        Both callbacks run in this process and one at a time. The messages of an item arrive before its
        `on_done`.

        Args:
            job: What to do with an item; must be picklable.
            items: Distinct, hashable and picklable items. They are taken from the iterable as workers become
                free.
            on_done: Called once for each item when it is done or given up.
            on_message: Called with each message that the job reports.

        Raises:
            FailSafeError: If the job raises one: the run stops.
            Exception: If the job raises any other exception (a bug): the run stops. An executor with other
                processes raises `RuntimeError` with the traceback as text.
        """
        ...
