"""Run a job on a Ray cluster: on several machines, or on this one.

Each worker is a Ray actor with one CPU, which keeps the job. Files of the job are read and written by the
driver, so no common file system is needed. A worker that dies costs the part of the item that it was running,
as with `processes`; an item whose node dies runs again elsewhere.
"""

from __future__ import annotations

import operator
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Generic

from failsafe import registry
from failsafe.errors import FailSafeError, UserError
from failsafe.execution import ray_worker
from failsafe.execution.contract import Item, Job, ignore
from failsafe.execution.ray_cluster import connect, require_ray
from failsafe.execution.retries import Retries
from failsafe.imports import import_rules
from failsafe.records.forwarding import answer
from failsafe.records.provenance import collect_provenance

CHECK_SECONDS = 0.5
"""Time between two looks for workers that have died, seconds."""
START_SECONDS = 600.0
"""Longest time without any worker that is ready, seconds. A cluster may have to start machines."""
_DRIVER = 0
"""Number of the driver's own messages."""
_MARK = "mark"


@registry.executors.register("ray")
class RayExecutor:
    """Runs items on the nodes of a Ray cluster.

    Every node needs the same software, the same checkpoints under the same paths, and the modules of tasks
    and policies that are given as `MODULE:ATTRIBUTE`. Data folders are needed on the driver's node only.

    Args:
        workers: Number of workers, each with one CPU; None for the CPUs of the cluster.
        address: Address of a running cluster, "auto" for the one that this machine belongs to; None for the
            environment variable RAY_ADDRESS, or else for a Ray of this machine's own that ends with this
            process.

    Raises:
        UserError: If `workers` is less than 1, or Ray is not installed.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        if workers is not None and workers < 1:
            raise UserError(f"expected at least 1 worker, got {workers}")
        require_ray()
        self.workers, self.address = workers, address

    def run(
        self,
        job: Job[Item],
        items: Iterable[Item],
        on_done: Callable[[Item], None] = ignore,
        on_message: Callable[[Any], None] = ignore,
    ) -> None:
        """Run a job on every item. See `Executor.run`.

        Raises:
            UserError: If there is no such cluster, or a node has other software.
            FailSafeError: If the job raises one, if workers die before they have started, or if the cluster
                has no free CPU for `START_SECONDS`.
            RuntimeError: If the job raises any other exception; the message holds the traceback.
        """
        todo = _Items(items)
        if not todo.left:
            return
        ray = connect(self.address, self.workers)
        workers = self.workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        try:
            _Run(ray, job, todo, workers, on_done, on_message).run()
        except (ray.exceptions.RayActorError, ray.exceptions.RaySystemError) as error:
            raise FailSafeError(
                "expected the Ray cluster to stay, got an error "
                f"({str(error).strip().splitlines()[0]}): run the same command again to go on"
            ) from error


class _Items(Generic[Item]):
    """The items that no worker has taken, those to be run again first."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._again: list[tuple[Item, int]] = []
        self._ended = False

    @property
    def left(self) -> int:
        """Number of items, or a large number where it is not known."""
        rest = 0 if self._ended else operator.length_hint(self._items, 1 << 30)
        return rest + len(self._again)

    def put_back(self, item: Item, version: int) -> None:
        """Let an item be run again, by a worker with this version of the job or a later one."""
        self._again.append((item, version))

    def take(self, version: int) -> Item | None:
        """Return an item for a worker with a version of the job, None if there is none."""
        for entry in self._again:
            if entry[1] <= version:
                self._again.remove(entry)
                return entry[0]
        item = next(self._items, None)
        self._ended = item is None
        return item


class _Handle(Generic[Item]):
    """The driver's knowledge of a worker.

    Attributes:
        actor: Handle of the actor.
        call: The call that the actor is running, None when it has ended.
        version: Version of the worker's job, which counts the parts that had been given up.
        node: Id of its node, empty until the worker is ready.
        item: The item that it runs.
        part: The part of the item that has begun.
        alive: Whether it is not known to have died.
    """

    def __init__(self, actor: Any, call: Any, version: int) -> None:
        self.actor, self.call, self.version = actor, call, version
        self.node, self.part, self.alive = "", "", True
        self.item: Item | None = None


