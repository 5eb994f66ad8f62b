"""The scripts that make the records of README and docs."""

import json
import re
import sys

import pytest
from scripts.records import ROOT

import failsafe as fs
from failsafe.records.branches import count_branches
from scripts import compare_tables, summarise_dataset, tables


def run(main, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    main()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small dataset of a simulator without physics."""
    folder = tmp_path_factory.mktemp("records") / "data"
    modes = ["object_dropped", "translation_x"]
    return fs.generate("ToyPick-v0", modes=modes, failures=4, labels=1, out=folder, executor="serial")


def test_the_record_of_a_dataset_is_that_of_its_cases(data, tmp_path, monkeypatch):
    run(summarise_dataset.main, monkeypatch, data.path, tmp_path / "yield.json")
    found = json.loads((tmp_path / "yield.json").read_text())
    cases = list(data.cases())
    worth = count_branches(label for case in cases for label in case.labels)
    assert found["command"].startswith("failsafe generate ToyPick-v0 --failures 4 ")
    assert found["total"]["corrections"] == worth.corrections > 0
    assert found["total"]["needed"] == worth.needed
    assert found["total"]["rollouts"] == len(cases) == found["tasks"]["ToyPick-v0"]["rollouts"]
    assert list(found["modes"]) == ["translation_x", "object_dropped"], "in the order of the levels"
    assert list(found["levels"]) == ["plan", "world"]
    assert sum(row["failures"] for row in found["modes"].values()) == found["total"]["failures"] >= 4


def test_two_equal_tables_differ_in_nothing(tmp_path, monkeypatch):
    table = ROOT / "docs" / "tables" / "hand_back.parquet"
    run(compare_tables.main, monkeypatch, tmp_path / "same.json", f"same={table}:{table}:never")
    found = json.loads((tmp_path / "same.json").read_text())["comparisons"]["same"]
    assert (found["episodes"], found["end_otherwise"], found["other_length"]) == (48, 0, 0)
    other = compare_tables.compare(str(table), str(table), "never")
    assert other["successes"] == "32 and 32"


def test_a_table_is_written_from_its_records(tmp_path):
    for suffix in (".md", ".parquet"):
        source = ROOT / "docs" / "tables" / f"hand_back{suffix}"
        (tmp_path / f"hand_back{suffix}").write_bytes(source.read_bytes())
    page = tmp_path / "hand_back.md"
    right = page.read_text()
    assert tables.rewrite(page) is False
    page.write_text(right.replace("95.8%", "99.9%"))
    assert tables.rewrite(page) is True
    assert page.read_text().rstrip() == right.rstrip()


def test_every_table_has_its_step_in_the_study():
    text = (ROOT / "scripts" / "study.sh").read_text()
    names = [path.stem for path in (ROOT / "docs" / "tables").glob("*.parquet")]
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []
