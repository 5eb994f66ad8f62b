"""`failsafe generate`: a dataset of failures with proven recoveries."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import tyro

from failsafe.cli.execution import DEFAULT, ExecutionOptions
from failsafe.cli.output import ProgressReporter, print_json
from failsafe.datasets.build import build_dataset, partitions_of
from failsafe.datasets.manifest import read_manifest
from failsafe.errors import UserError
from failsafe.experts.tasks import check_task, expand_tasks, task_name
from failsafe.generation.config import (
    PARTITIONS,
    GenerationConfig,
    ModeConfig,
    default_modes,
    parse_seeds,
    parse_shard,
    read_modes_file,
)
from failsafe.generation.partition import Progress
from failsafe.generation.sampling import partition_targets


def generate(
    tasks: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    *,
    out: Path,
    failures: int = 100,
    modes: str = "",
    modes_file: Path | None = None,
    seeds: str = "0:100000",
    labels: int = 4,
    verify_rollouts: int = 5,
    compound: float = 0.1,
    manifest: Path | None = None,
    execution: ExecutionOptions = DEFAULT,
    shard: str = "",
    partitions: int = PARTITIONS,
    needed: bool = False,
    json: bool = False,
) -> int:
    """Perturb tasks in many ways, and prove the smallest correction of each failure.

    Interrupted at any time, the same command resumes.

    Args:
        tasks: Names of tasks and of whole suites, or MODULE:FUNCTION that returns a failsafe.Task.
        out: Folder of the dataset.
        failures: Failures with a proven correction to generate; harmless and unrecoverable ones are extra.
        modes: Failure modes to use, separated by commas; all by default.
        modes_file: YAML file with weight, magnitude and moment of each mode.
        seeds: Seeds FIRST:LAST of the initial states, the last not included.
        labels: Steps after the onset of each failure to find corrections for.
        verify_rollouts: Rollouts with each correction: one exact, the others with noise and delay.
        compound: Share of the cases with two perturbations at once.
        manifest: Take tasks and settings from this manifest.json, to generate its dataset again.
        execution: Where it runs.
        shard: I/N: generate the I-th of N parts, from 0; `failsafe merge` merges the parts.
        partitions: Independent parts of the run: the most workers and shards; part of what the dataset is.
        needed: Count failures with a needed correction only: the expert fails without it, even if the cause
            ends and the expert plans anew.
        json: Print the result as JSON.

    Raises:
        UserError: If neither or both of tasks and manifest are given, or a value is not valid.
    """
    if manifest is not None:
        if tasks:
            raise UserError("expected tasks or --manifest, got both: the manifest names the tasks")
        config = read_manifest(manifest.parent if manifest.name == "manifest.json" else manifest).config
    else:
        first, last = parse_seeds(seeds)
        config = GenerationConfig(
            tasks=tuple(task_name(task) for task in expand_tasks(tasks)),
            failures=failures,
            modes=_modes(modes, modes_file),
            first_seed=first,
            last_seed=last,
            labels=labels,
            verify_rollouts=verify_rollouts,
            compound=compound,
            partitions=partitions,
            needed=needed,
        )
    part = parse_shard(shard, config.partition_count) if shard else None
    for task in config.tasks:
        check_task(task)
    run_on = execution.load()
    begun = time.monotonic()
    wanted = sum(len(partition_targets(config, partition)) for partition in partitions_of(config, part))
    categories: Counter[str] = Counter()
    resumed = with_needed = 0
    with ProgressReporter("failures", wanted, quiet=json) as reporter:

        def show(progress: Progress) -> None:
            nonlocal resumed, with_needed
            categories[progress.category] += 1
            resumed += progress.resumed
            with_needed += progress.needed
            note = ", ".join(f"{n} {v}" for v, n in sorted(categories.items()) if v != "nominal")
            reporter.advance(int(progress.target_done), note)

        build_dataset(config, out, show, run_on, part)
    seconds = time.monotonic() - begun
    verified, nominal_failed = categories["recoverable"], categories["nominal_failed"]
    if json:
        result = {"dataset": str(out), "wanted": wanted, "verified": verified, "needed": with_needed}
        print_json(
            result | {"seconds": round(seconds, 1), "resumed": resumed, "categories": dict(categories)}
        )
        return 0
    got, kind = (with_needed, "needed") if config.needed else (verified, "proven")
    print(f"{out}: {got} of {wanted} failures with a {kind} correction, after {seconds:.0f} s")
    before = f"; {resumed} of an earlier run" if resumed else ""
    print(", ".join(f"{n} {v}" for v, n in sorted(categories.items())) + before)
    if nominal_failed:
        print(f"{nominal_failed} initial states skipped, because the expert failed on them")
    trust = "".join(f" --trust {name}" for name in (*config.tasks, *config.modes) if ":" in name)
    verbs = ("render", "gallery", "coverage")
    print("next: " + " && ".join(f"failsafe {verb} {out}{trust}" for verb in verbs))
    return 0


def _modes(names: str, file: Path | None) -> dict[str, ModeConfig]:
    """Return the named modes, all modes, or the modes of the file; a file's settings replace the defaults."""
    chosen = default_modes(tuple(name.strip() for name in names.split(",") if name.strip()))
    if file is None:
        return chosen
    settings = read_modes_file(file)
    return {name: settings.get(name, mode) for name, mode in chosen.items()} if names else settings
