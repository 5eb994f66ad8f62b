"""Measure how often the expert solves LIBERO's tasks at rest, and write the table of `failsafe tasks`.

    python -m benchmarks.libero_experts libero_spatial libero_object libero_goal --seeds 10

Every rollout appends a line to `benchmarks/results/libero_experts.jsonl`, with the commit that was measured;
those that exist are skipped, unless `--again` asks for those of other commits. The table is made from that
file alone: of each task and seed, the last line counts.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.lines import append_line, measured_commit, read_lines, write_rates
from failsafe.evaluation.statistics import wilson
from failsafe.experts.tasks import expand_tasks, load_task, task_name
from failsafe.generation.nominal import run_nominal
from failsafe.simulators.libero.tasks import SUITES, task_names

RESULTS = Path(__file__).parent / "results" / "libero_experts.jsonl"


def main() -> None:
    """Measure the tasks of some suites, and update the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="suites or tasks, in order; none: only write the table")
    parser.add_argument("--seeds", type=int, default=10, help="stored initial states 0 to SEEDS - 1")
    parser.add_argument("--again", action="store_true", help="repeat what was measured at another commit")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    commit = measured_commit()
    lines = read_lines(options.results)
    done = {(x["task"], x["seed"]) for x in lines if not options.again or x["commit"] == commit}
    for name in map(task_name, expand_tasks(options.names)):
        seeds = [seed for seed in range(options.seeds) if (name, seed) not in done]
        _measure(name, seeds, commit, options.results)
    by_task = _by_task(read_lines(options.results))
    write_rates(SUITES, {name: [sum(x["success"] for x in own), len(own)] for name, own in by_task.items()})
    for name, figure in figures(options.results).items():
        print(f"{name}\n{figure}\n")


def _measure(name: str, seeds: Sequence[int], commit: str, results: Path) -> None:
    """Run a task from some seeds, one line each. The first rollout's CPU time contains the search."""
    if not seeds:
        return
    task = load_task(name)
    for seed in seeds:
        began = time.process_time()
        nominal = run_nominal(task, seed)
        line = {
            "task": name,
            "seed": seed,
            "success": nominal.record.success,
            "reason": nominal.record.reason,
            "stages": [stage.name for stage in nominal.record.plan.stages],
            "steps": len(nominal.trace),
            "searched": seed == seeds[0],
            "cpu_seconds": round(time.process_time() - began, 2),
            "commit": commit,
        }
        append_line(results, line)
        print(f"{name} {seed}: {line['success']} {line['cpu_seconds']} s {line['reason']}", flush=True)
    task.simulator.close()


def _by_task(lines: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the last line of each seed, by task in LIBERO's order."""
    last = {(line["task"], line["seed"]): line for line in lines}
    by_task: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for (name, _), line in last.items():
        by_task[name].append(line)
    return {name: by_task[name] for name in task_names() if name in by_task}


def figures(results: Path = RESULTS) -> dict[str, str]:
    """Return what docs/experts.md states of a record, by name.

    Args:
        results: The record.
    """
    by_task = _by_task(read_lines(results))
    commits: defaultdict[str, int] = defaultdict(int)
    suites = ["", "", "| suite | tasks | solved at least once | rollouts | solved | share | 95 % |"]
    suites.append("|---|---:|---:|---:|---:|---:|---:|")
    for suite in SUITES:
        own = [lines for name, lines in by_task.items() if name.split("/")[0] == suite]
        rollouts = [line for lines in own for line in lines]
        solved = sum(line["success"] for line in rollouts)
        bounds = wilson(solved, len(rollouts))
        if bounds is None:
            continue
        once = sum(any(line["success"] for line in lines) for lines in own)
        low, high = (f"{100 * bound:.0f}" for bound in bounds)
        share = f"{100 * solved / len(rollouts):.0f} %"
        suites.append(
            f"| {suite} | {len(own)} | {once} | {len(rollouts)} | {solved} | {share} | {low} to {high} % |"
        )
    failed = ["", "", "| task | solved | what the first failure says |", "|---|---:|---|"]
    for name, lines in by_task.items():
        for line in lines:
            commits[line["commit"]] += 1
        missed = [line for line in lines if not line["success"]]
        if missed:
            solved = f"{len(lines) - len(missed)} of {len(lines)}"
            failed.append(f"| {name} | {solved} | {missed[0]['reason']} |")
    said = ", ".join(f"{count} rollouts at `{commit}`" for commit, count in commits.items())
    return {
        "suites": "\n".join([*suites, "", ""]),
        "failed": "\n".join([*failed, "", ""]),
        "commits": said,
    }


if __name__ == "__main__":
    main()
