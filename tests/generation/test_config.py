"""Configurations: contradictions and unknown names are refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from failsafe.datasets.manifest import Manifest, read_manifest, write_manifest
from failsafe.errors import RecordError, UnknownNameError, UserError
from failsafe.generation.config import (
    GenerationConfig,
    config_from_plain,
    default_modes,
    parse_seeds,
    parse_shard,
    read_modes_file,
)
from failsafe.perturbations import MODES
from failsafe.perturbations.distributions import Choice, Normal, Uniform
from failsafe.records.provenance import Provenance


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"failures": 0}, "expected failures to be at least 1, got 0"),
        ({"failures": -3}, "expected failures to be at least 1, got -3"),
        ({"labels": 0}, "expected labels to be at least 1, got 0"),
        ({"tasks": ()}, "expected at least one task, got none"),
        ({"tasks": ("A", "A")}, "expected each task once, got A, A"),
        ({"first_seed": 5, "last_seed": 5}, "got 5:5, which is empty"),
        ({"compound": 1.5}, "expected compound between 0 and 1, got 1.5"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        GenerationConfig(**({"tasks": ("ToyPick-v0",), "failures": 4} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "5", "a:b", "1:2:3", "-1:4"])
def test_seed_ranges_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="expected a seed range A:B"):
        parse_seeds(text)


def test_a_seed_range() -> None:
    assert parse_seeds("100:250") == (100, 250)


@pytest.mark.parametrize(
    ("text", "sentence"), [("3/2", "0 <= i < n"), ("2/2", "0 <= i < n"), ("x", "i/n with two")]
)
def test_shards_that_are_none(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_shard(text, 16)


def test_more_shards_than_partitions_are_refused() -> None:
    assert parse_shard("1/2", 16) == (1, 2)
    with pytest.raises(UserError, match="at most 4 shards for this configuration, got 5"):
        parse_shard("0/5", 4)


def test_partitions_are_part_of_the_configuration_and_no_more_than_failures_or_seeds() -> None:
    def count(**settings: int) -> int:
        return GenerationConfig(("ToyPick-v0",), **({"failures": 100} | settings)).partition_count

    assert (count(), count(partitions=40)) == (16, 40)
    assert (count(failures=3), count(first_seed=0, last_seed=5, partitions=8)) == (3, 5)
    with pytest.raises(UserError, match="expected partitions to be at least 1, got 0"):
        count(partitions=0)
    plain = GenerationConfig(("ToyPick-v0",), 100, partitions=7).to_plain()
    assert config_from_plain(plain, "manifest").partitions == 7
    del plain["partitions"]  # a manifest of version 1
    assert config_from_plain(plain, "manifest").partitions == 16


def test_a_modes_file(tmp_path: Path) -> None:
    path = tmp_path / "modes.yaml"
    path.write_text(
        "slip: {weight: 2, magnitude: {normal: [0.02, 0.005]}}\n"
        "translation_x: {magnitude: {uniform: [0.03, 0.08]}, moment: 0.5}\n"
        "no_op:\n"
    )
    modes = read_modes_file(path)
    assert modes["slip"].weight == 2
    assert modes["slip"].magnitude == Normal(0.02, 0.005)
    assert modes["translation_x"].magnitude == Uniform(0.03, 0.08)
    assert modes["translation_x"].moment == Choice((0.5,))
    assert modes["no_op"].magnitude == MODES["no_op"].magnitude


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [
        ("slop: {}", UnknownNameError, "unknown mode in .*'slop': did you mean 'slip'"),
        ("slip: {magnitud: 1}", UnknownNameError, "'magnitud': did you mean 'magnitude'"),
        ("slip: {magnitude: {unifrom: [1, 2]}}", UnknownNameError, "'unifrom': did you mean 'uniform'"),
        ("slip: {weight: -1}", UserError, "expected a number of at least 0, got -1"),
        ("slip: {moment: {uniform: [0, 2]}}", UserError, "expected a distribution within 0 and 1"),
        ("[1, 2]", UserError, "expected modes by name, got list"),
        ("slip: [", UserError, "text that does not parse"),
    ],
)
def test_modes_files_that_are_wrong(text: str, kind: type[UserError], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "modes.yaml"
    path.write_text(text)
    with pytest.raises(kind, match=sentence):
        read_modes_file(path)


def test_unknown_modes_and_keys_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown mode 'translation_w': did you mean 'translation_"):
        default_modes(("translation_w",))
    with pytest.raises(UnknownNameError, match="unknown key in manifest 'failure': did you mean 'failures'"):
        config_from_plain({"tasks": ["ToyPick-v0"], "failures": 4, "failure": 4}, "manifest")


def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    config = GenerationConfig(
        ("ToyPick-v0", "ToyPush-v0"), 12, default_modes(("slip",)), labels=3, compound=0.5, needed=True
    )
    manifest = Manifest(config, Provenance("abc", True, {"numpy": "2"}, "Linux-x86_64"), "1/2")
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert " --needed" in manifest.command
    with pytest.raises(UserError, match="needed: expected true or false, got 1"):
        config_from_plain({**config.to_plain(), "needed": 1}, "manifest")


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "Manifest/99"}')
    with pytest.raises(RecordError, match="expected format 'Manifest/3'"):
        read_manifest(tmp_path)
