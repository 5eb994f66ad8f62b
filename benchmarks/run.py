"""The speeds and sizes that the README states, measured on this machine in one run: `make bench`.

Prints a table with the target of each figure beside it, and writes `benchmarks/results/bench.json` and
`docs/bench.md`. Beside the generator it runs the same tasks through ManiSkill's own planner and `env.step`,
in an environment with numpy below 2 that `setup_mplib_env.sh` makes at the first run.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import measures
from benchmarks.measures import Pairs, Seconds, clock
from benchmarks.report import Bench, machine, page, where_time_goes
from benchmarks.stopwatches import PHYSICS, Stopwatches
from benchmarks.workers import measure_workers
from failsafe.errors import MissingRendererError
from failsafe.experts.tasks import Task, load_task

HERE = Path(__file__).resolve().parent
TASKS = ("PickCube-v1", "PushCube-v1", "StackCube-v1")
MPLIB_ENV = "FAILSAFE_MPLIB_ENV"
_MPLIB_EPISODES = 15


def run_generation(bench: Bench, quick: float) -> tuple[dict[str, Seconds], list[tuple[str, Pairs]]]:
    """Nominal rollouts and verified pairs; returns what starting took, and the runs."""
    starts: dict[str, Seconds] = {}
    with clock() as starts["imports (torch, ManiSkill, SAPIEN)"]:
        importlib.import_module("failsafe.experts.maniskill").maniskill_tasks()
    tasks: dict[str, Task] = {}
    for name in TASKS:
        with clock() as starts[f"environment of {name}"]:
            tasks[name] = load_task(name)
    for name in TASKS:
        n = measures.measure_nominals(tasks[name], 8.0 * quick)
        bench.nominal_per_cpu_second[name] = n.rollouts / n.seconds.cpu
        bench.add_rate(
            f"nominal rollouts with reset, per core, {name}",
            n.rollouts,
            n.seconds,
            least=25 if name == "PickCube-v1" else None,
            note=f"{n.successes}/{n.rollouts} succeed, {n.steps / n.rollouts:.0f} steps",
        )
    runs: list[tuple[str, Pairs]] = []
    for words, failures, labels, rollouts, least in (
        ("one label, exact check alone", 64, 1, 1, 4.0),
        ("four labels, exact + 4 noisy rollouts", 24, 4, 5, 1.0),
    ):
        pairs = measures.measure_pairs(
            "PickCube-v1", tasks["PickCube-v1"], max(4, round(failures * quick)), labels, rollouts
        )
        runs.append((words, pairs))
        tried = ", ".join(f"{n} {verdict}" for verdict, n in sorted(pairs.verdicts.items()))
        bench.add_rate(
            f"verified pairs, per core, {words}", pairs.verified, pairs.seconds, least=least, note=tried
        )
        bench.add_rate(f"labelled corrections, per core, {words}", pairs.corrections, pairs.seconds)
    for words, pairs in runs:
        cost = Stopwatches.cost() * sum(pairs.watches.calls.values()) / pairs.seconds.wall
        bench.add(
            f"share inside the physics engine's step, {words}",
            100 * pairs.watches.seconds[PHYSICS] / pairs.seconds.wall,
            "%",
            least=60,
            note=f"measuring it took {100 * cost:.1f} %",
        )
    for task in tasks.values():
        task.simulator.close()
    return starts, runs


def report_files(bench: Bench, pairs: Pairs) -> None:
    """Sizes on disk."""
    kb = pairs.case_kb + pairs.nominal_kb
    bench.add(
        "an episode on disk, without images",
        statistics.mean(pairs.case_kb),
        "kB",
        most=50,
        note=f"file over rollouts, {len(pairs.case_kb)} cases; nominal twins "
        f"{statistics.mean(pairs.nominal_kb):.3g} kB; largest {max(kb):.3g} kB",
    )


def run_views(bench: Bench, quick: float) -> None:
    """Pictures with decimated and with full meshes."""
    try:
        light, full = load_task("PickCube-v1"), load_task("PickCube-v1", full_meshes=True)
        views = measures.measure_views(light, full, max(3, round(12 * quick)))
    except MissingRendererError as error:
        bench.add("a 224x224 view, decimated meshes", None, "ms", most=15, note=f"no renderer: {error}")
        return
    for words, times, most in (("decimated", views.light, 15.0), ("full", views.full, None)):
        bench.add(
            f"a 224x224 view, {words} meshes",
            views.median(times),
            "ms",
            most=most,
            note=f"median; fastest {views.best(times):.3g} ms ("
            + ", ".join(f"{name} {min(t):.3g}" for name, t in times.items())
            + ")",
        )
    bench.add("mean difference of the two, of 255", views.difference, "", most=1.5)
    for task in (light, full):
        task.simulator.close()


def run_workers(bench: Bench) -> None:
    """Two workers against one, and a worker's memory."""
    scaling = measure_workers(TASKS[0], TASKS[1:])
    rounds = ", ".join(f"{one:.1f}/{two:.1f}" for one, two in scaling.rounds)
    bench.add(
        "two workers' rate over one's",
        scaling.wall,
        "x",
        least=1.8,
        note=f"{scaling.cpu:.3g} in CPU time; a bare loop on this machine {scaling.loop:.3g}; "
        f"seconds alone/both: {rounds}",
    )
    bench.add("peak memory of a worker, three tasks", scaling.peak_mb, "MB", most=1500, note="VmHWM")


