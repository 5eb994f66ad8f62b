"""Measure the speeds and sizes that the README states, on this machine: `make bench`.

Prints each figure with its target, and writes `benchmarks/results/bench.json` and `docs/bench.md`. Beside the
generator it runs the same tasks through ManiSkill's own planner and `env.step`, in an environment with numpy
below 2 that `setup_mplib_env.sh` makes at the first run. `--quick` (`make bench QUICK=1`) runs all but the
planner once, in about a minute, to see that it works, and writes to `bench-out`.

A benchmark is a function `(bench, sizes)` in `BENCHMARKS` that adds its figures to `bench`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import measures
from benchmarks.measures import Seconds, clock
from benchmarks.report import Bench, machine, page, time_shares
from benchmarks.sizes import FULL, QUICK, Sizes
from benchmarks.stopwatches import PHYSICS, Stopwatches
from benchmarks.workers import measure_workers
from failsafe.errors import MissingRendererError
from failsafe.experts.tasks import Task, load_task
from failsafe.models.loading import load_model

HERE = Path(__file__).resolve().parent
QUICK_OUT = HERE.parent / "bench-out"
MPLIB_ENV = "FAILSAFE_MPLIB_ENV"


def run_generation(bench: Bench, sizes: Sizes) -> None:
    """Measure nominal rollouts, verified failures and files."""
    with clock() as bench.starts["imports (torch, ManiSkill, SAPIEN)"]:
        importlib.import_module("failsafe.simulators.maniskill.simulator")
    tasks: dict[str, Task] = {}
    for name in sizes.tasks:
        with clock() as bench.starts[f"environment of {name}"]:
            tasks[name] = load_task(name)
    for name, task in tasks.items():
        nominals = measures.measure_nominals(task, sizes.nominal_seconds)
        bench.nominal_per_cpu_second[name] = nominals.rollouts / nominals.seconds.cpu
        bench.add_rate(
            f"nominal rollouts with reset, per core, {name}",
            nominals.rollouts,
            nominals.seconds,
            least=25 if name == "PickCube-v1" else None,
            note=f"{nominals.successes}/{nominals.rollouts} succeed, "
            f"{nominals.steps / nominals.rollouts:.0f} steps",
        )
    first = sizes.tasks[0]
    for run, failures, labels, rollouts, least in (
        ("one label, exact check alone", sizes.one_label_failures, 1, 1, 6.0),
        ("four labels, exact + 4 noisy rollouts", sizes.four_label_failures, 4, 5, 1.5),
    ):
        found = measures.measure_generation(first, tasks[first], failures, labels, rollouts)
        bench.runs[run] = found
        cases = ", ".join(f"{n} {category}" for category, n in sorted(found.categories.items()))
        rate = f"verified failures, per core, {run}"
        bench.add_rate(rate, found.verified, found.seconds, least=least, note=cases)
        bench.add_rate(f"labelled corrections, per core, {run}", found.corrections, found.seconds)
        overhead = Stopwatches.cost() * found.watches.calls.total() / found.seconds.wall
        bench.add(
            f"share of the time in the physics engine's step, {run}",
            100 * found.watches.seconds[PHYSICS] / found.seconds.wall,
            "%",
            note=f"measuring it took {100 * overhead:.1f} %",
        )
    for task in tasks.values():
        task.simulator.close()
    _add_files(bench, found)


def _add_files(bench: Bench, run: measures.Generation) -> None:
    kb = run.case_kb + run.nominal_kb
    bench.add(
        "an episode on disk, without images",
        statistics.mean(run.case_kb),
        "kB",
        most=50,
        note=f"file over rollouts, {len(run.case_kb)} cases; nominal rollouts "
        f"{statistics.mean(run.nominal_kb):.3g} kB; largest {max(kb):.3g} kB",
    )


def run_workers(bench: Bench, sizes: Sizes) -> None:
    """Measure two workers against one, and a worker's memory."""
    scaling = measure_workers(sizes)
    rounds = ", ".join(f"{one:.1f}/{two:.1f}" for one, two in scaling.rounds)
    bench.add(
        "two workers' rate over one's",
        scaling.wall,
        "x",
        least=1.8,
        note=f"{scaling.cpu:.3g} in CPU time; a bare loop on this machine {scaling.loop:.3g}; "
        f"seconds alone/both: {rounds}",
    )
    number = len(sizes.tasks)
    bench.add(f"peak memory of a worker, tasks: {number}", scaling.peak_mb, "MB", most=1500, note="VmHWM")


def run_views(bench: Bench, sizes: Sizes) -> None:
    """Measure images with decimated and with full meshes."""
    name = sizes.tasks[0]
    try:
        light, full = load_task(name), load_task(name, full_meshes=True)
        views = measures.measure_views(light, full, sizes.views)
    except MissingRendererError as error:
        bench.add("a 224x224 view, decimated meshes", None, "ms", most=15, note=f"no renderer: {error}")
        return
    for meshes, times, most in (("decimated", views.light, 15.0), ("full", views.full, None)):
        fastest = ", ".join(f"{camera} {min(found):.3g}" for camera, found in times.items())
        bench.add(
            f"a 224x224 view, {meshes} meshes",
            views.median(times),
            "ms",
            most=most,
            note=f"median; fastest {views.best(times):.3g} ms ({fastest})",
        )
    bench.add("mean difference of the two, of 255", views.difference, "", most=1.5)
    for task in (light, full):
        task.simulator.close()


def run_queries(bench: Bench, sizes: Sizes) -> None:
    """Measure queries of the recovery model that ships."""
    model = load_model("compact", any_instruction=True)
    times = measures.measure_queries(model, "pick up the cube", sizes.queries)
    bench.add(
        "a query of the compact recovery model",
        statistics.median(times),
        "ms",
        note=f"median of {len(times)}, one thread; slowest {max(times):.3g} ms",
    )


