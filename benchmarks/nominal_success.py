"""Measure how often FailSafe's experts solve their ManiSkill tasks, beside ManiSkill's own motion planning.

Runs `failsafe.generation.nominal.run_nominal`, the first step of `failsafe generate`: success is judged once,
at the end and after settling. Every (task, seed) appends one JSON line to the output file; existing pairs are
skipped. `python -m scripts.figures` inserts the tables of that file and of `maniskill_planner.jsonl` into
docs/experts.md.

    .venv/bin/python -m benchmarks.nominal_success --seeds 100
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Generator, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.lines import read_lines

warnings.filterwarnings("ignore", category=DeprecationWarning, module="mani_skill")

Record = dict[str, Any]
"""One rollout, as a line of a results file."""
Records = dict[tuple[str, int | None], Record]
"""Records by task and seed. The planner's records have the seed None for a task that could not be run."""

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "nominal_success.jsonl"
PLANNER = FOLDER / "results" / "maniskill_planner.jsonl"
MEASURED = "2026-11-23"
"""Date of the records in `RESULTS` and `PLANNER`; update it with them."""


def run_task(name: str, seeds: Sequence[int]) -> Generator[Record]:
    """Run the expert of a task from each seed.

    Args:
        name: The task's name.
        seeds: The seeds to run.

    Yields:
        One record per seed. `seconds` and `cpu_seconds` cover the rollout with its reset and its settling.
    """
    from failsafe.experts.tasks import load_task
    from failsafe.generation.nominal import run_nominal

    task = load_task(name)
    for seed in seeds:
        wall, cpu = time.perf_counter(), time.process_time()
        nominal = run_nominal(task, seed)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        yield {
            "task": name,
            "seed": seed,
            "success": nominal.record.success,
            "reason": nominal.record.reason,
            "stages": [stage.name for stage in nominal.record.plan.stages],
            "steps": len(nominal.trace),
            "seconds": round(wall, 4),
            "cpu_seconds": round(cpu, 4),
        }
    task.simulator.close()


def read_records(path: Path) -> Records:
    """Read a results file.

    Args:
        path: The JSON lines file; it need not exist.

    Returns:
        The records by (task, seed), the last one where there are several.
    """
    return {(r["task"], r["seed"]): r for r in read_lines(path)}


def share(successes: Sequence[bool]) -> str:
    """Write a list of booleans as "48/50 (96 %)".

    Args:
        successes: One boolean per rollout.

    Returns:
        The text, empty where there was no rollout.
    """
    if not successes:
        return ""
    return f"{sum(successes)}/{len(successes)} ({100 * sum(successes) / len(successes):.0f} %)"


def milliseconds(records: Iterable[Record]) -> str:
    """Return the median CPU time of the rollouts that ended, in ms, as text; empty if there is none."""
    seconds = [r["cpu_seconds"] for r in records if r.get("cpu_seconds") is not None]
    return f"{1000 * statistics.median(seconds):.0f}" if seconds else ""


def table(ours: Records, planner: Records) -> tuple[str, str]:
    """Compare both results in a table.

    Args:
        ours: Records of FailSafe's experts by (task, seed).
        planner: Records of ManiSkill's planner.

    Returns:
        A Markdown table, one row per task, and a list of the failures of FailSafe's experts with reasons.
    """
    head = (
        "task",
        "FailSafe, all seeds",
        "FailSafe, same seeds",
        "ManiSkill's planner",
        "FailSafe [ms]",
        "planner [ms]",
    )
    rows, notes = [head, ("---",) + ("---:",) * (len(head) - 1)], []
    for task in sorted({name for name, _ in ours}):
        mine = {seed: r for (name, seed), r in ours.items() if name == task}
        theirs = {seed: r for (name, seed), r in planner.items() if name == task}
        same = [mine[seed]["success"] for seed in theirs if seed in mine]
        rows.append(
            (
                task,
                share([r["success"] for r in mine.values()]),
                share(same),
                share([r["outcome"] == "success" for r in theirs.values()]),
                milliseconds(mine.values()),
                milliseconds(theirs.values()),
            )
        )
        reasons: dict[str, list[str]] = {}
        for seed, record in sorted(mine.items()):
            if not record["success"]:
                reasons.setdefault(record["reason"], []).append(str(seed))
        notes += [f"- {task}: {reason} (seeds {', '.join(seeds)})" for reason, seeds in reasons.items()]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return text, "\n".join(notes) or "- none"


def figures() -> dict[str, str]:
    """Return what docs/experts.md states of the records, by name."""
    ours, planner = read_records(RESULTS), read_records(PLANNER)
    rates, failed = table(ours, planner)
    return {
        "rates": rates,
        "failed": failed,
        "seeds": _seeds(ours),
        "planner_seeds": _seeds(planner),
        "measured": MEASURED,
    }


def _seeds(records: Records) -> str:
    seeds = [seed for _, seed in records if seed is not None]
    return f"{min(seeds)} to {max(seeds)}" if seeds else "none"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: The command line; None for that of this process.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("tasks", nargs="*", metavar="TASK", help="tasks to run (default: all that have a solution)")
    add("--seeds", type=int, default=100, help="number of seeds, from 0 on (default 100)")
    add("--out", type=Path, default=RESULTS, help="JSON lines file")
    args = parser.parse_args(arguments)
    from failsafe.experts.maniskill import maniskill_tasks

    args.out.parent.mkdir(parents=True, exist_ok=True)
    packages = {name: version(name) for name in ("mani_skill", "sapien", "numpy")}
    with args.out.open("a", encoding="utf-8") as file:
        for name in args.tasks or maniskill_tasks():
            done = read_records(args.out)
            wanted = [seed for seed in range(args.seeds) if (name, seed) not in done]
            for record in run_task(name, wanted) if wanted else ():
                file.write(json.dumps({**record, "versions": packages}) + "\n")
                file.flush()
                print(name, record["seed"], record["reason"] or "success", file=sys.stderr)


if __name__ == "__main__":
    main()
