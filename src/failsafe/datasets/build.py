"""From a configuration to a dataset folder: begin or go on, run, then make tables and card."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from failsafe.datasets.card import write_card
from failsafe.datasets.files import locked, remove_partials, write_atomically
from failsafe.datasets.manifest import Manifest, differing_keys, read_manifest, write_manifest
from failsafe.datasets.store import Dataset
from failsafe.datasets.tables import write_tables
from failsafe.errors import StoreError, UserError
from failsafe.execution.processes import work_through
from failsafe.generation.config import GenerationConfig
from failsafe.generation.partition import PartitionJob, Progress
from failsafe.records.provenance import collect_provenance


def build_dataset(
    config: GenerationConfig,
    folder: Path,
    tell: Callable[[Progress], None],
    workers: int = 1,
    shard: tuple[int, int] | None = None,
) -> Dataset:
    """Make a dataset, or what is still missing of one.

    Args:
        config: What it is to hold.
        folder: Where; what is there already must be of the same configuration.
        tell: Called after every work item.
        workers: Number of processes.
        shard: Which part (i, n) of it to make, None for the whole.

    Raises:
        StoreError: If the folder cannot be written, or holds something else.
        UserError: If it holds a dataset of another configuration.
    """
    dataset = Dataset(folder)
    dataset.check_files()
    with locked(folder):
        name = f"{shard[0]}/{shard[1]}" if shard else ""
        _begin(dataset, Manifest(config, collect_provenance(), name))
        work_through(PartitionJob(config, dataset), partitions_of(config, shard), workers, hear=tell)
        _finish(dataset)
    return dataset


def partitions_of(config: GenerationConfig, shard: tuple[int, int] | None) -> list[int]:
    """The lanes of a part (i, n) of a run, or of all of it."""
    return [n for n in range(config.partitions) if shard is None or n % shard[1] == shard[0]]


def merge_datasets(folder: Path, parts: Sequence[Path]) -> Dataset:
    """Put shards together to the dataset that one run would have made.

    Raises:
        UserError: If the parts are of different configurations, or one is missing.
        StoreError: If the folder cannot be written, holds something else, or parts contradict each other.
    """
    manifests = [read_manifest(part) for part in parts]
    first = manifests[0]
    for part, manifest in zip(parts, manifests, strict=True):
        if keys := differing_keys(first.config, manifest.config):
            raise UserError(f"{part} was made with another configuration than {parts[0]}: {', '.join(keys)}")
    _check_complete(manifests)
    for part, manifest in zip(parts, manifests, strict=True):
        if not manifest.complete:
            raise UserError(f"{part} is not finished: run the command that made it again, then merge")
    dataset = Dataset(folder)
    dataset.check_files()
    with locked(folder):
        _begin(dataset, Manifest(first.config, first.provenance))
        for part in parts:
            source = Dataset(part)
            for path in [*source.nominal_files(), *source.case_files()]:
                _copy(path, folder / path.relative_to(part))
        _finish(dataset)
    return dataset


def _begin(dataset: Dataset, manifest: Manifest) -> None:
    """Write the manifest, or check that it is the one that is there."""
    if (dataset.path / "manifest.json").exists():
        _check_same(read_manifest(dataset.path), manifest, dataset.path)
    else:
        write_manifest(dataset.path, manifest)
    remove_partials(dataset.path)


def _finish(dataset: Dataset) -> None:
    """Make what is derived from the work items, tables and card, and note that all are there."""
    manifest = read_manifest(dataset.path)
    write_tables(dataset)
    write_card(dataset, manifest)
    write_manifest(dataset.path, dataclasses.replace(manifest, complete=True))


def _check_same(there: Manifest, wanted: Manifest, folder: Path) -> None:
    keys = differing_keys(there.config, wanted.config)
    if there.shard != wanted.shard:
        keys.append("shard")
    if keys:
        raise UserError(
            f"{folder} holds a dataset made with other settings ({', '.join(keys)}): give the same ones to "
            "go on with it, or choose another folder with --out"
        )


def _check_complete(manifests: Sequence[Manifest]) -> None:
    names = [m.shard for m in manifests]
    if len(names) == 1 and not names[0]:
        return
    counts = {name.partition("/")[2] for name in names}
    if len(counts) != 1 or "" in counts:
        raise UserError(
            f"expected shards of one run, got: {', '.join(n or 'a whole dataset' for n in names)}"
        )
    missing = {f"{i}/{counts.copy().pop()}" for i in range(int(counts.copy().pop()))} - set(names)
    if missing:
        raise UserError(f"these shards are missing: {', '.join(sorted(missing))}")


def _copy(source: Path, target: Path) -> None:
    data = source.read_bytes()
    if target.exists():
        if target.read_bytes() != data:
            raise StoreError(f"{source} and {target} hold different results for the same work item")
        return
    write_atomically(target, data)
