"""Measure how often the expert solves LIBERO's tasks at rest, and write the table of `failsafe tasks`.

    python benchmarks/libero_experts.py libero_spatial libero_object libero_goal --seeds 10

Every rollout appends a line to `benchmarks/results/libero_experts.jsonl`; those that exist are skipped.
The table is made from that file alone.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from failsafe.experts.tasks import load_task
from failsafe.generation.nominal import run_nominal
from failsafe.simulators.libero.tasks import task_names

RESULTS = Path(__file__).parent / "results" / "libero_experts.jsonl"
TABLE = Path(__file__).parents[1] / "src/failsafe/experts/success_rates.json"


def main() -> None:
    """Measure the tasks of some suites, and update the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", help="suites or tasks; none: only write the table")
    parser.add_argument("--seeds", type=int, default=10, help="stored initial states 0 to SEEDS - 1")
    arguments = parser.parse_args()
    done = {(line["task"], line["seed"]) for line in _lines()}
    for name in task_names():
        if not {name, name.split("/")[0]} & set(arguments.suites):
            continue
        seeds = [seed for seed in range(arguments.seeds) if (name, seed) not in done]
        if seeds:
            _measure(name, seeds)
    rates: dict[str, list[int]] = json.loads(TABLE.read_text(encoding="utf-8"))
    successes: defaultdict[str, dict[int, bool]] = defaultdict(dict)
    for line in _lines():
        successes[line["task"]][line["seed"]] = line["success"]
    for name, by_seed in successes.items():
        rates[name] = [sum(by_seed.values()), len(by_seed)]
    for suite in dict.fromkeys(name.split("/")[0] for name in task_names()):
        tried = [rates[name] for name in successes if name.split("/")[0] == suite]
        if tried:
            solved, rollouts = (sum(column) for column in zip(*tried, strict=True))
            print(f"| {suite} | {len(tried)} | {sum(s > 0 for s, _ in tried)} | {solved} | {rollouts} |")
    TABLE.write_text(json.dumps(rates, indent=0, sort_keys=True) + "\n", encoding="utf-8")


def _measure(name: str, seeds: list[int]) -> None:
    """Run a task from some seeds, one line each."""
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
            "cpu_seconds": round(time.process_time() - began, 2),
        }
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    task.simulator.close()


def _lines() -> list[dict[str, Any]]:
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


if __name__ == "__main__":
    main()