def find_mplib_env(given: Path | None) -> Path | str:
    """The environment with mplib, made if need be; or why there is none."""
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
        subprocess.run(command, check=True, timeout=900, capture_output=True, text=True, env=environment)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return f"its environment could not be made: {said[-1] if said else error}"
    return folder


def run_baseline(bench: Bench, env: Path | str, quick: float) -> None:
    """The same tasks through ManiSkill's own planner and `env.step`, beside our nominal rollouts."""
    for name in TASKS:
        title = f"ManiSkill's own planner and env.step, {name}"
        measured = (
            env if isinstance(env, str) else _time_planner(env, name, max(3, round(_MPLIB_EPISODES * quick)))
        )
        if isinstance(measured, str):
            bench.add(title, None, "/s", note=f"skipped: {measured}")
            continue
        theirs = Seconds(measured["seconds"], measured["cpu_seconds"])
        bench.add_rate(
            title,
            measured["rollouts"],
            theirs,
            note=f"{measured['successes']}/{measured['rollouts']} succeed",
        )
        bench.add(
            f"our nominal rollouts over it, {name}",
            bench.nominal_per_cpu_second[name] * theirs.cpu / measured["rollouts"],
            "x",
            note="rates per CPU second; ours hold still for 0.6 s before success is judged, theirs do not",
        )


def _time_planner(env: Path, task: str, episodes: int) -> dict[str, Any] | str:
    command = [str(env / "bin" / "python"), str(HERE / "maniskill_planner.py"), "--time", task, str(episodes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--mplib-env", type=Path, help=f"environment with mplib (default: ${MPLIB_ENV}, .venv-mplib)"
    )
    parser.add_argument("--no-mplib", action="store_true", help="leave ManiSkill's own planner out")
    parser.add_argument(
        "--quick", type=float, default=1.0, help="share of the work, to try the benchmark itself"
    )
    parser.add_argument(
        "--out", type=Path, help="folder to write to (default: where the repository keeps them)"
    )
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    facts = machine() | {"load average at the start": _load()}
    bench = Bench()
    starts, runs = run_generation(bench, args.quick)
    report_files(bench, runs[1][1])
    run_workers(bench)
    run_views(bench, args.quick)
    run_baseline(bench, "not asked for" if args.no_mplib else find_mplib_env(args.mplib_env), args.quick)
    facts["load average at the end"] = _load()
    for words, pairs in runs:
        print(f"\nwhere the time goes, {words}:")
        print("\n".join(f"  {share:5.1f} %  {name}" for name, share in where_time_goes(pairs)))
    print("\n" + "\n".join(f"{key}: {value}" for key, value in facts.items()))
    results = args.out or HERE / "results"
    text = page(bench, facts, starts, runs)
    (args.out / "bench.md" if args.out else HERE.parent / "docs" / "bench.md").write_text(text)
    plain = {
        "machine": facts,
        "figures": [asdict(row) for row in bench.rows],
        "where_the_time_goes_percent": {words: dict(where_time_goes(pairs)) for words, pairs in runs},
        "once_per_process_s": {name: round(seconds.wall, 3) for name, seconds in starts.items()},
    }
    (results / "bench.json").write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    missed = [row.name for row in bench.rows if row.met is False]
    print(f"missed: {', '.join(missed)}" if missed else "every target that was measured is met")


def _load() -> str:
    return ", ".join(f"{load:.2f}" for load in os.getloadavg()) + " (1, 5, 15 minutes)"


if __name__ == "__main__":
    main()
