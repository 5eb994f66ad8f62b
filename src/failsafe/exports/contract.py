"""What an exporter is, and the registry of exporters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from failsafe import registry
from failsafe.datasets.store import Dataset
from failsafe.errors import UserError
from failsafe.registry import Registry


@runtime_checkable
class Exporter(Protocol):
    """A function that writes a dataset in another format."""

    def __call__(self, dataset: Dataset, out: Path, /) -> Mapping[str, int] | None:
        """Write the dataset.

        Args:
            dataset: The dataset, which has a manifest.
            out: File or folder to write. It does not exist or is an empty folder; its parent exists.

        Returns:
            Counts to report by their description, for example `{"nominal rollouts": 3}`. What the format
            cannot hold is left out and counted. None: nothing to report.

        Raises:
            UserError: If the dataset cannot be exported to this format.
        """
        ...


def _checked(name: str, entry: object) -> Exporter:
    if not callable(entry) or isinstance(entry, type):
        raise UserError(
            f"expected a function of a dataset and an output path as exporter '{name}', got {entry!r:.80}"
        )
    return cast(Exporter, entry)


EXPORTERS: Registry[Exporter] = registry.exporters
"""Every exporter by name: the built-in ones, then those of plugins."""
EXPORTERS.prepare = _checked
