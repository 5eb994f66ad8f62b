"""Count the episodes that end otherwise in another episode table: what differs between two processors.

    python -m scripts.compare_tables docs/records/processors.json \
        "NAME=docs/tables/OTHER.parquet:docs/tables/weak.parquet:never" ...

A table is a file, or COMMIT@FILE for one of an earlier commit. Episodes are compared by task, scenario and
seed under one condition. The record has the comparisons by name, and what was compared.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
from pathlib import Path

import pyarrow.parquet as pq

Key = tuple[str, str, int]
CONDITION = ("condition", "arm")
"""Names of the column of the condition, the present one first."""


def read_endings(table: str, condition: str) -> dict[Key, tuple[bool, int]]:
    """Return success and number of control steps of the episodes under a condition.

    Args:
        table: A file, or COMMIT@FILE.
        condition: Name of the condition.
    """
    commit, _, path = table.rpartition("@")
    data = (
        subprocess.run(["git", "show", f"{commit}:{path}"], check=True, capture_output=True).stdout
        if commit
        else Path(path).read_bytes()
    )
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    column = next(name for name in CONDITION if name in rows[0])
    return {
        (row["task"], row["scenario"], row["seed"]): (row["ending"] == "success", row["steps"])
        for row in rows
        if row[column] == condition
    }


def compare(first: str, second: str, condition: str) -> dict[str, object]:
    """Compare two tables.

    Args:
        first: A table.
        second: Another one.
        condition: Name of the condition.
    """
    one, two = read_endings(first, condition), read_endings(second, condition)
    both = sorted(one.keys() & two.keys())
    end = sum(one[key][0] != two[key][0] for key in both)
    return {
        "episodes": len(both),
        "end_otherwise": end,
        "share": end / len(both),
        "other_length": sum(one[key][1] != two[key][1] for key in both),
        "successes": " and ".join(str(sum(table[key][0] for key in both)) for table in (one, two)),
        "compared": f"{first} and {second}, condition {condition}",
    }


def main() -> None:
    """Compare tables and write the record."""
    parser = argparse.ArgumentParser(description="Count the episodes that end otherwise in another table.")
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("comparisons", nargs="+", metavar="NAME=TABLE:TABLE:CONDITION")
    arguments = parser.parse_args()
    found: dict[str, object] = {}
    for comparison in arguments.comparisons:
        name, _, rest = comparison.partition("=")
        first, second, condition = rest.split(":")
        found[name] = compare(first, second, condition)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"comparisons": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
