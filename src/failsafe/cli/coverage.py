"""`failsafe coverage`: what a dataset was asked to hold, and what it holds."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.output import print_json
from failsafe.datasets.store import open_dataset
from failsafe.records import codec
from failsafe.reports.coverage import coverage_table, format_coverage, write_coverage


def coverage(
    data: tyro.conf.Positional[Path],
    /,
    out: Path | None = None,
    skip_damaged: bool = False,
    json: bool = False,
) -> int:
    """Print how a dataset covers task, mode, stage, moment and magnitude, and write a page of it.

    Args:
        data: Folder of the dataset.
        out: File to write the page to; coverage.html in the dataset by default.
        skip_damaged: Skip damaged files instead of stopping at the first.
        json: Print the table as JSON.
    """
    dataset = open_dataset(data)
    rows = coverage_table(dataset, skip_damaged)
    page = write_coverage(dataset, out, skip_damaged)
    if json:
        print_json({"page": str(page), "cells": codec.to_plain(rows)})
        return 0
    print(format_coverage(dataset, skip_damaged))
    print(f"page: {page.resolve()}")
    return 0
