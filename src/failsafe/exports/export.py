"""Export a dataset by the name of a format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from failsafe.datasets.store import Dataset, open_dataset
from failsafe.errors import StoreError, UserError
from failsafe.exports.contract import EXPORTERS, Exporter
from failsafe.imports import names_from_files


def export(dataset: Dataset | str | Path, format: str | Exporter, out: str | Path) -> Mapping[str, int]:
    """Write a dataset in another format.

    Args:
        dataset: The dataset, or its folder.
        format: Name of an exporter, for example "maniskill", "MODULE:FUNCTION", or the function itself.
        out: File or folder to write. It must not exist, or must be an empty folder.

    Returns:
        Counts of what was written and of what was left out, by their description. Empty if the exporter
        reports none.

    Raises:
        UnknownNameError: If there is no exporter of this name.
        UserError: If the folder is no dataset, `out` exists and is not an empty folder, or the dataset
            cannot be exported to this format.
        StoreError: If `out` cannot be written.
    """
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset)
    dataset.require()
    exporter = EXPORTERS[format] if isinstance(format, str) else format
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        found = "a folder with files in it" if out.is_dir() else "a file that exists"
        raise UserError(f"expected a new path or an empty folder, got {out}, {found}; choose another path")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with names_from_files():  # the exporter is the user's, the tasks are the dataset's
            return exporter(dataset, out) or {}
    except OSError as error:
        raise StoreError(
            f"could not write {error.filename or out}: {error.strerror or error}; "
            f"delete {out} and run the same command again"
        ) from error
