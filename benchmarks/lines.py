"""Records of benchmarks that can be resumed: an object on each line, with the commit that was measured."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from failsafe.records.provenance import collect_provenance

TABLE = Path(__file__).parents[1] / "src/failsafe/experts/success_rates.json"
_DIGITS = 12


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a record; none if it does not exist. One that was cut off does not count.

    Args:
        path: The file.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append a line to a record.

    Args:
        path: The file.
        line: What was measured.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    with path.open("a", encoding="utf-8") as file:
        # What a run that was killed left of a line stays a line of its own, which does not count.
        file.write(("\n" if text and not text.endswith("\n") else "") + json.dumps(line) + "\n")


def record(path: Path, lines: Iterable[dict[str, Any]], commit: str) -> None:
    """Append lines to a record as they are measured, and print them.

    Args:
        path: The file.
        lines: What is measured.
        commit: The commit that is measured.
    """
    for line in lines:
        line = line | {"commit": commit}
        append_line(path, line)
        print(line, flush=True)


def write_rates(suites: Container[str], measured: dict[str, list[int]]) -> None:
    """Replace the rates of some suites in the table of `failsafe tasks`.

    Args:
        suites: Names of the suites.
        measured: Successes and rollouts of their tasks.
    """
    rates: dict[str, list[int]] = json.loads(TABLE.read_text(encoding="utf-8"))
    rates = {name: rate for name, rate in rates.items() if name.split("/")[0] not in suites} | measured
    TABLE.write_text(json.dumps(rates, indent=0, sort_keys=True) + "\n", encoding="utf-8")


def measured_commit() -> str:
    """Return the commit of the code that runs, with "-dirty" if something else than a record was changed."""
    root = Path(__file__).parents[1]
    query = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no", "--", "."]
    changed = subprocess.run(
        [*query, ":!benchmarks/results"], capture_output=True, encoding="utf-8", check=False
    )
    return collect_provenance().commit[:_DIGITS] + ("-dirty" if changed.stdout else "")
