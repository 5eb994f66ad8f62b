"""Two worker processes against one, doing the same work; and a worker's peak memory.

Both processes do the same list of work, so that they end together: the ratio says what the second one adds,
not how well a queue was cut in two. The rounds alternate, since the machine's speed drifts.
"""

from __future__ import annotations

import multiprocessing as mp
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

FAILURES = 16
ROUNDS = 3
_LOOP = 40_000_000


@dataclass
class Scaling:
    """What a second worker adds.

    Attributes:
        wall: Twice the wall time of one worker alone over that of two at once; median over the rounds.
        cpu: The same in CPU time: what sharing caches and memory costs, whoever else is on the machine.
        loop: The same as `wall` for a bare arithmetic loop: what the machine allows.
        peak_mb: The largest resident memory of a worker that keeps the simulators of all tasks.
        rounds: The wall seconds of every round: (alone, both).
    """

    wall: float
    cpu: float
    loop: float
    peak_mb: float
    rounds: list[tuple[float, float]]


def measure_workers(task: str, more: Sequence[str]) -> Scaling:
    """Start two workers and let them run alone and together, in turn; memory is that with `more` tasks."""
    context = mp.get_context("spawn")
    workers: list[tuple[Any, Connection]] = []
    try:
        for _ in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(task, more, theirs), daemon=True)
            process.start()
            workers.append((process, ours))
        for _, connection in workers:
            connection.recv()  # ready
        connections = [connection for _, connection in workers]
        walls, cpus, loops = [], [], []
        for number in range(ROUNDS):
            alone, both = connections[number % 2 : number % 2 + 1], connections
            once, twice = _time(alone, "work"), _time(both, "work")
            walls.append((once[0], twice[0]))
            cpus.append((once[1], twice[1]))
            loops.append((_time(alone, "loop")[0], _time(both, "loop")[0]))
        peak = _ask(connections[0], "memory")
    finally:
        for process, connection in workers:
            connection.close()
            process.join(timeout=10)
            process.kill()

    def ratio(times: list[tuple[float, float]]) -> float:
        return statistics.median(2 * one / two for one, two in times)

    return Scaling(ratio(walls), ratio(cpus), ratio(loops), peak / 1e6, walls)


def _time(connections: list[Connection], what: str) -> tuple[float, float]:
    """Wall seconds until all are done, and the mean of their CPU seconds."""
    start = time.perf_counter()
    for connection in connections:
        connection.send(what)
    cpu = [connection.recv() for connection in connections]
    return time.perf_counter() - start, statistics.mean(cpu)


def _ask(connection: Connection, what: str) -> float:
    connection.send(what)
    return connection.recv()


def _serve(task_name: str, more: Sequence[str], connection: Connection) -> None:
    """A worker: makes the task, then does what it is told until nobody is left to tell it."""
    from benchmarks.measures import generate
    from failsafe.experts.tasks import load_task
    from failsafe.generation.config import GenerationConfig
    from failsafe.generation.nominal import run_nominal

    tasks = {task_name: load_task(task_name)}
    run_nominal(tasks[task_name], 0)
    config = GenerationConfig((task_name,), FAILURES, labels=1, verify_rollouts=1)
    connection.send("ready")
    try:
        while True:
            what = connection.recv()
            cpu = time.process_time()
            if what == "memory":
                # A worker of a run over several tasks keeps all their simulators.
                tasks |= {name: load_task(name) for name in more}
                with tempfile.TemporaryDirectory() as folder:
                    generate(GenerationConfig(tuple(tasks), 6, verify_rollouts=2), tasks, Path(folder))
                connection.send(peak_memory())
                continue
            if what == "loop":
                sum(range(_LOOP))
            else:
                with tempfile.TemporaryDirectory() as folder:
                    generate(config, tasks, Path(folder))
            connection.send(time.process_time() - cpu)
    except (EOFError, BrokenPipeError):
        return


def peak_memory() -> float:
    """The most resident memory that this process ever had, bytes."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return 1024.0 * int(match.group(1))
