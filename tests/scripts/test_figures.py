"""Figures in the prose of README and docs are those of the records."""

import pyarrow.parquet as pq
import pytest

from failsafe.errors import UserError
from scripts import figures


def test_every_figure_in_the_prose_is_that_of_the_records():
    for page in figures.pages():
        text = page.read_text(encoding="utf-8")
        assert figures.insert(text) == text, f"{page.name}: run python scripts/figures.py"


def test_the_readme_states_figures_of_the_records():
    assert len(figures.FIGURE.findall((figures.ROOT / "README.md").read_text(encoding="utf-8"))) >= 10


def test_a_figure_is_computed_from_the_episodes():
    rows = pq.read_table(figures.ROOT / "docs/tables/weak.parquet").to_pylist()
    ends = {(r["condition"], r["task"], r["seed"]): r["ending"] == "success" for r in rows}
    states = {(task, seed) for _, task, seed in ends}
    rescued = sum(ends[("assist", *state)] and not ends[("never", *state)] for state in states)
    succeeded = sum(ends[("assist", *state)] for state in states)
    alone = sum(ends[("never", *state)] for state in states)
    assert figures.figure("weak nominal all assist rescued") == str(rescued)
    assert figures.figure("weak nominal all assist success") == f"{100 * succeeded / len(states):.1f}"
    assert figures.figure("weak nominal all assist gain") == f"{100 * (succeeded - alone) / len(states):+.1f}"


def test_a_wrong_figure_is_replaced():
    text = "from <!--= weak nominal all assist episodes -->7<!--/--> pairs"
    assert figures.insert(text) == "from <!--= weak nominal all assist episodes -->300<!--/--> pairs"


@pytest.mark.parametrize(
    "key", ["weak nominal all assist", "weak nominal all assist luck", "weak nominal all telepathy success"]
)
def test_a_key_that_names_no_figure_is_one_sentence(key):
    with pytest.raises(UserError, match="expected"):
        figures.figure(key)
