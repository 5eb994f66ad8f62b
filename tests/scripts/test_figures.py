"""Figures in README and docs are those of the records, and no result stands there without its record."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.documentation.test_snippets import problem

from failsafe.errors import UserError
from scripts import figures, records

PAGES = pytest.mark.parametrize("page", figures.pages(), ids=lambda page: page.name)


def test_every_figure_is_that_of_the_records():
    """In a process of its own: the check of types in this one takes ten times as long as the figures."""
    root = Path(figures.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.figures", "--check"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, f"run python -m scripts.figures\n{done.stdout}{done.stderr}"[-3000:]


@PAGES
def test_every_result_names_its_record(page):
    found = figures.unrecorded(page.read_text(encoding="utf-8"))
    assert found == [], "insert it from a record, name its command, or delete it: see scripts/figures.py"


@PAGES
def test_the_commands_that_results_name_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"<!-- figures: (?:page|command) (.*?) -->", text)
    assert [found for command in named if (found := problem(command.split()))] == []


def test_the_readme_states_figures_of_the_records():
    assert len(figures.FIGURE.findall((records.ROOT / "README.md").read_text(encoding="utf-8"))) >= 10


def test_a_figure_is_computed_from_the_episodes():
    rows = pq.read_table(records.ROOT / "docs/tables/weak.parquet").to_pylist()
    ends = {(r["condition"], r["task"], r["seed"]): r["ending"] == "success" for r in rows}
    states = {(task, seed) for _, task, seed in ends}
    rescued = sum(ends[("assist", *state)] and not ends[("never", *state)] for state in states)
    succeeded = sum(ends[("assist", *state)] for state in states)
    alone = sum(ends[("never", *state)] for state in states)
    assert records.look_up("weak nominal all assist rescued") == str(rescued)
    assert records.look_up("weak nominal all assist success") == f"{100 * succeeded / len(states):.1f}"
    gain = f"{100 * (succeeded - alone) / len(states):+.1f}"
    assert records.look_up("weak nominal all assist gain") == gain
    table = records.look_up("weak nominal * never,assist episodes,rescued")
    assert f"| all | `assist` | 300 | {rescued} |" in table
    assert "| all | `never` | 300 |  |" in table, "the policy alone rescues nothing"


def test_a_comparison_of_two_tables_is_computed_from_their_episodes():
    def ends(table, condition):
        rows = pq.read_table(records.ROOT / f"docs/tables/{table}.parquet").to_pylist()
        wanted = [r for r in rows if (r["policy"], r["condition"]) == ("reference:strong", condition)]
        return {(r["scenario"], r["task"], r["seed"]): r["ending"] == "success" for r in wanted}

    mined, generated = ends("left_out_with", "monitor"), ends("left_out_without", "monitor")
    pairs = [(mined[state], generated[state]) for state in mined if state[0] != "nominal"]
    against = "left_out_with against left_out_without:reference:strong perturbed monitor monitor"
    assert records.look_up(f"{against} episodes") == str(len(pairs))
    assert records.look_up(f"{against} better") == str(sum(one > other for one, other in pairs))
    assert records.look_up(f"{against} worse") == str(sum(one < other for one, other in pairs))
    gain = sum(one - other for one, other in pairs) / len(pairs)
    assert records.look_up(f"{against} gain") == f"{100 * gain:+.1f}"


def test_one_policy_of_a_table_is_named_after_a_colon():
    key = "perturbed all never success"
    rows = pq.read_table(records.ROOT / "docs/tables/left_out_without.parquet").to_pylist()
    wanted = [r for r in rows if r["condition"] == "never" and r["scenario"] != "nominal"]
    for policy in {row["policy"] for row in wanted}:
        ends = [row["ending"] == "success" for row in wanted if row["policy"] == policy]
        assert records.look_up(f"left_out_without:{policy} {key}") == f"{100 * sum(ends) / len(ends):.1f}"
    with pytest.raises(UserError, match="several"):
        records.look_up(f"left_out_without {key}")
    with pytest.raises(UserError, match="expected a policy"):
        records.look_up(f"left_out_without:reference:weak {key}")


def test_a_wrong_figure_is_replaced():
    text = "from <!--= weak nominal all assist episodes -->7<!--/--> pairs"
    assert figures.insert(text) == "from <!--= weak nominal all assist episodes -->300<!--/--> pairs"


def test_the_first_record_that_exists_is_taken():
    assert records.look_up("no_such_table/weak seeds") == "development seeds 5000:5100"
    assert records.look_up("weak/no_such_table tasks") == "PickCube, PushCube and StackCube"
    assert records.look_up("no_such_table? nominal all monitor gain") == "not measured yet"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of records."""
    monkeypatch.setattr(records, "ROOT", tmp_path)
    modes = {"slip": {"failures": 40, "share": 0.925, "interval": [0.8, 0.97], "proven": [37, 40]}}
    modes["drift"] = {"failures": 50, "share": None, "interval": None, "proven": [49, 50]}
    named = [{"name": "a query, one thread", "value": 12.84}]
    (tmp_path / "run.json").write_text(json.dumps({"modes": modes, "figures": named, "total": 1060}))
    (tmp_path / "scores.md").write_text(
        "# T\n\n### model\n\n| f | s |\n|:---|---:|\n| right | 0.9 (0.8 to 1) |\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("run.json total", "1,060"),
        ("run.json modes slip share:.0%", "92 %"),
        ("run.json modes slip interval:.0%", "80 to 97 %"),
        ("run.json modes drift interval:.0%", "–"),
        ("run.json modes slip proven", "37 of 40"),
        ('run.json figures "a query, one thread" value:.0f', "13"),
        ("scores.md model right s", "0.9 (0.8 to 1)"),
        ("scores.md model right s:point", "0.9"),
    ],
)
def test_a_value_of_a_record(folder, key, expected):
    assert records.look_up(key) == expected


