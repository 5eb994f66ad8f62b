"""Measure how often the expert solves LIBERO's tasks at rest, and write the table of `failsafe tasks`.

    python benchmarks/libero_experts.py libero_spatial libero_object libero_goal --seeds 10

Every rollout appends a line to `benchmarks/results/libero_experts.jsonl`, with the commit that was measured;
those that exist are skipped, unless `--again` asks for those of other commits. The table is made from that
file alone: of each task and seed, the last line counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from failsafe.experts.tasks import load_task
from failsafe.generation.nominal import run_nominal
from failsafe.records.provenance import collect_provenance
from failsafe.simulators.libero.tasks import SUITES, task_names

RESULTS = Path(__file__).parent / "results" / "libero_experts.jsonl"
TABLE = Path(__file__).parents[1] / "src/failsafe/experts/success_rates.json"
_DIGITS = 12


def main() -> None:
    """Measure the tasks of some suites, and update the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="suites or tasks, in order; none: only write the table")
    parser.add_argument("--seeds", type=int, default=10, help="stored initial states 0 to SEEDS - 1")
    parser.add_argument("--again", action="store_true", help="repeat what was measured at another commit")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = collect_provenance()
    commit = found.commit[:_DIGITS] + ("-dirty" if found.dirty else "")
    lines = _lines(options.results)
    done = {(x["task"], x["seed"]) for x in lines if not options.again or x["commit"] == commit}
    for wanted in options.names:
        for name in task_names():
            if wanted in (name, name.split("/")[0]):
                seeds = [seed for seed in range(options.seeds) if (name, seed) not in done]
                _measure(name, seeds, commit, options.results)
    _write_table(_lines(options.results))


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
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{name} {seed}: {line['success']} {line['cpu_seconds']} s {line['reason']}", flush=True)
    task.simulator.close()


def _write_table(lines: Sequence[dict[str, Any]]) -> None:
    """Write the rates of the tasks, and print a row for each suite."""
    last = {(line["task"], line["seed"]): line for line in lines}
    by_task: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for (name, _), line in last.items():
        by_task[name].append(line)
    measured = {name: [sum(x["success"] for x in found), len(found)] for name, found in by_task.items()}
    rates: dict[str, list[int]] = json.loads(TABLE.read_text(encoding="utf-8"))
    rates = {name: rate for name, rate in rates.items() if name.split("/")[0] not in SUITES} | measured
    TABLE.write_text(json.dumps(rates, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    for suite in SUITES:
        tried = [rate for name, rate in measured.items() if name.split("/")[0] == suite]
        solved, rollouts = sum(s for s, _ in tried), sum(n for _, n in tried)
        print(f"| {suite} | {len(tried)} | {sum(s > 0 for s, _ in tried)} | {solved} | {rollouts} |")
    for searched in (True, False):
        seconds = [line["cpu_seconds"] for line in last.values() if line["searched"] is searched]
        if seconds:
            with_search = "with the search" if searched else "without"
            print(f"CPU s per rollout {with_search}: {sum(seconds) / len(seconds):.2f} ({len(seconds)})")


def _lines(results: Path) -> list[dict[str, Any]]:
    text = results.read_text(encoding="utf-8") if results.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


if __name__ == "__main__":
    main()
