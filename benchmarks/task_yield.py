"""Measure the yield of every task of some suites with a small dataset each.

    python -m benchmarks.task_yield metaworld --failures 3 --out out/metaworld-yield
    python -m benchmarks.task_yield libero_spatial libero_object libero_goal --failures 2 --out out/libero

Every task appends a line to `benchmarks/results/task_yield.jsonl`, with the commit that was measured; those
that exist are skipped. The printed table is made from that file alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import failsafe as fs
from benchmarks.lines import measured_commit, read_lines, record
from failsafe.datasets.store import Dataset
from failsafe.evaluation.statistics import wilson
from failsafe.experts.tasks import expand_tasks, task_name
from failsafe.records.case import Outcome
from failsafe.records.names import folder_name
from failsafe.simulators.metaworld.tasks import HARD_TO_JUDGE

RESULTS = Path(__file__).parent / "results" / "task_yield.jsonl"


def main() -> None:
    """Generate the datasets, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", help="suites or tasks; none: only print the tables")
    parser.add_argument("--failures", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out/yield"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    commit = measured_commit()
    done = {line["task"] for line in read_lines(options.results) if line["wanted"] == options.failures}
    for name in map(task_name, expand_tasks(options.suites)):
        if name not in done and name not in HARD_TO_JUDGE:
            record(options.results, [_measure(name, options.failures, options.out)], commit)
    for name, figure in figures(options.results).items():
        print(f"{name}\n{figure}\n")


def figures(results: Path = RESULTS) -> dict[str, str]:
    """Return what docs/yield.md states of a record, by name: a table of the suites, and the commits.

    Args:
        results: The record.
    """
    lines = read_lines(results)
    rows = [
        "",
        "",
        "| suite | tasks | with verified failures | rollouts | failures | corrected | share | 95 % | CPU s |",
    ]
    rows.append("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    suites = list(dict.fromkeys(line["task"].split("/")[0] for line in lines))
    for suite in suites:
        rows.append(_row(suite, [line for line in lines if line["task"].split("/")[0] == suite]))
    commits = ", ".join(f"`{commit}`" for commit in dict.fromkeys(line["commit"] for line in lines))
    return {"suites": "\n".join([*rows, "", ""]), "commits": commits}


def _row(name: str, lines: list[dict[str, Any]]) -> str:
    rollouts, failures, corrected = (
        sum(line[key] for line in lines) for key in ("rollouts", "failures", "verified")
    )
    seconds = [line["cpu_seconds"] for line in lines]
    spent = "–" if None in seconds else f"{sum(seconds):.0f}"
    bounds = wilson(corrected, failures)
    interval = "–" if bounds is None else f"{100 * bounds[0]:.0f} to {100 * bounds[1]:.0f} %"
    share = f"{100 * corrected / failures:.0f} %" if failures else "–"
    some = sum(line["verified"] > 0 for line in lines)
    counts = f"{len(lines)} | {some} | {rollouts} | {failures} | {corrected}"
    return f"| {name} | {counts} | {share} | {interval} | {spent} |"


def _measure(name: str, failures: int, out: Path) -> dict[str, Any]:
    """Generate a dataset of one task, and count."""
    began, folder = time.process_time(), out / folder_name(name)
    resumed = folder.exists()
    data = fs.generate(
        name,
        failures=failures,
        labels=1,
        verify_rollouts=1,
        partitions=1,
        out=folder,
        executor="serial",
    )
    cases = list(Dataset(data.path).cases())
    return {
        "task": name,
        "wanted": failures,
        "rollouts": len(cases),
        "failures": sum(case.outcome is Outcome.FAILURE for case in cases),
        "verified": sum(case.verified for case in cases),
        "cpu_seconds": None if resumed else round(time.process_time() - began, 1),
    }


if __name__ == "__main__":
    main()
