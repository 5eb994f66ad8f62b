"""`failsafe gallery`: a page with every failure beside its nominal rollout and its recovery."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.output import ProgressReporter, print_json
from failsafe.datasets.store import open_dataset
from failsafe.reports.gallery import write_gallery


def gallery(
    data: tyro.conf.Positional[Path],
    /,
    out: Path | None = None,
    limit: int | None = None,
    skip_damaged: bool = False,
    json: bool = False,
) -> int:
    """Write a static page of a dataset: nominal rollout, failure and recovery side by side.

    Args:
        data: Folder of the dataset.
        out: Folder to write to; gallery/ in the dataset by default.
        limit: Largest number of cases to show, spread over tasks, categories and modes.
        skip_damaged: Skip damaged files instead of stopping at the first.
        json: Print the result as JSON.
    """
    dataset = open_dataset(data)
    total = len(dataset.case_files())
    with ProgressReporter("episodes", min(total, limit or total), quiet=json) as reporter:
        page = write_gallery(dataset, out, limit, skip_damaged, reporter.advance)
    print_json({"page": str(page.resolve())}) if json else print(f"page: {page.resolve()}")
    return 0
