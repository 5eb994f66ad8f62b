"""What an item, a message and a file cost with each executor: `python -m benchmarks.ray_overhead`.

Seconds of the clock depend on what else the machine does. CPU seconds of the driver and of Ray's desk do not,
and they bound the rate of a cluster: both are single processes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from failsafe.datasets.build import build_dataset
from failsafe.datasets.files import write_atomically
from failsafe.execution.contract import SILENT, Executor, Reporter
from failsafe.execution.processes import ProcessExecutor
from failsafe.execution.ray_executor import RayExecutor
from failsafe.generation.config import GenerationConfig

FILE_BYTES = 50_000
"""Size of a case on disk, bytes."""


@dataclass(frozen=True)
class Load:
    """A job whose items report messages and write files.

    Attributes:
        folder: Folder of the files.
        messages: Messages of an item.
        files: Files of an item.
    """

    folder: Path
    messages: int = 0
    files: int = 0

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folder of the files."""
        return (self.folder,)

    def run(self, item: int, reporter: Reporter = SILENT) -> None:
        """Report and write. See `Job.run`."""
        for number in range(self.messages):
            reporter.report(number)
        for number in range(self.files):
            write_atomically(self.folder / f"{item}-{number}", bytes(FILE_BYTES))

    def give_up(self, item: int, part: str = "") -> bool:
        """Do nothing. See `Job.give_up`."""
        return False


def cpu_seconds() -> dict[str, float]:
    """Return the CPU seconds so far of this process, and of Ray's desk where there is one."""
    found = {"driver": time.process_time()}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_text(encoding="utf-8")
            user, system = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
        except OSError:
            continue
        if title.startswith("ray::Desk"):
            found["desk"] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return found


def measure(executor: Executor, items: int, messages: int = 0, files: int = 0) -> dict[str, float]:
    """Return milliseconds an item, from the first item that is done to the last one.

    Args:
        executor: The executor.
        items: Number of items.
        messages: Messages of an item.
        files: Files of an item.
    """
    marks: list[tuple[float, dict[str, float]]] = []
    done = 0

    def count(_: int) -> None:
        nonlocal done
        done += 1
        if done in (1, items):
            marks.append((time.perf_counter(), cpu_seconds()))

    with tempfile.TemporaryDirectory() as folder:
        executor.run(Load(Path(folder), messages, files), range(items), count)
    (begun, before), (ended, after) = marks
    return {
        "clock": (ended - begun) / (items - 1) * 1e3,
        **{name: (after[name] - before[name]) / (items - 1) * 1e3 for name in before},
    }


def generate_rate(executor: Executor, task: str, failures: int) -> float:
    """Return verified failures a second of the clock, without the start of the workers.

    Args:
        executor: The executor.
        task: Name of the task.
        failures: Verified failures to generate.
    """
    begun, done = 0.0, 0

    def count(progress: object) -> None:
        nonlocal begun, done
        begun = begun or time.perf_counter()
        done += getattr(progress, "category", "") == "recoverable"

    with tempfile.TemporaryDirectory() as folder:
        config = GenerationConfig((task,), failures, labels=1, verify_rollouts=1, compound=0.0)
        build_dataset(config, Path(folder) / "data", count, executor)
        return done / (time.perf_counter() - begun)


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tasks", nargs="*", default=[], help="TASK=FAILURES to generate")
    given = parser.parse_args()
    result: dict[str, object] = {}
    executors = {"processes": ProcessExecutor(given.workers), "ray": RayExecutor(given.workers)}
    for name, executor in executors.items():
        result[f"{name}: ms an empty item"] = measure(executor, given.items)
        result[f"{name}: ms an item of 10 messages"] = measure(executor, given.items // 5, messages=10)
        result[f"{name}: ms an item of 10 files of 50 kB"] = measure(executor, given.items // 5, files=10)
        for task, _, failures in (text.partition("=") for text in given.tasks):
            result[f"{name}: {task}, failures/s"] = generate_rate(executor, task, int(failures))
        print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
