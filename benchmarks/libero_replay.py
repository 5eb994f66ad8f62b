"""Replay LIBERO's experts: their commands in the official `env.step`, and branches of their rollouts.

    python -m benchmarks.libero_replay libero_spatial libero_object libero_goal --seeds 2

Every rollout appends a line to `benchmarks/results/libero_replay.jsonl`; those that exist are skipped. A line
says whether the rollout succeeds, whether LIBERO's criterion holds after the same commands in `env.step`, the
`done` that its last step returns, how far the tool is off at most, and how many branches, restored and
carried on to the end, repeat the recorded states bit for bit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lines import measured_commit, read_lines, record
from failsafe.experts.tasks import Task, expand_tasks, load_task, task_name
from failsafe.generation.nominal import run_nominal
from failsafe.records.trace import Trace
from failsafe.simulators.libero.simulator import WAIT_STEPS, LiberoSimulator

RESULTS = Path(__file__).parent / "results" / "libero_replay.jsonl"


def main() -> None:
    """Measure the tasks of some suites, and print the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", nargs="*", help="suites or tasks; none: only print the totals")
    parser.add_argument("--seeds", type=int, default=2, help="stored initial states 0 to SEEDS - 1")
    parser.add_argument("--branches", type=int, default=2, help="branches of each rollout")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    commit = measured_commit()
    done = {(line["task"], line["seed"]) for line in read_lines(options.results)}
    for name in map(task_name, expand_tasks(options.suites)):
        if seeds := [seed for seed in range(options.seeds) if (name, seed) not in done]:
            record(options.results, _measure(name, seeds, options.branches), commit)
    for name, figure in figures(options.results).items():
        print(f"{name}: {figure}")


def figures(results: Path = RESULTS) -> dict[str, str]:
    """Return what the documentation states of a record, by name.

    Args:
        results: The record.
    """
    lines = read_lines(results)
    solved = [line for line in lines if line["success"]]
    return {
        "official": f"{sum(line['official'] and line['done'] for line in solved)} of {len(solved)}",
        "exact": f"{sum(line['exact'] for line in lines)} of {sum(line['branches'] for line in lines)}",
        "tool_mm": f"{max((line['tool_mm'] for line in solved), default=0.0):.2f}",
        "commits": ", ".join(sorted({line["commit"] for line in lines})),
    }


def _measure(name: str, seeds: list[int], branches: int) -> Iterator[dict[str, Any]]:
    """Run a task from some seeds, one line each."""
    task = load_task(name)
    for seed in seeds:
        nominal = run_nominal(task, seed)
        line: dict[str, Any] = {"task": name, "seed": seed, "success": nominal.record.success}
        line |= _replay(task, seed, nominal.trace) | _branch(task, seed, nominal.trace, branches)
        yield line
    task.simulator.close()


def _replay(task: Task, seed: int, trace: Trace) -> dict[str, Any]:
    """Apply the commands of a rollout in `env.step`."""
    simulator = task.simulator
    assert isinstance(simulator, LiberoSimulator)
    env = simulator.environment.begin_own(simulator.environment.stored[seed])
    for _ in range(WAIT_STEPS):
        env.step([0.0] * 6 + [-1.0])
    off, done = 0.0, False
    for command, pose in zip(trace.commands, trace.tcp_poses[1:], strict=True):
        done = env.step(command)[2]
        env.sim.forward()
        tool = env.sim.data.site_xpos[env.robots[0].eef_site_id] - simulator.base
        off = max(off, float(np.abs(tool - pose[:3]).max()))
    return {"official": bool(env._check_success()), "done": bool(done), "tool_mm": round(1000 * off, 4)}


def _branch(task: Task, seed: int, trace: Trace, count: int) -> dict[str, Any]:
    """Restore a rollout in the middle and carry it on to its end."""
    simulator, exact = task.simulator, 0
    for start in np.linspace(0, len(trace), count + 2, dtype=int)[1:-1].tolist():
        simulator.reset(seed + 1)
        simulator.reset(seed)
        simulator.restore(trace.states[start])
        same = True
        for step in range(start, len(trace)):
            simulator.step(trace.commands[step])
            same = same and simulator.state().tobytes() == trace.states[step + 1].tobytes()
        exact += same
    return {"branches": count, "exact": exact}


if __name__ == "__main__":
    main()
