"""Which items to run again after their worker died: shared by all executors with workers that can die."""

from __future__ import annotations

from collections import Counter
from typing import Generic

from failsafe.errors import FailSafeError, UserError
from failsafe.execution.contract import Item, Job

UNGUARDED = 79
"""Exit status of a worker whose import of the user's script came to a call that starts workers."""
MAX_CRASHES = 2
"""Workers that a part of an item may kill before the part is given up."""
MAX_LOST = 4
"""Nodes that may die while they run a part of an item before the part is blamed."""


class Retries(Generic[Item]):
    """Counts the workers that died, by item and part.

    Args:
        job: The job that the workers run.
    """

    def __init__(self, job: Job[Item]) -> None:
        self._job = job
        self._crashes: Counter[tuple[Item, str]] = Counter()
        self._lost: Counter[tuple[Item, str]] = Counter()
        self._unstarted = 0

    def unstarted(self, status: int | None = None) -> None:
        """Note that a worker died before it was ready. Its item is not to blame, and is to be run again.

        Args:
            status: Exit status of the worker, negative for a signal; None if it is not known.

        Raises:
            UserError: If the worker ended with the status `UNGUARDED`.
            FailSafeError: If this happened `MAX_CRASHES` times.
        """
        if status == UNGUARDED:
            raise UserError(
                "expected a script that workers can import, got one that calls FailSafe whenever it is "
                'imported: put its calls under `if __name__ == "__main__":`, or use executor="serial"'
            )
        self._unstarted += 1
        if self._unstarted >= MAX_CRASHES:
            how = "" if status is None else f", the last one with exit status {status}"
            raise FailSafeError(
                f"{MAX_CRASHES} workers died before they had started{how}: standard error says why if they "
                "could; run `failsafe doctor` to check this machine"
            )

    def lost(self, item: Item, part: str) -> bool:
        """Note that the node of a worker died while the worker ran an item.

        Args:
            item: The item.
            part: The part of the item that had begun, empty if none.

        Returns:
            Whether to run the item again; otherwise the item is to blame, see `crashed`.
        """
        self._lost[item, part] += 1
        return self._lost[item, part] <= MAX_LOST

    def crashed(self, item: Item, part: str) -> bool:
        """Note that a worker died while it ran an item.

        Args:
            item: The item.
            part: The part of the item that had begun, empty if none.

        Returns:
            Whether to run the item again, in a new worker.
        """
        self._crashes[item, part] += 1
        if self._crashes[item, part] < MAX_CRASHES:
            return True
        del self._crashes[item, part]
        return self._job.give_up(item, part)
