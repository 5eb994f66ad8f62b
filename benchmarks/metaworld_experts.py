"""Measure how often Meta-World's experts succeed at rest, and write the table of `failsafe tasks`.

    python benchmarks/metaworld_experts.py --seeds 10

A rollout counts if the plan that was cut from the policy's rollout, carried out open loop, ends in success
after settling: what generation starts from.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from failsafe.experts.tasks import load_task
from failsafe.generation.nominal import run_nominal
from failsafe.simulators.metaworld.tasks import task_names

TABLE = Path(__file__).parents[1] / "src/failsafe/experts/success_rates.json"


def main() -> None:
    """Measure all tasks, print a row for each, and update the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    seeds: int = parser.parse_args().seeds
    rates = json.loads(TABLE.read_text(encoding="utf-8"))
    for name in task_names():
        task, began = load_task(name), time.process_time()
        runs = [run_nominal(task, seed) for seed in range(seeds)]
        milliseconds = 1000 * (time.process_time() - began) / seeds
        successes = sum(run.record.success for run in runs)
        stages = sorted({stage.name for run in runs for stage in run.record.plan.stages})
        rates[name] = [successes, seeds]
        print(f"| {name} | {successes}/{seeds} | {milliseconds:.0f} | {', '.join(stages)} |", flush=True)
        task.simulator.close()
    TABLE.write_text(json.dumps(rates, indent=0, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
