"""What `benchmarks.run` measures in its own process: rollouts, pairs, files, views.

Every duration is taken twice: wall time, and CPU time of this process. On a quiet machine they agree; where
other work runs beside, the CPU seconds say what a core of one's own would do.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.stopwatches import Stopwatches, stopwatches
from failsafe.datasets.store import Dataset
from failsafe.experts.tasks import Task
from failsafe.generation import partition as partitions
from failsafe.generation.config import GenerationConfig
from failsafe.generation.nominal import run_nominal

VIEW_SIZE = 224
CAMERAS = ("front", "side", "hand")


@dataclass
class Seconds:
    """A duration."""

    wall: float = 0.0
    cpu: float = 0.0


@contextlib.contextmanager
def clock() -> Iterator[Seconds]:
    """Measures what happens within."""
    seconds = Seconds()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield seconds
    finally:
        seconds.wall, seconds.cpu = time.perf_counter() - wall, time.process_time() - cpu


@dataclass
class Nominals:
    """Unperturbed rollouts, each with its reset to a new seed."""

    rollouts: int
    successes: int
    steps: int
    seconds: Seconds


def measure_nominals(task: Task, at_least: float) -> Nominals:
    """Run nominal rollouts of new seeds for some seconds of CPU time."""
    run_nominal(task, 10_000)
    rollouts = successes = steps = 0
    with clock() as seconds:
        begin = time.process_time()
        while time.process_time() - begin < at_least:
            nominal = run_nominal(task, rollouts)
            rollouts, successes, steps = (
                rollouts + 1,
                successes + nominal.record.success,
                steps + len(nominal.trace),
            )
    return Nominals(rollouts, successes, steps, seconds)


@dataclass
class Pairs:
    """A run of the generator on one task, in this process, into a folder.

    Attributes:
        verdicts: How many cases came to what.
        corrections: Labels with a proven correction.
        seconds: Of the whole run, writing included; imports and the making of the environment are not.
        watches: Where they went.
        case_kb: Size of each case's file over the rollouts in it.
        nominal_kb: Size of each nominal twin's file.
    """

    verdicts: dict[str, int]
    corrections: int
    seconds: Seconds
    watches: Stopwatches
    case_kb: list[float]
    nominal_kb: list[float]

    @property
    def verified(self) -> int:
        """Failures with a proven correction."""
        return self.verdicts.get("recoverable", 0)


def generate(config: GenerationConfig, tasks: dict[str, Task], folder: Path) -> dict[str, int]:
    """Run all lanes of a configuration with tasks that have been made already."""
    verdicts: Counter[str] = Counter()

    def tell(progress: partitions.Progress) -> None:
        verdicts[progress.verdict] += 1

    load_task, partitions.load_task = partitions.load_task, tasks.__getitem__
    try:
        worker = partitions.LaneWorker(config, Dataset(folder), tell)
        for partition in range(config.partitions):
            worker.run(partition)
    finally:
        partitions.load_task = load_task
    return dict(verdicts)


def measure_pairs(name: str, task: Task, failures: int, labels: int, rollouts: int) -> Pairs:
    """Make verified failures with their recoveries, over all modes."""
    config = GenerationConfig((name,), failures, labels=labels, verify_rollouts=rollouts)
    with tempfile.TemporaryDirectory() as folder, stopwatches() as watches:
        with clock() as seconds:
            verdicts = generate(config, {name: task}, Path(folder))
        dataset = Dataset(Path(folder))
        cases = list(dataset.cases())
        corrections = sum(
            label.correction is not None and label.verification.proven for c in cases for label in c.labels
        )
        case_kb = [
            dataset.case_path(c.task, c.case_id).stat().st_size
            / 1000
            / max(1, len(dataset.traces(c.task, c.case_id)))
            for c in cases
        ]
        nominal_kb = [path.stat().st_size / 1000 for path in dataset.nominal_files()]
    return Pairs(verdicts, corrections, seconds, watches, case_kb, nominal_kb)


@dataclass
class Views:
    """Milliseconds per view by camera, and how far the light meshes' pictures are from the full ones'."""

    light: dict[str, list[float]]
    full: dict[str, list[float]]
    difference: float

    @staticmethod
    def best(times: dict[str, list[float]]) -> float:
        """Mean over the cameras of each one's fastest view."""
        return statistics.mean(min(t) for t in times.values())

    @staticmethod
    def median(times: dict[str, list[float]]) -> float:
        """Median over all views."""
        return statistics.median(t for each in times.values() for t in each)


def measure_views(light: Task, full: Task, repeats: int) -> Views:
    """Render one view at a time, at moments spread over a nominal rollout."""
    nominal = run_nominal(light, 0)
    states = nominal.trace.states[np.linspace(0, len(nominal.trace), repeats).astype(int)]
    times: list[dict[str, list[float]]] = []
    pictures: list[list[np.ndarray]] = []
    for task in (light, full):
        simulator = task.simulator
        simulator.reset(0)
        cameras = [simulator.camera(name) for name in CAMERAS]
        simulator.render(cameras, VIEW_SIZE)  # makes the renderer, and at first use the light meshes
        found: dict[str, list[float]] = {name: [] for name in CAMERAS}
        seen: list[np.ndarray] = []
        for state in states:
            simulator.restore(state)
            for camera in cameras:
                start = time.perf_counter()
                seen.append(simulator.render([camera], VIEW_SIZE)[0].astype(np.int16))
                found[camera.name].append(1000 * (time.perf_counter() - start))
        times.append(found)
        pictures.append(seen)
    apart = [np.abs(a - b).mean() for a, b in zip(*pictures, strict=True)]
    return Views(times[0], times[1], float(np.mean(apart)))