def run_planner(bench: Bench, sizes: Sizes, environment: Path | str) -> None:
    """Measure the same tasks through ManiSkill's own planner and `env.step`, beside our nominal rollouts.

    Args:
        bench: The figures.
        sizes: The amount of work.
        environment: Folder of the environment with mplib, or why there is none.
    """
    for name in sizes.tasks:
        title = f"ManiSkill's own planner and env.step, {name}"
        measured = (
            environment
            if isinstance(environment, str)
            else _time_planner(environment, name, sizes.planner_episodes)
        )
        if isinstance(measured, str):
            bench.add(title, None, "/s", note=f"skipped: {measured}")
            continue
        theirs = Seconds(measured["seconds"], measured["cpu_seconds"])
        successes = f"{measured['successes']}/{measured['rollouts']} succeed"
        bench.add_rate(title, measured["rollouts"], theirs, note=successes)
        bench.add(
            f"our nominal rollouts over it, {name}",
            bench.nominal_per_cpu_second[name] * theirs.cpu / measured["rollouts"],
            "x",
            note="rates per CPU second; ours include settling before success is judged, theirs do not",
        )


def _time_planner(environment: Path, task: str, episodes: int) -> dict[str, Any] | str:
    python, script = environment / "bin" / "python", HERE / "maniskill_planner.py"
    command = [str(python), str(script), "--time", task, str(episodes)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=True
        )
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return f"{type(error).__name__}: {error}"


def find_mplib_environment(given: Path | None) -> Path | str:
    """Return the environment with mplib, made if need be; or why there is none.

    Args:
        given: Folder to use; None for the one of `MPLIB_ENV`, or one in the repository.
    """
    if given is None and MPLIB_ENV in os.environ:
        given = Path(os.environ[MPLIB_ENV])
    folder = given or HERE.parent / ".venv-mplib"
    if (folder / "bin" / "python").exists():
        return folder
    if given is not None:
        return f"there is no {folder}/bin/python"
    print("making the environment of ManiSkill's own planner (once, some minutes) ...", flush=True)
    command = ["bash", str(HERE / "setup_mplib_env.sh"), str(folder)]
    environment = {"PYTHON": sys.executable, **os.environ}
    try:
        subprocess.run(
            command,
            check=True,
            timeout=900,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=environment,
        )
    except (OSError, subprocess.SubprocessError) as error:
        output = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return f"its environment could not be made: {output[-1] if output else error}"
    return folder


BENCHMARKS: tuple[Callable[[Bench, Sizes], None], ...] = (
    run_generation,
    run_workers,
    run_views,
    run_queries,
)


@dataclass(frozen=True)
class Arguments:
    """The command line.

    Attributes:
        quick: Whether to run everything once, to see that it works.
        out: Folder to write to; None for where the repository keeps the figures.
        planner: Whether to run ManiSkill's own planner.
        mplib_environment: Folder of the environment with mplib; None to find or make one.
    """

    quick: bool
    out: Path | None
    planner: bool
    mplib_environment: Path | None


def parse(arguments: list[str] | None = None) -> Arguments:
    """Return the command line's arguments.

    Args:
        arguments: The arguments; None for those of this process.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="run everything once, to see that it works")
    add("--out", type=Path, help="folder to write to (default: where the repository keeps the figures)")
    add("--no-mplib", action="store_true", help="leave ManiSkill's own planner out")
    add("--mplib-env", type=Path, help=f"environment with mplib (default: ${MPLIB_ENV}, .venv-mplib)")
    found = parser.parse_args(arguments)
    out = QUICK_OUT if found.quick and found.out is None else found.out
    return Arguments(found.quick, out, not (found.no_mplib or found.quick), found.mplib_env)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write.

    Args:
        arguments: The command line; None for that of this process.
    """
    options = parse(arguments)
    warnings.filterwarnings("ignore")
    sizes = QUICK if options.quick else FULL
    facts = machine() | {"load average at the start": _load()}
    bench = Bench()
    for benchmark in BENCHMARKS:
        benchmark(bench, sizes)
    environment = find_mplib_environment(options.mplib_environment) if options.planner else "not asked for"
    run_planner(bench, sizes, environment)
    facts["load average at the end"] = _load()
    for name, run in bench.runs.items():
        print(f"\nwhere the time is spent, {name}:")
        print("\n".join(f"  {share:5.1f} %  {part}" for part, share in time_shares(run).items()))
    print("\n" + "\n".join(f"{key}: {value}" for key, value in facts.items()))
    _write(bench, facts, options.out)
    missed = [row.name for row in bench.rows if row.met is False]
    print(f"missed: {', '.join(missed)}" if missed else "every target that was measured is met")


def _write(bench: Bench, facts: dict[str, str], out: Path | None) -> None:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    (out / "bench.md" if out else HERE.parent / "docs" / "bench.md").write_text(
        page(bench, facts), encoding="utf-8"
    )
    plain = {
        "machine": facts,
        "figures": [asdict(row) for row in bench.rows],
        "time_shares_percent": {name: time_shares(run) for name, run in bench.runs.items()},
        "once_per_process_s": {name: round(seconds.wall, 3) for name, seconds in bench.starts.items()},
    }
    text = json.dumps(plain, indent=1, ensure_ascii=False) + "\n"
    ((out or HERE / "results") / "bench.json").write_text(text, encoding="utf-8")


def _load() -> str:
    return ", ".join(f"{load:.2f}" for load in os.getloadavg()) + " (1, 5, 15 minutes)"


if __name__ == "__main__":
    main()
