"""The offline table as a page, as text and as Markdown, from a handful of answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.models.made_up import sample

from failsafe.evaluation.metrics import METRICS
from failsafe.evaluation.offline import ScoreTable, score
from failsafe.evaluation.predictions import Prediction
from failsafe.records import codec
from failsafe.records.assessment import Assessment, Status
from failsafe.records.provenance import Provenance
from failsafe.reports.scores import (
    HEADLINE_NOTE,
    UNUSABLE_NOTE,
    format_scores,
    render_scores,
    scores_markdown,
    write_scores,
)
from failsafe.reports.scores_tables import confusion_table, headline_table, model_tables, number, part_tables
from failsafe.samples.sample import Kind

HELD_OUT, MOVED = "held-out seeds", "cameras moved 5 cm"
RIGHT = Assessment(
    failure_probability=0.9, mode="slip", stage="lift", actions=((0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),)
)
METRIC = {metric.name: metric for metric in METRICS}


def predictions(wrong: int) -> list[Prediction]:
    """20 seeds, a failing and a good moment each; on the first few the model says the opposite."""
    found: list[Prediction] = []
    for seed in range(20):
        bad = sample(f"bad-{seed}", True, seed=seed, mode="slip", stage="lift")
        good = sample(f"good-{seed}", seed=seed, stage="lift", task="Push-v0", kind=Kind.HARMLESS)
        fine = replace(RIGHT, failure_probability=0.1, mode="", actions=())
        flip = seed < wrong
        found += [Prediction(bad, fine if flip else RIGHT), Prediction(good, RIGHT if flip else fine)]
    return [*found, Prediction(sample("late", True, seed=0, kind=Kind.LONG_AFTER, mode="slip"), RIGHT)]


def unread(given: list[Prediction]) -> list[Prediction]:
    return [Prediction(a.sample, Assessment(status=Status.UNREADABLE)) for a in given]


@pytest.fixture(scope="module")
def table() -> ScoreTable:
    sets = {HELD_OUT: predictions(0), MOVED: predictions(10)}
    return ScoreTable(
        scores=(
            score("compact", sets, 200),
            score("mute <b>", {name: unread(given) for name, given in sets.items()}, 200),
        ),
        split="test",
        resamples=200,
        command="failsafe score runs/compact samples/ moved/",
        sources={
            HELD_OUT: "failsafe samples data/ --out samples/",
            MOVED: "failsafe samples data/ --out moved/",
        },
        provenance=Provenance("0123abc", False, {"python": "3.11.2"}, "Linux-x86_64"),
    )


def test_the_headline_says_each_figure_and_its_difference(table: ScoreTable) -> None:
    table = headline_table(table)
    assert table.head == ("figure", "samples", HELD_OUT, MOVED, "difference")
    accuracy = table.rows[0]
    assert [cell.text for cell in accuracy] == ["failing or not", "40", "1.000", "0.500", "−0.500"]
    assert accuracy[2].interval == "1.000 to 1.000"
    assert accuracy[4].tone == "bad"
    by_name = {row[0].text: row for row in table.rows}
    # Ten good moments at 0.9 and ten failing ones at 0.1: the error grew, which is bad though it is more.
    assert by_name["Brier"][4].text == "+0.400"
    assert by_name["Brier"][4].tone == "bad"
    assert by_name["type with axis"][4].tone == "bad"
    assert by_name["unreadable"][4].tone == ""
    assert by_name["unrecoverable F1"][2].text == "–"
    assert table.hint.startswith("40 samples of 20 seeds, 20 of them failing")


def test_all_models_stand_in_one_table_and_nothing_of_other_data(table: ScoreTable) -> None:
    for found in model_tables(table):
        assert [row[0].text for row in found.rows] == ["compact", "mute <b>"]
        assert found.hint == ""
    assert model_tables(table)[0].rows[1][1].text == "0.000"


def test_moments_tasks_and_modes_have_their_rows(table: ScoreTable) -> None:
    by_kind, by_task, by_mode = part_tables(table.scores[0], table.scores[0].sets[0])
    names = [[(row[0].text, row[1].text) for row in table.rows] for table in (by_kind, by_task, by_mode)]
    everything = [("headline", "40"), ("every sample", "41")]
    assert names == [
        [*everything, ("harmless", "20"), ("just after", "20"), ("long after", "1")],
        [*everything, ("Pick-v0", "20"), ("Push-v0", "20")],
        [*everything, ("slip", "20")],
    ]


def test_the_confusion_tells_right_from_wrong(table: ScoreTable) -> None:
    table = confusion_table(table.scores[0].sets[1])
    assert table.head == ("true mode", "slip", "no failure")
    assert [[(c.text, c.tone, c.description) for c in row[1:]] for row in table.rows] == [
        [("10", "right", "0.500"), ("10", "", "0.500")],
        [("10", "", "0.500"), ("10", "right", "0.500")],
    ]


@pytest.mark.parametrize(
    ("name", "value", "signed", "expected"),
    [
        ("cosine", 0.65249, False, "0.652"),
        ("cosine", -0.0101, True, "−0.010"),
        ("cosine", 0.0101, True, "+0.010"),
        ("cosine", -0.00001, True, "0.000"),
        ("millimetres", 12.345, False, "12.3"),
    ],
)
def test_numbers(name: str, value: float, signed: bool, expected: str) -> None:
    assert number(METRIC[name], value, signed) == expected


@pytest.mark.parametrize("width", [40, 200])
def test_no_name_and_no_number_is_cut_short_in_a_terminal(table: ScoreTable, width: int) -> None:
    text = format_scores(table, width)
    assert "…" not in text
    for description in (
        "cameras moved 5 cm",
        "0.500 (0.",
        "long after",
        HEADLINE_NOTE,
        UNUSABLE_NOTE,
    ):
        assert description in text


def test_markdown_has_whole_rows_and_the_commands(table: ScoreTable) -> None:
    text = scores_markdown(table)
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
    assert "| failing or not | 40 | 1.000 (1.000 to 1.000) | 0.500 (" in text
    assert table.command in text
    assert "failsafe samples data/ --out moved/" in text


def test_equal_tables_give_equal_pages_and_stand_in_one_file(table: ScoreTable, tmp_path: Path) -> None:
    page = write_scores(table, tmp_path / "scores.html")
    again = codec.loads(ScoreTable, codec.dumps(table))
    assert page.read_bytes() == render_scores(again).encode()
    text = page.read_text()
    assert "mute <b>" not in text
    assert "mute &lt;b&gt;" in text
    # Every model by moment, task and mode; the first on every set.
    for description in (f"compact by mode: {MOVED}", f"mute &lt;b&gt; by task: {HELD_OUT}"):
        assert f"<h3>{description}</h3>" in text
    assert "http" not in text
    assert table.command in text


@pytest.fixture
def page(table: ScoreTable, browser: Any, tmp_path: Path) -> Any:
    browser.set_window_size(1400, 1000)
    browser.get_log("browser")
    browser.get(write_scores(table, tmp_path / "scores.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []


@pytest.mark.browser
def test_the_page_shows_figures_curves_and_the_rest_on_demand(page: Any) -> None:
    assert "compact" in page.find_element("css selector", "h1").text
    assert page.find_element("css selector", ".figures dd").text.startswith("1.000")
    assert len(page.find_elements("css selector", ".chart svg")) == 4
    # The compact model is perfect: straight up, then straight to the right.
    points = page.find_element("css selector", ".chart polyline").get_attribute("points").split()
    assert points == ["30.0,170.0", "30.0,10.0", "190.0,10.0"]
    hidden = page.find_element("css selector", "details table")
    assert not hidden.is_displayed()
    page.find_element("css selector", "details summary").click()
    assert hidden.is_displayed()


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_off_at_the_side(page: Any, width: int) -> None:
    page.set_window_size(width, 900)
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
