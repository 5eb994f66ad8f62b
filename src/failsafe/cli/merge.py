"""`failsafe merge`: one dataset out of shards."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.output import print_json
from failsafe.datasets.build import merge_datasets
from failsafe.errors import UserError


def merge(
    data: tyro.conf.Positional[Path], shards: tyro.conf.Positional[tuple[Path, ...]], /, json: bool = False
) -> int:
    """Merge the shards of a run into the dataset that a single run would have made.

    Args:
        data: Folder of the merged dataset.
        shards: Folders of all its shards.
        json: Print the result as JSON.

    Raises:
        UserError: If no shard is given, or the shards are not those of one run.
    """
    if not shards:
        raise UserError("expected at least one shard to merge, got none")
    dataset = merge_datasets(data, shards)
    cases = len(dataset.case_files())
    if json:
        print_json({"dataset": str(data), "cases": cases, "shards": [str(s) for s in shards]})
    else:
        print(f"{data}: {cases} cases from {len(shards)} shard(s)")
    return 0