def test_several_values_of_a_record_are_a_table(folder):
    assert records.look_up("run.json modes * failures,share:.1%").strip().splitlines() == [
        "|  | failures | share |",
        "|---|---:|---:|",
        "| slip | 40 | 92.5 % |",
        "| drift | 50 | – |",
    ]


@pytest.mark.parametrize(
    "key",
    [
        "weak nominal all assist",
        "weak nominal all assist luck",
        "weak nominal all telepathy success",
        "weak against medium nominal never luck gain",
        "weak against medium nominal assist never luck",
        "run.json modes luck share",
        "run.json luck",
        "none.json total",
        "scores.md model wrong s",
        "scores.md other right s",
        "benchmarks.nominal_success luck",
    ],
)
def test_a_key_that_names_no_figure_is_one_sentence(key, request):
    if ".json" in key or ".md" in key:
        request.getfixturevalue("folder")
    with pytest.raises(UserError, match="expected"):
        records.look_up(key)


@pytest.mark.parametrize(
    "text",
    [
        "The monitor succeeds in 80.7 % of the episodes.",
        "All are harmless (p = 0.38).",
        "It rescues 11 of 40.",
        "| weak | 31.3 -> 80.7 |",
        "| weak | 4 | 86 |",
        "An accuracy of 0.940 is reached.",
        "7.1 failures a second",
    ],
)
def test_a_result_without_a_record_is_found(text):
    assert figures.unrecorded(f"# Page\n\n{text}\n") == [text]
    assert figures.unrecorded(f"<!-- figures: settings -->\n{text}\n") == []
    assert figures.unrecorded(f"<!-- figures: quoted -->\n{text}\n") == [text], "a quotation has a source"
    assert figures.unrecorded(f"<!--= weak seeds -->{text}<!--/-->\n") == []
    assert figures.unrecorded(f"```\n{text}\n```\n") == []


def test_the_page_of_the_benchmark_is_that_of_its_record():
    page = Path(records.ROOT / "docs/bench.md").read_text(encoding="utf-8")
    found = json.loads((records.ROOT / "benchmarks/results/bench.json").read_text(encoding="utf-8"))
    for row in found["figures"]:
        assert f"| {row['name']} | {row['value']:.3g} {row['unit']} | {row['target']} |" in page
    assert f"- commit: {found['machine']['commit']}" in page
