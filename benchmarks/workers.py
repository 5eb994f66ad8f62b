"""Two worker processes against one, on the same work; and a worker's peak memory.

Both processes do the same list of work, so that they end together. The ratio then says what the second one
adds, not how evenly a queue was divided. The rounds alternate, because the machine's speed drifts.
"""

from __future__ import annotations

import multiprocessing as mp
import re
import statistics
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.sizes import Sizes


@dataclass
class Scaling:
    """What a second worker adds.

    Attributes:
        wall: Twice the wall time of one worker alone over that of two at once; median over the rounds.
        cpu: The same in CPU time: the cost of sharing caches and memory, whatever else runs.
        loop: The same as `wall` for a bare arithmetic loop: what the machine allows.
        peak_mb: Largest resident memory of a worker with the simulators of all tasks, MB.
        rounds: Wall time of every round, seconds: (alone, both).
    """

    wall: float
    cpu: float
    loop: float
    peak_mb: float
    rounds: list[tuple[float, float]]


def measure_workers(sizes: Sizes) -> Scaling:
    """Start two workers, and let them run alone and together in turn.

    Args:
        sizes: The tasks, and the amount of work. The work is on the first task; memory is that of all.
    """
    context = mp.get_context("spawn")
    workers: list[tuple[Any, Connection]] = []
    walls: list[tuple[float, float]] = []
    cpus: list[tuple[float, float]] = []
    loops: list[tuple[float, float]] = []
    try:
        for _ in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(sizes, theirs), daemon=True)
            process.start()
            workers.append((process, ours))
        for _, connection in workers:
            connection.recv()  # ready
        connections = [connection for _, connection in workers]
        for number in range(sizes.worker_rounds):
            alone, both = connections[number % 2 : number % 2 + 1], connections
            once, twice = _time(alone, "work"), _time(both, "work")
            walls.append((once[0], twice[0]))
            cpus.append((once[1], twice[1]))
            loops.append((_time(alone, "loop")[0], _time(both, "loop")[0]))
        connections[0].send("memory")
        peak: float = connections[0].recv()
    finally:
        for process, connection in workers:
            connection.close()
            process.join(timeout=10)
            process.kill()

    def ratio(times: list[tuple[float, float]]) -> float:
        return statistics.median(2 * one / two for one, two in times)

    return Scaling(ratio(walls), ratio(cpus), ratio(loops), peak / 1e6, walls)


def _time(connections: list[Connection], command: str) -> tuple[float, float]:
    """Return the wall time until all are done, and the mean of their CPU times, seconds."""
    start = time.perf_counter()
    for connection in connections:
        connection.send(command)
    cpu: list[float] = [connection.recv() for connection in connections]
    return time.perf_counter() - start, statistics.mean(cpu)


def _serve(sizes: Sizes, connection: Connection) -> None:
    """Run as a worker: load the task, then carry out commands until the pipe is closed."""
    from benchmarks.measures import generate
    from failsafe.experts.tasks import load_task
    from failsafe.generation.config import GenerationConfig
    from failsafe.generation.nominal import run_nominal

    first = sizes.tasks[0]
    tasks = {first: load_task(first)}
    run_nominal(tasks[first], 0)
    config = GenerationConfig((first,), sizes.worker_failures, labels=1, verify_rollouts=1)
    connection.send("ready")
    try:
        while True:
            command = connection.recv()
            cpu = time.process_time()
            if command == "memory":
                # A worker of a run over several tasks keeps all their simulators.
                tasks |= {name: load_task(name) for name in sizes.tasks[1:]}
                all_tasks = GenerationConfig(tuple(tasks), 2 * len(tasks), verify_rollouts=2)
                with tempfile.TemporaryDirectory() as folder:
                    generate(all_tasks, tasks, Path(folder))
                connection.send(peak_memory())
                continue
            if command == "loop":
                sum(range(sizes.loop))
            else:
                with tempfile.TemporaryDirectory() as folder:
                    generate(config, tasks, Path(folder))
            connection.send(time.process_time() - cpu)
    except (EOFError, BrokenPipeError):
        return


def peak_memory() -> float:
    """Return the largest resident memory of this process so far, bytes."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert match is not None
    return 1024.0 * int(match.group(1))
