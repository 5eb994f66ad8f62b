"""Measure the yield of every task of some suites with a small dataset each.

    python benchmarks/task_yield.py metaworld --failures 3 --out out/metaworld-yield
    python benchmarks/task_yield.py libero_spatial libero_object libero_goal --failures 2 --out out/libero

Every task appends a line to `benchmarks/results/task_yield.jsonl`, with the commit that was measured; those
that exist are skipped. The printed table is made from that file alone.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import failsafe as fs
from failsafe.datasets.store import Dataset
from failsafe.experts.tasks import expand_tasks, task_name
from failsafe.records.case import Outcome
from failsafe.records.names import folder_name
from failsafe.records.provenance import collect_provenance
from failsafe.simulators.metaworld.tasks import HARD_TO_JUDGE

RESULTS = Path(__file__).parent / "results" / "task_yield.jsonl"
_DIGITS = 12


def main() -> None:
    """Generate the datasets, and print a row for each task and the sum for each suite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", help="suites or tasks; none: only print the tables")
    parser.add_argument("--failures", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out/yield"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = collect_provenance()
    commit = found.commit[:_DIGITS] + ("-dirty" if found.dirty else "")
    done = {line["task"] for line in _lines(options.results)}
    for name in map(task_name, expand_tasks(options.suites)):
        if name not in done and name not in HARD_TO_JUDGE:
            line = _measure(name, options.failures, options.out) | {"commit": commit}
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)
    lines = _lines(options.results)
    print("| suite | tasks | with verified failures | rollouts | failures | verified | CPU s |")
    for suite in dict.fromkeys(line["task"].split("/")[0] for line in lines):
        own = [line for line in lines if line["task"].split("/")[0] == suite]
        sums = [sum(line[key] for line in own) for key in ("rollouts", "failures", "verified", "cpu_seconds")]
        print(
            f"| {suite} | {len(own)} | {sum(x['verified'] > 0 for x in own)} |", *(f"{s:.0f} |" for s in sums)
        )


def _measure(name: str, failures: int, out: Path) -> dict[str, Any]:
    """Generate a dataset of one task, and count."""
    began = time.process_time()
    data = fs.generate(
        name,
        failures=failures,
        labels=1,
        verify_rollouts=1,
        partitions=1,
        out=out / folder_name(name),
        executor="serial",
    )
    cases = list(Dataset(data.path).cases())
    return {
        "task": name,
        "rollouts": len(cases),
        "failures": sum(case.outcome is Outcome.FAILURE for case in cases),
        "verified": sum(case.verified for case in cases),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def _lines(results: Path) -> list[dict[str, Any]]:
    text = results.read_text(encoding="utf-8") if results.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


if __name__ == "__main__":
    main()
