"""Records of benchmarks that can be resumed: an object on each line, with the commit that was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from failsafe.records.provenance import collect_provenance

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
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def measured_commit() -> str:
    """Return the commit of the code that runs, with "-dirty" if something tracked was changed."""
    found = collect_provenance()
    return found.commit[:_DIGITS] + ("-dirty" if found.dirty else "")
