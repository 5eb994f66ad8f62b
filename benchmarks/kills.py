"""Kill a generation again and again, and compare every byte of its dataset with that of an undisturbed run.

    python -m benchmarks.kills metaworld/pick-place-v3 libero_object/0 --kills 20

A run is killed with SIGKILL some time after it has stored a few more files, both drawn. The same call goes on
with what was left, until the dataset is complete; the next dataset is begun until there were enough kills.
Every kill appends a line to `benchmarks/results/kills.jsonl` once its dataset is complete: what was stored
when it came, and whether all files of the dataset have the bytes of the undisturbed one. Kills that exist are
not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import failsafe as fs
from benchmarks.lines import measured_commit, read_lines, record
from failsafe.experts.tasks import Task, load_task
from failsafe.generation.nominal import run_nominal

RESULTS = Path(__file__).parent / "results" / "kills.jsonl"
_MOST_FILES = 2
"""Most cases and nominal rollouts that a run stores before the time until its kill begins."""


def main() -> None:
    """Kill the generation of each task, and print the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", help="names of tasks; none: only print the totals")
    parser.add_argument("--kills", type=int, default=20, help="kills of each task's generation")
    parser.add_argument("--failures", type=int, default=4, help="verified failures in each dataset")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    commit = measured_commit()
    for name in options.tasks:
        done = sum(line["task"] == name for line in read_lines(options.results))
        if done < options.kills:
            lines = kill_generations(load_task(name), options.kills - done, options.failures, done)
            record(options.results, lines, commit)
    for name, figure in figures(options.results).items():
        print(f"{name}: {figure}")


def figures(results: Path = RESULTS) -> dict[str, str]:
    """Return what the documentation states of a record, by name: kills after which the bytes were the same.

    Args:
        results: The record.
    """
    lines = read_lines(results)
    suites: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        suites.setdefault(line["task"].split("/")[0].split("_")[0], []).append(line)
    found = {suite: f"{sum(line['same'] for line in of)} of {len(of)}" for suite, of in suites.items()}
    return found | {"commits": ", ".join(dict.fromkeys(f"`{line['commit']}`" for line in lines))}


def kill_generations(task: Task, kills: int, failures: int, stream: int = 0) -> Iterator[dict[str, Any]]:
    """Yield what is recorded of each kill, all those of a dataset after it is complete.

    Args:
        task: The task.
        kills: Number of kills.
        failures: Verified failures in each dataset.
        stream: Seed of the times of the kills.
    """
    rng = np.random.default_rng(stream)
    run_nominal(task, 0)  # what an expert searches for once in a process is not searched for after each kill
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, dataset, begun = Path(folder) / "undisturbed", 0, time.perf_counter()
        _run(task, failures, undisturbed)
        wanted = _content(undisturbed)
        longest = 2 * (time.perf_counter() - begun) / len(_stored(undisturbed))
        while kills:
            dataset += 1
            path, lines = Path(folder) / f"killed_{dataset}", list[dict[str, Any]]()
            while len(lines) < kills:
                after = int(rng.integers(_MOST_FILES + 1)), float(rng.uniform(0.0, longest))
                if not _run(task, failures, path, after):
                    break
                line = {"task": task.name, "failures": failures, "dataset": dataset}
                line |= {"stored": len(_stored(path)), "partial": len([*path.rglob(".*.partial")])}
                lines.append(line)
            else:
                _run(task, failures, path)
            kills -= len(lines)
            found = _content(path)
            yield from (line | {"files": len(wanted), "same": found == wanted} for line in lines)


def _run(task: Task, failures: int, folder: Path, after: tuple[int, float] | None = None) -> bool:
    """Generate a dataset in another process, and return whether it was killed.

    Args:
        task: The task.
        failures: Verified failures.
        folder: Folder of the dataset.
        after: When to kill it: number of files that it stores first, and seconds from then on; None: never.
    """
    child = multiprocessing.get_context("fork").Process(target=_generate, args=(task, failures, folder))
    enough = len(_stored(folder)) + after[0] if after else 0
    child.start()
    while after and child.is_alive() and len(_stored(folder)) < enough:
        child.join(0.01)
    child.join(after[1] if after else None)
    if child.is_alive():
        child.kill()
        child.join()
    if child.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"expected a run that ends well or is killed, got exit code {child.exitcode}")
    return child.exitcode != 0


def _stored(folder: Path) -> list[Path]:
    """Return the files of cases and nominal rollouts."""
    return [file for file in folder.rglob("*.npz") if not file.name.startswith(".")]


def _generate(task: Task, failures: int, folder: Path) -> None:
    fs.generate(
        task, failures=failures, labels=1, verify_rollouts=2, partitions=2, out=folder, executor="serial"
    )


def _content(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a dataset but its lock."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    main()
