"""`failsafe export`: a dataset in another format."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.output import print_json
from failsafe.exports.export import export as export_dataset


def export(data: tyro.conf.Positional[Path], /, format: str, out: Path, json: bool = False) -> int:
    """Write a dataset in the format of another project.

    Args:
        data: Folder of the dataset.
        format: maniskill (trajectories that ManiSkill can replay), the name of a plugin's exporter, or
            MODULE:FUNCTION.
        out: File or folder to write; it must not exist, or must be an empty folder.
        json: Print the result as JSON.
    """
    counts = export_dataset(data, format, out)
    if json:
        print_json({"format": format, "out": str(out), "counts": dict(counts)})
        return 0
    print(f"{out}: " + (", ".join(f"{what}: {n}" for what, n in counts.items()) or f"written as {format}"))
    return 0
