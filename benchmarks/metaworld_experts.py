"""Measure Meta-World's experts at rest and exact branches, and write the tables of `failsafe tasks` and docs.

    python -m benchmarks.metaworld_experts --first 1000 --seeds 20

A rollout counts if the plan that was cut from the policy's rollout, carried out open loop, ends in success
after settling: what generation starts from. A branch is a state of the first rollout, restored in another
simulator and continued with the recorded commands; it counts if every state is the recorded one, bit for bit.

Every rollout is a line of the results file. Started again, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.lines import append_line, read_lines, write_rates
from failsafe.experts.tasks import Task, load_task
from failsafe.generation.nominal import NominalRollout, run_nominal
from failsafe.rollouts.loop import repeat
from failsafe.simulators.contract import Simulator
from failsafe.simulators.metaworld.tasks import task_names

RESULTS = Path(__file__).parent / "results" / "metaworld_experts.jsonl"
BRANCHES, BRANCH_STEPS = 50, 12
"""Branches of each task, and control steps for which each is continued."""
REACHED = 0.9
"""Share of successes from which on a task counts as solved."""


def main() -> None:
    """Measure what is not yet in the results, print a row for each task, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    lines = read_lines(options.results)
    measured: dict[str, list[int]] = {}
    for name in task_names():
        done = {line["seed"] for line in lines if line["task"] == name}
        if missing := [seed for seed in seeds if seed not in done]:
            for line in _measure(load_task(name), missing):
                lines.append(line)
                append_line(options.results, line)
        found = [line for line in lines if line["task"] == name and line["seed"] in seeds]
        measured[name] = [sum(line["success"] for line in found), len(found)]
        print(_row(name, found), flush=True)
    write_rates(("metaworld",), measured)


def figures(results: Path = RESULTS) -> dict[str, str]:
    """Return what docs/experts.md states of a record, by name.

    Args:
        results: The record.
    """
    by_task: dict[str, list[dict[str, Any]]] = {}
    for line in read_lines(results):
        by_task.setdefault(line["task"], []).append(line)
    solved = {name: sum(line["success"] for line in lines) for name, lines in by_task.items()}
    rows = ["", "", "| task | success at rest | exact branches | stages |", "| --- | ---: | ---: | --- |"]
    rows += [_row(name, lines) for name, lines in by_task.items()]
    seeds = [line["seed"] for lines in by_task.values() for line in lines]
    exact = [line["exact_branches"] for lines in by_task.values() for line in lines]
    most = sum(solved[name] >= REACHED * len(lines) for name, lines in by_task.items())
    return {
        "tasks": "\n".join([*rows, "", ""]),
        "solved": f"{most} of the {len(by_task)}",
        "rollouts": f"{sum(solved.values()):,} of {len(seeds):,}",
        "seeds": f"{min(seeds)} to {max(seeds)}",
        "exact": f"{exact.count(BRANCHES)} of {len(by_task)}",
    }


def _measure(task: Task, seeds: list[int]) -> list[dict[str, Any]]:
    """Return a line for each rollout; that of the first one has the branches."""
    lines: list[dict[str, Any]] = []
    for seed in seeds:
        began = time.process_time()
        run = run_nominal(task, seed)
        lines.append(
            {
                "task": task.name,
                "seed": seed,
                "success": run.record.success,
                "reason": run.record.reason,
                "milliseconds": round(1000 * (time.process_time() - began)),
                "stages": sorted({stage.name for stage in run.record.plan.stages}),
                "exact_branches": _exact_branches(task, run) if seed == seeds[0] else None,
            }
        )
    task.simulator.close()
    return lines


def _exact_branches(task: Task, run: NominalRollout) -> int:
    """Return how many branches of a rollout have its future, bit for bit, in another simulator."""
    other = load_task(task.name).simulator
    last = max(0, len(run.trace) - BRANCH_STEPS)
    return sum(_is_exact(other, run, round(i * last / (BRANCHES - 1))) for i in range(BRANCHES))


def _is_exact(simulator: Simulator, run: NominalRollout, step: int) -> bool:
    simulator.reset(run.record.seed)
    simulator.restore(run.trace.states[step])
    return all(
        simulator.state().tobytes() == run.trace.states[at + 1].tobytes()
        for at in repeat(simulator, run.trace, step, min(step + BRANCH_STEPS, len(run.trace)))
    )


def _row(name: str, lines: list[dict[str, Any]]) -> str:
    successes, stages = sum(line["success"] for line in lines), {s for line in lines for s in line["stages"]}
    exact = next(line["exact_branches"] for line in lines if line["exact_branches"] is not None)
    return f"| {name} | {successes} of {len(lines)} | {exact} of {BRANCHES} | {', '.join(sorted(stages))} |"


if __name__ == "__main__":
    main()
