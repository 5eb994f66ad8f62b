"""Make a dataset from a configuration: start or resume generation, then write tables and card."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from failsafe.datasets.card import write_card
from failsafe.datasets.files import remove_partials, write_atomically
from failsafe.datasets.locks import locked
from failsafe.datasets.manifest import (
    GENERATOR,
    Manifest,
    dataset_code,
    differing_keys,
    read_manifest,
    write_manifest,
)
from failsafe.datasets.store import Dataset
from failsafe.datasets.tables import write_tables
from failsafe.errors import StoreError, UserError
from failsafe.execution.contract import Executor, ignore
from failsafe.execution.processes import ProcessExecutor
from failsafe.experts.tasks import Task
from failsafe.generation.config import GenerationConfig
from failsafe.generation.partition import PartitionJob, Progress
from failsafe.records.files import read_bytes
from failsafe.records.provenance import collect_provenance
from failsafe.sources import changed_code


def build_dataset(
    config: GenerationConfig,
    folder: Path,
    callback: Callable[[Progress], None] = ignore,
    executor: Executor | None = None,
    shard: tuple[int, int] | None = None,
    tasks: Mapping[str, Task] | None = None,
) -> Dataset:
    """Make a dataset, or what is missing of one.

    A complete dataset of an earlier version gets new tables and a new card; its episodes are left alone.

    Args:
        config: The configuration.
        folder: Folder of the dataset; what it holds must have the same configuration.
        callback: Called after every case.
        executor: Runs the partitions; None for one process beside this one.
        shard: Make shard (i, n) only, None for the whole dataset.
        tasks: Tasks that were given as objects, by name; the others are loaded by name.

    Raises:
        StoreError: If the folder cannot be written or holds something else.
        UserError: If it holds a dataset of another configuration or of other code, or an incomplete one of an
            earlier version.
    """
    dataset = Dataset(folder)
    dataset.check_files()
    with locked(folder):
        name = f"{shard[0]}/{shard[1]}" if shard else ""
        code = dataset_code(config, tasks or {})
        manifest = _begin(dataset, Manifest(config, collect_provenance(), name, code=code))
        if manifest.generator == GENERATOR:
            job, partitions = PartitionJob(config, dataset, tasks), partitions_of(config, shard)
            (executor or ProcessExecutor(1)).run(job, partitions, on_message=callback)
        _finish(dataset)
    return dataset


def partitions_of(config: GenerationConfig, shard: tuple[int, int] | None) -> list[int]:
    """Return the partitions of shard (i, n) of a run, or of all of it for None.

    Args:
        config: The configuration of the run.
        shard: Number i and count n of the shard, None for all partitions.
    """
    return [n for n in range(config.partition_count) if shard is None or n % shard[1] == shard[0]]


def merge_datasets(folder: Path, parts: Sequence[Path]) -> Dataset:
    """Merge shards into the dataset that one run would have made.

    Args:
        folder: Folder of the merged dataset.
        parts: Folders of the shards.

    Raises:
        UserError: If the shards have different configurations or versions, or one is missing or incomplete.
        StoreError: If the folder cannot be written, holds something else, or shards contradict each other.
    """
    manifests = [read_manifest(part) for part in parts]
    first = manifests[0]
    for part, manifest in zip(parts, manifests, strict=True):
        if keys := differing_keys(first.config, manifest.config):
            raise UserError(f"{part} was made with another configuration than {parts[0]}: {', '.join(keys)}")
        if manifest.generator != first.generator:
            raise UserError(f"{part} was made by another version of FailSafe than {parts[0]}: make it again")
        if changed := changed_code(first.code, manifest.code):
            raise UserError(
                f"{part} was made by other code than {parts[0]} ({', '.join(changed)}): make it again"
            )
    _check_complete(manifests)
    for part, manifest in zip(parts, manifests, strict=True):
        if not manifest.complete:
            raise UserError(f"{part} is not complete: run the command that made it again, then merge")
    dataset = Dataset(folder)
    dataset.check_files()
    with locked(folder):
        _begin(dataset, Manifest(first.config, first.provenance, generator=first.generator, code=first.code))
        for part in parts:
            source = Dataset(part)
            for path in [*source.nominal_files(), *source.case_files()]:
                _copy(read_bytes(path, within=part), path, folder / path.relative_to(part), folder)
        _finish(dataset)
    return dataset


def _begin(dataset: Dataset, manifest: Manifest) -> Manifest:
    """Write the manifest, or check the one in the folder; return the one in the folder."""
    if (dataset.path / "manifest.json").exists():
        present = read_manifest(dataset.path)
        _check_same(present, manifest, dataset.path)
    else:
        write_manifest(dataset.path, manifest)
        present = manifest
    remove_partials(dataset.path)
    return present


def _finish(dataset: Dataset) -> None:
    """Write tables and card, and mark the dataset as complete."""
    manifest = read_manifest(dataset.path)
    cases, nominals = list(dataset.cases()), list(dataset.nominals())
    write_tables(dataset, cases, nominals)
    write_card(dataset, manifest, cases, nominals)
    write_manifest(dataset.path, dataclasses.replace(manifest, complete=True))


def _check_same(present: Manifest, wanted: Manifest, folder: Path) -> None:
    keys = differing_keys(present.config, wanted.config)
    if present.shard != wanted.shard:
        keys.append("shard")
    if keys:
        raise UserError(
            f"{folder} holds a dataset made with other settings ({', '.join(keys)}): give the same ones to "
            "continue it, or choose another folder"
        )
    if changed := changed_code(present.code, wanted.code):
        raise UserError(
            f"{folder} holds a dataset made by other code ({', '.join(changed)}): choose another folder, or "
            "delete this one"
        )
    if present.generator != wanted.generator and not present.complete:
        raise UserError(
            f"{folder} holds part of a dataset that an earlier version began: make it again with "
            f"`failsafe generate --manifest {folder / 'manifest.json'} --out FOLDER`"
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
    count = int(counts.pop())
    given = {int(name.partition("/")[0]) for name in names}
    if len(given) < count:
        missing = list(itertools.islice((i for i in range(count) if i not in given), 5))
        shown = ", ".join(f"{i}/{count}" for i in missing)
        more = count - len(given) - len(missing)
        raise UserError(f"these shards are missing: {shown}{f' and {more} more' if more else ''}")


def _copy(data: bytes, source: Path, target: Path, within: Path) -> None:
    if target.exists():
        if read_bytes(target, within=within) != data:
            raise StoreError(f"expected equal results of one case, got others in {source} and {target}")
        return
    write_atomically(target, data, within)