class _Run(Generic[Item]):
    """One call of `RayExecutor.run`."""

    def __init__(
        self,
        ray: Any,
        job: Job[Item],
        items: _Items[Item],
        workers: int,
        on_done: Callable[[Item], None],
        on_message: Callable[[Any], None],
    ) -> None:
        self._ray, self._job, self._items, self._limit = ray, job, items, workers
        self._on_done, self._on_message = on_done, on_message
        self._retries = Retries(job)
        self._software = collect_provenance()
        self._workers: dict[int, _Handle[Item]] = {}
        self._started = self._version = 0
        self._pickled: Any = None
        self._checked = self._seen_ready = time.monotonic()
        here = ray.get_runtime_context().get_node_id()
        place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        self._desk = (
            ray.remote(ray_worker.Desk)
            .options(num_cpus=0, max_concurrency=workers + 16, scheduling_strategy=place)
            .remote()
        )
        self._mail = self._desk.take.remote()

    def run(self) -> None:
        """Run all items."""
        try:
            self._start_workers()
            # A worker may still wait for a CPU when the others have done everything.
            while self._items.left or any(w.item is not None for w in self._workers.values()):
                ready, _ = self._ray.wait([self._mail], timeout=CHECK_SECONDS)
                if ready:
                    self._read_mail()
                if time.monotonic() >= self._checked + CHECK_SECONDS:
                    self._check_workers()
                    self._checked = time.monotonic()
                self._start_workers()
        finally:
            for worker in self._workers.values():
                self._ray.kill(worker.actor)
            self._ray.kill(self._desk)

    def _start_workers(self) -> None:
        """Start as many workers as there are items for, up to the limit."""
        starting = sum(not worker.node for worker in self._workers.values())
        while len(self._workers) < self._limit and starting < self._items.left:
            if self._pickled is None:
                self._pickled = self._ray.put(self._ray.cloudpickle.dumps(self._job))
            self._started += 1
            actor = (
                self._ray.remote(ray_worker.Worker)
                .options(num_cpus=1, max_restarts=0)
                .remote(self._started, self._desk)
            )
            paths = [os.path.abspath(path) for path in sys.path]
            call = actor.start.remote(self._pickled, import_rules(), paths, self._software)
            self._workers[self._started] = _Handle(actor, call, self._version)
            starting += 1

    def _read_mail(self) -> bool:
        """Handle the messages on the desk; return whether the driver's mark is among them."""
        mail: list[ray_worker.Mail] = self._ray.get(self._mail)
        self._mail = self._desk.take.remote()
        marked = False
        for number, kind, pickled in mail:
            if number == _DRIVER:
                marked = True
            elif number in self._workers:  # not of one that was given up for lost
                self._handle(number, self._workers[number], kind, self._ray.cloudpickle.loads(pickled))
        return marked

    def _handle(self, number: int, worker: _Handle[Item], kind: str, content: Any) -> None:
        if kind == ray_worker.READY:
            worker.node = content
            self._give(number, worker)
        elif kind == ray_worker.BEGIN:
            worker.part = content
        elif kind == ray_worker.MESSAGE:
            self._on_message(content)
        elif kind == ray_worker.CALL:
            found = ray_worker.answer_call(lambda: answer(self._job.folders, *content))
            self._desk.answer.remote(number, self._ray.cloudpickle.dumps(found))
        elif kind == ray_worker.ERROR:
            raise content
        elif kind == ray_worker.BUG:
            raise RuntimeError(f"a worker failed on {worker.item}:\n{content}")
        elif worker.item is not None:
            item, worker.item = worker.item, None
            self._on_done(item)
            self._give(number, worker)

    def _give(self, number: int, worker: _Handle[Item]) -> None:
        """Give a worker its next item, or end it."""
        if not worker.alive:
            return
        worker.item, worker.part = self._items.take(worker.version), ""
        if worker.item is None:
            self._ray.kill(worker.actor)
            del self._workers[number]
        else:
            worker.call = worker.actor.run.remote(worker.item)

    def _check_workers(self) -> None:
        """Find workers that have died, and decide what becomes of their items."""
        if any(worker.node for worker in self._workers.values()):
            self._seen_ready = time.monotonic()
        elif time.monotonic() > self._seen_ready + START_SECONDS:
            raise FailSafeError(
                f"expected a free CPU in the Ray cluster, got none for {START_SECONDS:.0f} s: `ray status` "
                "shows what takes them"
            )
        dead: dict[int, Exception] = {}
        calls = {w.call: number for number, w in self._workers.items() if w.call is not None}
        ended, _ = self._ray.wait(list(calls), num_returns=len(calls), timeout=0) if calls else ([], [])
        for call in ended:
            number = calls[call]
            try:
                self._ray.get(call)
                self._workers[number].call = None
            except self._ray.exceptions.RayActorError as error:
                dead[number] = error
                self._workers[number].alive = False
        if not dead:
            return
        # What they sent before they died is on the desk, in front of this.
        self._desk.put.remote((_DRIVER, _MARK, b""))
        while not self._read_mail():
            pass
        for number, error in dead.items():
            self._bury(self._workers.pop(number), error)

    def _bury(self, worker: _Handle[Item], error: Exception) -> None:
        self._ray.kill(worker.actor)  # it may be alive on a node that is out of reach
        lost = self._is_lost(worker.node, error)
        if not worker.node:
            if not lost:
                self._retries.unstarted()
            return
        item, part = worker.item, worker.part
        if item is None:
            return
        if lost and self._retries.lost(item, part):
            self._items.put_back(item, 0)
        elif self._retries.crashed(item, part):
            # The job may have changed: it knows what has been given up. Only a new worker gets it so.
            self._version, self._pickled = self._version + 1, None
            self._items.put_back(item, self._version)
        else:
            self._on_done(item)

    def _is_lost(self, node: str, error: Exception) -> bool:
        """Return whether a worker died with its node, or cannot be reached."""
        if isinstance(error, self._ray.exceptions.ActorUnavailableError) or "node has died" in str(error):
            return True
        return bool(node) and not any(n["NodeID"] == node and n["Alive"] for n in self._ray.nodes())
