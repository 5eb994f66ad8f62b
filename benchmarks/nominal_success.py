"""Measure how often our experts solve their ManiSkill tasks, beside ManiSkill's own motion planning.

Runs `failsafe.generation.nominal.run_nominal`, with which `failsafe generate` starts: success is judged once,
at the end and after settling. Every (task, seed) appends one JSON line to the output file; pairs that are
there already are skipped. The page is made from that file and from `maniskill_planner.jsonl` alone:

    .venv/bin/python benchmarks/nominal_success.py --seeds 100
    .venv/bin/python benchmarks/nominal_success.py --page-only
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Generator, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when numpy is first imported
    os.environ.setdefault(variable, "1")
warnings.filterwarnings("ignore", category=DeprecationWarning, module="mani_skill")

Record = dict[str, Any]
"""One rollout, as a line of a results file."""
Records = dict[tuple[str, int | None], Record]
"""Records by task and seed; the planner's has the seed None for a task that could not be run."""

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "nominal_success.jsonl"
PLANNER = FOLDER / "results" / "maniskill_planner.jsonl"
PAGE = FOLDER.parent / "docs" / "experts.md"


def run_task(name: str, seeds: Sequence[int]) -> Generator[Record]:
    """Let our expert solve a task from each seed.

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
    lines = path.read_text().splitlines() if path.exists() else []
    return {(r["task"], r["seed"]): r for r in map(json.loads, lines)}


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
    """The median CPU time of the rollouts that ended, in ms, as text; empty where there is none."""
    seconds = [r["cpu_seconds"] for r in records if r.get("cpu_seconds") is not None]
    return f"{1000 * statistics.median(seconds):.0f}" if seconds else ""


def table(ours: Records, planner: Records) -> tuple[str, str]:
    """Lay out both results side by side.

    Args:
        ours: Our records by (task, seed).
        planner: Those of ManiSkill's planner.

    Returns:
        A Markdown table, one row per task, and a list of why ours failed.
    """
    head = ("task", "ours, all seeds", "ours, same seeds", "ManiSkill's planner", "ms, ours", "ms, planner")
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


def page(ours: Records, planner: Records) -> str:
    """Write the documentation page.

    Args:
        ours: Our records by (task, seed).
        planner: Those of ManiSkill's planner.

    Returns:
        The page as Markdown.
    """
    rows, notes = table(ours, planner)
    return f"""# Experts

An expert solves a task once, from ground truth. On ManiSkill it is the solution script that ManiSkill ships
for the task, run with a stand-in for its planner class: straight lines of the tool and inverse kinematics in
place of `mplib`, each call a stage with a name and a target. No task has code of its own.

## How often they succeed

{rows}

How to read it:

- **Success is judged once, at the end**: the whole script has run, then the last command is held until things
  have come to rest (12 control steps for ours, 10 for ManiSkill's planner), and then the task's own
  `evaluate` decides. A success that came and went does not count. Neither does a motion for which no plan was
  found, or a script that gave up: it is counted as a failure and reported with its reason.
- **All seeds** are {_seeds(ours)}, **same seeds** those that were measured with ManiSkill's planner
  ({_seeds(planner)}): both start from the same initial states.
- **DrawTriangle and DrawSVG**: with mani_skill 3.0.1, their two solutions raise `TypeError` as shipped, for
  they hand one argument more to `BaseMotionPlanningSolver.__init__` than it takes. The stand-in accepts it.
- **ms** is the median CPU time of a rollout with its reset, on one core. Ours is driven through SAPIEN
  directly and includes the settling; the planner's goes through `env.step`, without it.

Rollouts of ours that did not end in success, with the reason recorded; generation leaves such seeds out:

{notes}

Made by `benchmarks/nominal_success.py` from `benchmarks/results/nominal_success.jsonl` (ours) and
`benchmarks/results/maniskill_planner.jsonl` (`benchmarks/maniskill_planner.py`, with numpy<2 and mplib).
"""


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
    add("--page", type=Path, default=PAGE, help="Markdown page to write")
    add("--page-only", action="store_true", help="run nothing, make the page from what is there")
    args = parser.parse_args(arguments)
    if not args.page_only:
        from failsafe.experts.maniskill import maniskill_tasks

        args.out.parent.mkdir(parents=True, exist_ok=True)
        packages = {name: version(name) for name in ("mani_skill", "sapien", "numpy")}
        with args.out.open("a") as file:
            for name in args.tasks or maniskill_tasks():
                done = read_records(args.out)
                wanted = [seed for seed in range(args.seeds) if (name, seed) not in done]
                for record in run_task(name, wanted) if wanted else ():
                    file.write(json.dumps({**record, "versions": packages}) + "\n")
                    file.flush()
                    print(name, record["seed"], record["reason"] or "success", file=sys.stderr)
    args.page.parent.mkdir(parents=True, exist_ok=True)
    args.page.write_text(page(read_records(args.out), read_records(PLANNER)))


if __name__ == "__main__":
    main()
