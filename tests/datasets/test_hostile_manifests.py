"""Manifests that were made to harm: one sentence each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from failsafe.datasets.build import merge_datasets
from failsafe.datasets.manifest import Manifest, read_manifest, write_manifest
from failsafe.errors import FailSafeError, RecordError
from failsafe.generation.config import GenerationConfig, default_modes
from failsafe.records.provenance import collect_provenance


def written(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    config = GenerationConfig(("ToyPick-v0",), 3, modes=default_modes(("slip",)))
    write_manifest(folder, Manifest(config, collect_provenance()))
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"config": None},
        {"config": []},
        {"config": {"tasks": ["a"], "failures": 10**400}},
        {"config": {"tasks": [], "failures": 1, "modes": None}},
        {"config": {"tasks": ["a"], "failures": 1, "modes": {"slip": {"magnitude": {"uniform": ["a", {}]}}}}},
        {"shard": "x/y"},
        {"shard": 3},
        {"shard": "1/1"},
        {"shard": "0/1000000000"},
        {"complete": "yes"},
        {"generator": None},
        {"provenance": None},
        {"format": ["Manifest/2"]},
        {"format": "Manifest/1", "config": None},
        {"format": "Manifest/1", "config": {"modes": {"no_op": {"magnitude": {"uniform": ["a"]}}}}},
        {"format": "Manifest/1", "config": {"modes": {"no_op": 3}}},
    ],
)
def test_a_manifest_that_was_made_to_harm_is_one_sentence(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FailSafeError) as refused:
        read_manifest(written(tmp_path / "data", **changes))
    assert len(str(refused.value)) < 1000


def test_a_million_shards_are_not_counted_one_by_one(tmp_path: Path) -> None:
    part = written(tmp_path / "part", shard="0/999999", complete=True)
    with pytest.raises(FailSafeError, match="missing") as refused:
        merge_datasets(tmp_path / "all", [part])
    assert len(str(refused.value)) < 1000
    with pytest.raises(RecordError):
        read_manifest(written(tmp_path / "other", shard="0/1000000000"))
