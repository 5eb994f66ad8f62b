"""Run a job in this process, one item after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from failsafe import registry
from failsafe.errors import UserError
from failsafe.execution.contract import Item, Job, Reporter, ignore
from failsafe.execution.threads import single_threaded


@registry.executors.register("serial")
class SerialExecutor:
    """Runs every item in this process, so that breakpoints and profilers work.

    The results are the same as with any other executor. An item that kills its process kills this one.

    Args:
        workers: None or 1.

    Raises:
        UserError: If `workers` is another number.
    """

    def __init__(self, workers: int | None = None) -> None:
        if workers not in (None, 1):
            raise UserError(f"expected 1 worker for the executor 'serial', got {workers}: choose 'processes'")

    def run(
        self,
        job: Job[Item],
        items: Iterable[Item],
        on_done: Callable[[Item], None] = ignore,
        on_message: Callable[[Any], None] = ignore,
    ) -> None:
        """Run a job on every item. See `Executor.run`."""
        reporter = Reporter(on_message=on_message)
        with single_threaded():
            for item in items:
                job.run(item, reporter)
                on_done(item)
