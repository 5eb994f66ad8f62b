"""Exports by name, by function and from the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from failsafe.cli.export import export as export_verb
from failsafe.datasets.store import Dataset
from failsafe.errors import StoreError, UnknownNameError, UserError
from failsafe.exports.contract import EXPORTERS
from failsafe.exports.export import export
from failsafe.imports import require_import


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """An empty dataset: what an exporter does with the content is the exporter's own matter."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return Dataset(folder)


def count_cases(dataset: Dataset, out: Path) -> Mapping[str, int]:
    cases = len(list(dataset.cases()))
    out.write_text(str(cases))
    return {"cases": cases}


def write_nothing_to_report(dataset: Dataset, out: Path) -> None:
    out.mkdir(exist_ok=True)
    (out / "cases.txt").write_text("")


def test_export_calls_the_exporter_and_returns_its_counts(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "new" / "cases.txt"
    assert export(dataset, count_cases, out) == {"cases": 0}
    assert out.read_text() == "0"
    name = "tests.exports.test_export:count_cases"
    assert export(str(dataset.path), name, str(tmp_path / "by_name.txt")) == {"cases": 0}
    assert export(dataset, write_nothing_to_report, tmp_path / "folder") == {}


def test_an_empty_folder_is_written_to_and_anything_else_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(dataset, write_nothing_to_report, out)
    with pytest.raises(UserError, match=r"got .*out, a folder with files in it; choose another path"):
        export(dataset, write_nothing_to_report, out)
    with pytest.raises(UserError, match=r"got .*cases\.txt, a file that exists"):
        export(dataset, count_cases, out / "cases.txt")
    assert (out / "cases.txt").read_text() == "", "nothing was overwritten"


def test_what_export_refuses(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UnknownNameError, match="unknown exporter 'maniskil': did you mean 'maniskill'"):
        export(dataset, "maniskil", out)
    with pytest.raises(UserError, match="expected a function of a dataset and an output path as exporter"):
        export(dataset, "tests.exports.test_export:__doc__", out)
    with pytest.raises(UserError, match=r"which has no manifest\.json"):
        export(tmp_path, "maniskill", out)
    with pytest.raises(StoreError, match=r"could not write .*manifest\.json"):
        export(dataset, count_cases, dataset.path / "manifest.json" / "out")
    assert not out.exists()


def test_the_verb_prints_the_counts(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "tests.exports.test_export:count_cases"
    assert export_verb(dataset.path, format=name, out=tmp_path / "a") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a'}: cases: 0\n"
    assert export_verb(dataset.path, format=name, out=tmp_path / "b", json=True) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"cases": 0}
    name = "tests.exports.test_export:write_nothing_to_report"
    assert export_verb(dataset.path, format=name, out=tmp_path / "c") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'c'}: written as {name}\n"


def test_maniskill_is_built_in() -> None:
    assert "maniskill" in EXPORTERS.registered


def load_the_tasks(dataset: Dataset, out: Path) -> None:
    for task in ("tests.exports.test_export:a_task_of_the_dataset",):
        require_import(task)


def test_an_exporter_imports_no_name_that_only_the_dataset_states(dataset: Dataset, tmp_path: Path) -> None:
    """In a script, too, where the exporter's own name is the user's."""
    with pytest.raises(UserError, match="a_task_of_the_dataset', which comes from a file: its module is not"):
        export(dataset, "tests.exports.test_export:load_the_tasks", tmp_path / "out")
    require_import("tests.exports.test_export:a_task_of_the_dataset")  # outside of it the script's rules hold
