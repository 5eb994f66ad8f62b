"""The options of every verb that runs a job: how many workers, and where."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from failsafe.errors import UserError
from failsafe.execution.contract import Executor
from failsafe.execution.loading import load_executor


@dataclass(frozen=True)
class Execution:
    """Where the work runs.

    Attributes:
        workers: Number of workers; by default one per core, or one per CPU of the Ray cluster.
        executor: Where it runs: processes, serial (this process, for debugging), ray (docs/ray.md), or
            MODULE:ATTRIBUTE.
        ray_address: With --executor ray: address HOST:PORT of a cluster that this machine belongs to, or
            "auto" to find it. By default Ray is started on this machine.
    """

    workers: int | None = None
    executor: str = "processes"
    ray_address: str = ""

    def load(self) -> Executor:
        """Return the executor.

        Raises:
            UserError: If there is no such executor, it cannot have this number of workers, or a Ray address
                is given for another executor than Ray.
        """
        if not self.ray_address:
            return load_executor(self.executor, self.workers)
        if self.executor != "ray":
            raise UserError(f"expected --executor ray with --ray-address, got the executor '{self.executor}'")
        from failsafe.execution.ray_executor import RayExecutor

        return RayExecutor(self.workers, self.ray_address)


ExecutionOptions = tyro.conf.OmitArgPrefixes[Execution]
"""The options without a common prefix: --workers, --executor, --ray-address."""
DEFAULT = Execution()
