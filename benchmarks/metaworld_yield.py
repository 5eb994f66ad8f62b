"""Measure the yield of every Meta-World task with a small dataset each, and print the table of docs/yield.md.

    python benchmarks/metaworld_yield.py --failures 3 --out out/metaworld-yield

The rows are also written to `benchmarks/results/metaworld_yield.json`. Started again, the same command goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import failsafe as fs
from failsafe.datasets.store import Dataset
from failsafe.records.case import Outcome
from failsafe.records.names import folder_name
from failsafe.simulators.metaworld.tasks import HARD_TO_JUDGE, task_names

RESULTS = Path(__file__).parent / "results" / "metaworld_yield.json"


def main() -> None:
    """Generate the datasets, and print a row for each task and the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failures", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out/metaworld-yield"))
    options = parser.parse_args()
    total: Counter[str] = Counter()
    rows: dict[str, dict[str, int]] = {}
    tasks = [name for name in task_names() if name not in HARD_TO_JUDGE]
    for name in tasks:
        data = fs.generate(
            name,
            failures=options.failures,
            labels=1,
            verify_rollouts=1,
            partitions=1,
            out=options.out / folder_name(name),
            executor="serial",
        )
        cases = list(Dataset(data.path).cases())
        found = Counter(
            attempts=len(cases),
            failures=sum(case.outcome is Outcome.FAILURE for case in cases),
            verified=sum(case.verified for case in cases),
        )
        total += found
        rows[name] = dict(found)
        total["tasks"] += found["verified"] > 0
        RESULTS.write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8")
        print(f"| {name} | {found['attempts']} | {found['failures']} | {found['verified']} |", flush=True)
    print(
        f"{total['tasks']} of {len(tasks)} tasks with verified failures; "
        f"{total['verified']} of {total['failures']} failures with a proven correction"
    )


if __name__ == "__main__":
    main()
