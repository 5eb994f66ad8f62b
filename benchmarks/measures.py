"""What `benchmarks.run` measures in its own process: rollouts, generation, files, views, queries.

Every duration is taken twice: wall time, and CPU time of this process. On an idle machine they agree; where
other processes run, the CPU time is closer to what an idle core would need.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.stopwatches import Stopwatches, stopwatches
from failsafe.datasets.store import Dataset
from failsafe.experts.tasks import Task
from failsafe.generation.config import GenerationConfig
from failsafe.generation.nominal import run_nominal
from failsafe.generation.partition import PartitionJob
from failsafe.models.contract import RecoveryModel
from failsafe.records.assessment import Window

VIEW_SIZE = 224
CAMERAS = ("front", "side", "hand")
_WARM_UP_SEED = 10_000


@dataclass
class Seconds:
    """A duration.

    Attributes:
        wall: Wall time, seconds.
        cpu: CPU time of this process, seconds.
    """

    wall: float = 0.0
    cpu: float = 0.0


@contextlib.contextmanager
def clock() -> Generator[Seconds]:
    """Measure the duration of the context."""
    seconds = Seconds()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield seconds
    finally:
        seconds.wall, seconds.cpu = time.perf_counter() - wall, time.process_time() - cpu


@dataclass
class Nominals:
    """Nominal rollouts, each with its reset to a new seed.

    Attributes:
        rollouts: Number of rollouts.
        successes: How many of them succeed.
        steps: Control steps of all of them.
        seconds: Duration of all of them.
    """

    rollouts: int
    successes: int
    steps: int
    seconds: Seconds


def measure_nominals(task: Task, at_least: float) -> Nominals:
    """Run nominal rollouts of new seeds.

    Args:
        task: The task.
        at_least: CPU time to spend, seconds.
    """
    run_nominal(task, _WARM_UP_SEED)
    rollouts = successes = steps = 0
    with clock() as seconds:
        begin = time.process_time()
        while rollouts == 0 or time.process_time() - begin < at_least:
            nominal = run_nominal(task, rollouts)
            rollouts += 1
            successes += nominal.record.success
            steps += len(nominal.trace)
    return Nominals(rollouts, successes, steps, seconds)


@dataclass
class Generation:
    """A run of the generator on one task, in this process, into a folder.

    Attributes:
        categories: Number of cases by category.
        corrections: Number of labels with a proven correction.
        seconds: Duration of the run with writing; without imports and the construction of the simulator.
        watches: Where the time was spent.
        case_kb: Size of each case's file over the number of its rollouts, kB.
        nominal_kb: Size of each nominal rollout's file, kB.
    """

    categories: dict[str, int]
    corrections: int
    seconds: Seconds
    watches: Stopwatches
    case_kb: list[float]
    nominal_kb: list[float]

    @property
    def verified(self) -> int:
        """Number of failures with a proven correction."""
        return self.categories.get("recoverable", 0)


def generate(config: GenerationConfig, tasks: Mapping[str, Task], folder: Path) -> Dataset:
    """Generate a dataset in this process, with tasks that are loaded already.

    Args:
        config: What to generate.
        tasks: The tasks by name.
        folder: Folder of the dataset.
    """
    dataset = Dataset(folder)
    job = PartitionJob(config, dataset, tasks)
    for partition in range(config.partition_count):
        job.run(partition)
    return dataset


def measure_generation(name: str, task: Task, failures: int, labels: int, rollouts: int) -> Generation:
    """Generate verified failures with their corrections, over all modes.

    Args:
        name: Name of the task.
        task: The task.
        failures: Number of verified failures.
        labels: Labels per failure.
        rollouts: Rollouts per verification: the exact one, and noisy ones.
    """
    config = GenerationConfig((name,), failures, labels=labels, verify_rollouts=rollouts)
    with tempfile.TemporaryDirectory() as folder, stopwatches() as watches:
        with clock() as seconds:
            dataset = generate(config, {name: task}, Path(folder))
        cases = list(dataset.cases())
        categories = Counter(case.category for case in cases)
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
    return Generation(dict(categories), corrections, seconds, watches, case_kb, nominal_kb)


@dataclass
class Views:
    """Times of single views.

    Attributes:
        light: Times with decimated meshes by camera, milliseconds.
        full: Times with full meshes by camera, milliseconds.
        difference: Mean absolute difference between the images of the two, of 255.
    """

    light: dict[str, list[float]]
    full: dict[str, list[float]]
    difference: float

    @staticmethod
    def best(times: dict[str, list[float]]) -> float:
        """Return the mean over the cameras of each one's fastest view, milliseconds."""
        return statistics.mean(min(t) for t in times.values())

    @staticmethod
    def median(times: dict[str, list[float]]) -> float:
        """Return the median over all views, milliseconds."""
        return statistics.median(t for each in times.values() for t in each)


def measure_views(light: Task, full: Task, repeats: int) -> Views:
    """Render one view at a time, at steps spread over a nominal rollout.

    Args:
        light: The task with decimated meshes.
        full: The same task with full meshes.
        repeats: Number of steps to render from every camera.
    """
    nominal = run_nominal(light, 0)
    states = nominal.trace.states[np.linspace(0, len(nominal.trace), repeats).astype(int)]
    times: list[dict[str, list[float]]] = []
    images: list[list[np.ndarray]] = []
    for task in (light, full):
        simulator = task.simulator
        simulator.reset(0)
        cameras = [simulator.camera(name) for name in CAMERAS]
        simulator.render(cameras, VIEW_SIZE)  # constructs the renderer, and at first use the light meshes
        found: dict[str, list[float]] = {name: [] for name in CAMERAS}
        rendered: list[np.ndarray] = []
        for state in states:
            simulator.restore(state)
            for camera in cameras:
                start = time.perf_counter()
                rendered.append(simulator.render([camera], VIEW_SIZE)[0].astype(np.int16))
                found[camera.name].append(1000 * (time.perf_counter() - start))
        times.append(found)
        images.append(rendered)
    differences = [np.abs(a - b).mean() for a, b in zip(*images, strict=True)]
    return Views(times[0], times[1], float(np.mean(differences)))


def measure_queries(model: RecoveryModel, instruction: str, queries: int) -> list[float]:
    """Return the times of single queries of a model, milliseconds.

    Args:
        model: The model.
        instruction: An instruction that the model knows.
        queries: Number of queries, after one that is not counted.
    """
    spec = model.window_spec
    steps = spec.history + 1
    window = Window(
        instruction=instruction,
        spec=spec,
        frames=np.full((len(spec.views), spec.frames, spec.size, spec.size, 3), 128, dtype=np.uint8),
        tcp_poses=np.tile(np.array([0.6, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0], dtype=np.float32), (steps, 1)),
        gripper_widths=np.full(steps, 0.08, dtype=np.float32),
    )
    model.assess(window)
    times: list[float] = []
    for _ in range(queries):
        start = time.perf_counter()
        model.assess(window)
        times.append(1000 * (time.perf_counter() - start))
    return times
