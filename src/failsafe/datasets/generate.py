"""Generate a dataset of failures and recoveries: `failsafe.generate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from failsafe.datasets.build import build_dataset
from failsafe.datasets.store import Dataset
from failsafe.errors import UserError
from failsafe.execution.contract import Executor, ignore
from failsafe.execution.loading import choose_executor
from failsafe.experts.tasks import Task, expand_tasks, task_name
from failsafe.generation.config import PARTITIONS, GenerationConfig, ModeConfig, default_modes
from failsafe.generation.partition import Progress
from failsafe.imports import trust


def generate(
    tasks: str | Task | Sequence[str | Task],
    *,
    out: str | Path,
    failures: int = 100,
    modes: Sequence[str] | Mapping[str, ModeConfig] = (),
    seeds: range = range(100_000),
    labels: int = 4,
    verify_rollouts: int = 5,
    compound: float = 0.1,
    workers: int | None = None,
    executor: str | Executor | None = None,
    shard: tuple[int, int] | None = None,
    partitions: int = PARTITIONS,
    needed: bool = False,
    on_progress: Callable[[Progress], None] = ignore,
) -> Dataset:
    """Perturb tasks in many ways, prove the smallest correction of each failure, and store both.

    Interrupted at any moment, the same call resumes. The dataset does not depend on the number of workers.

    Args:
        tasks: One task or several, by name or as objects. The name of a suite stands for all of its tasks.
        out: Folder of the dataset.
        failures: Failures with a verified correction to generate; harmless and unrecoverable ones are extra.
        modes: Failure modes to draw from with equal weight, or the settings of each. Default: all modes.
        seeds: Seeds of the initial states, in steps of 1.
        labels: Steps after the onset of each failure to find corrections for.
        verify_rollouts: Rollouts with each correction: one exact, the others with noise and delay.
        compound: Share of cases with two perturbations at once, 0 to 1.
        workers: Number of workers. Default: one per core.
        executor: Where the work runs: "processes", "serial", "ray", "MODULE:ATTRIBUTE", or an object.
            Default: "processes"; "serial" for tasks given as objects, unless there are several workers.
        shard: Part (i, n) of the dataset to generate here, i from 0. Default: the whole dataset.
        partitions: Independent parts of the run: the most workers and shards. Another number gives another
            dataset.
        needed: Go on until there are `failures` with a needed correction: one without which the expert fails,
            even if the cause ends and the expert plans anew.
        on_progress: Called in this process after every nominal rollout and every case.

    Returns:
        The dataset, complete with tables and card.

    Raises:
        UserError: If a name is unknown, a number is out of range, `out` holds another dataset, or a task
            given as an object cannot be pickled for another process.
        StoreError: If the folder cannot be written.
    """
    if seeds.step != 1:
        raise UserError(f"expected seeds in steps of 1, got {seeds}: give range(first, last)")
    given = expand_tasks([tasks] if isinstance(tasks, str | Task) else tasks)
    trust(*(task_name(task) for task in given), *modes)  # by name in a script: the user's own
    objects = {task_name(task): task for task in given if isinstance(task, Task)}
    config = GenerationConfig(
        tasks=tuple(task_name(task) for task in given),
        failures=failures,
        modes=modes if isinstance(modes, Mapping) else default_modes(tuple(modes)),
        first_seed=seeds.start,
        last_seed=seeds.stop,
        labels=labels,
        verify_rollouts=verify_rollouts,
        compound=compound,
        partitions=partitions,
        needed=needed,
    )
    run_on = choose_executor(executor, workers, objects or None)
    return build_dataset(config, Path(out), on_progress, run_on, shard, objects)
