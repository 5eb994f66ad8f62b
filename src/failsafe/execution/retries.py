"""Which items to run again after their worker died: shared by all executors with workers that can die."""

from __future__ import annotations

from collections import Counter
from typing import Generic

from failsafe.errors import FailSafeError
from failsafe.execution.contract import Item, Job

MAX_CRASHES = 2
"""Workers that a part of an item may kill before the part is given up."""


class Retries(Generic[Item]):
    """Counts the workers that died, by item and part.

    Args:
        job: The job that the workers run.
    """

    def __init__(self, job: Job[Item]) -> None:
        self._job = job
        self._crashes: Counter[tuple[Item, str]] = Counter()
        self._unstarted = 0

    def unstarted(self) -> None:
        """Note that a worker died before it was ready. Its item is not to blame, and is to be run again.

        Raises:
            FailSafeError: If this happened `MAX_CRASHES` times.
        """
        self._unstarted += 1
        if self._unstarted >= MAX_CRASHES:
            raise FailSafeError(
                f"{MAX_CRASHES} workers died before they had started: run `failsafe doctor` to check this "
                'machine; in a script of your own, call FailSafe under `if __name__ == "__main__":`'
            )

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
