"""Coverage of a handful of cases, counted by hand."""

from __future__ import annotations

import html.parser
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from failsafe.datasets.manifest import Manifest, write_manifest
from failsafe.datasets.store import Dataset
from failsafe.errors import RecordError, UserError
from failsafe.generation.config import GenerationConfig, default_modes
from failsafe.records import codec
from failsafe.records.case import (
    Attempt,
    Correction,
    FailureCase,
    Label,
    Outcome,
    RecoveryStrategy,
    Times,
    Verification,
)
from failsafe.records.perturbation import Perturbation
from failsafe.records.provenance import Provenance
from failsafe.reports.coverage import coverage_table, format_coverage, write_coverage
from failsafe.reports.coverage_charts import histogram
from failsafe.reports.coverage_rows import CoverageRow, make_rows

PICK, PUSH = "ToyPick-v0", "ToyPush-v0"
CONFIG = GenerationConfig((PICK, PUSH), 8, default_modes(("translation_x", "slip", "object_dropped")))
# The default magnitudes of translation_x are uniform over 0.02 to 0.1 m: thirds end at 0.0467 and 0.0733.
SMALL, MEDIUM, LARGE = -0.03, 0.06, 0.09
# Those of slip are uniform over 0.01 to 0.035 m.
SLIP = 0.012


def label(proven: bool, attempts: tuple[Attempt, ...] = ()) -> Label:
    correction = Correction(((0.0,) * 7,), "robot_base", RecoveryStrategy.FRESH_PLAN, "grasp", -1, ("grasp",))
    evidence = Verification(
        prefix_exact=True,
        without_succeeds=False,
        with_succeeds=proven,
        cause_ended_succeeds=False,
        replanned_succeeds=False,
        rollouts=1,
        successes=int(proven),
        attempts=attempts,
    )
    return Label(9, "reach", correction if proven else None, evidence)


FAILED_ATTEMPT = Attempt(RecoveryStrategy.FRESH_PLAN, 3, False, "the rollout with it did not end in success")
PROVEN, HOPELESS, FAR = (label(True),), (label(False, (FAILED_ATTEMPT,)),), (label(False),)
FAILURE, HARMLESS, CRASHED = Outcome.FAILURE, Outcome.HARMLESS, Outcome.CRASHED


def case(
    number: int,
    task: str,
    cause: tuple[str, str, float, float],
    outcome: Outcome,
    labels: tuple[Label, ...] = (),
    target: int = 0,
) -> FailureCase:
    mode, stage, moment, magnitude = cause
    p = Perturbation(mode, ["reach", "grasp", "lift"].index(stage), stage, moment, magnitude, "m")
    return FailureCase(
        f"{task}-{number:06d}",
        task,
        number,
        "do it",
        (p,),
        outcome,
        "",
        Times(),
        labels,
        (),
        target % 2,
        target,
    )


CASES = [
    case(0, PICK, ("translation_x", "grasp", 0.0, SMALL), HARMLESS, target=0),
    case(1, PICK, ("translation_x", "grasp", 0.0, SMALL), HARMLESS, target=0),
    case(2, PICK, ("translation_x", "grasp", 0.0, -SMALL), HARMLESS, target=2),
    case(3, PICK, ("translation_x", "reach", 0.0, LARGE), FAILURE, PROVEN, target=2),
    case(4, PICK, ("translation_x", "reach", 0.0, LARGE), FAILURE, (*HOPELESS, *PROVEN), target=4),
    case(5, PICK, ("translation_x", "reach", 0.0, LARGE), FAILURE, HOPELESS, target=6),
    case(6, PICK, ("translation_x", "reach", 0.0, MEDIUM), CRASHED, target=6),
    case(7, PICK, ("slip", "lift", 0.9, SLIP), FAILURE, (*HOPELESS, *FAR), target=6),
    case(8, PUSH, ("translation_x", "reach", 0.0, LARGE), FAILURE, PROVEN, target=1),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = tmp_path / "data"
    write_manifest(folder, Manifest(CONFIG, Provenance("", False, {}, "")))
    made = Dataset(folder)
    for each in CASES:
        made.write_case(each, {})
    return made


def test_needed_corrections_are_counted(dataset: Dataset) -> None:
    worth = Verification(True, False, True, 1, 1, (), cause_ended_succeeds=True)
    absorbed = replace(PROVEN[0], verification=worth)
    replanned = replace(
        PROVEN[0], verification=replace(worth, cause_ended_succeeds=False, replanned_succeeds=True)
    )
    labels = (*PROVEN, absorbed, replanned, replanned)
    dataset.write_case(case(9, PUSH, ("translation_x", "reach", 0.0, LARGE), FAILURE, labels, 1), {})
    row = next(r for r in coverage_table(dataset) if (r.kind, r.task) == ("mode", PUSH))
    assert (row.corrections, row.needed, row.cause_ended, row.replanned) == (5, 2, 1, 2)
    assert "2 of 5" in format_coverage(dataset)
    assert "7 proven corrections" in format_coverage(dataset)


def counts(row: CoverageRow) -> tuple[int, ...]:
    return (row.asked, row.tried, row.failures, row.got, row.harmless, row.other)


def test_cells_are_counted(dataset: Dataset) -> None:
    cells = [row for row in coverage_table(dataset) if row.kind == "cell"]
    found = {(r.task, r.mode, r.stage, r.moment, r.magnitude): (r.state, counts(r)) for r in cells}
    first = (PICK, "translation_x")
    assert found == {
        (*first, "reach", "with the stage", "medium"): ("thin", (1, 1, 0, 0, 0, 1)),
        (*first, "reach", "with the stage", "large"): ("filled", (3, 3, 3, 2, 0, 0)),
        (*first, "grasp", "with the stage", "small"): ("empty", (2, 3, 0, 0, 3, 0)),
        (PICK, "slip", "lift", "late", "small"): ("unrecovered", (1, 1, 1, 0, 0, 0)),
        (PUSH, "translation_x", "reach", "with the stage", "large"): ("filled", (1, 1, 1, 1, 0, 0)),
    }
    # Along the plan, and within a stage from small to large.
    assert [(r.stage, r.magnitude) for r in cells[:3]] == [
        ("reach", "medium"),
        ("reach", "large"),
        ("grasp", "small"),
    ]


def test_modes_are_summed_up_with_reasons(dataset: Dataset) -> None:
    rows = {(r.task, r.mode): r for r in coverage_table(dataset) if r.kind == "mode"}
    row = rows[PICK, "translation_x"]
    assert counts(row) == (4, 7, 3, 2, 3, 1)
    assert row.yield_rate == 2 / 7
    assert row.recovered == 2 / 3
    assert row.reasons == {"no candidate ended in success": 1}
    assert rows[PICK, "slip"].reasons == {
        "no candidate ended in success / no correction within the length limit": 1
    }
    assert rows[PUSH, "slip"].yield_rate is None
    assert rows[PUSH, "slip"].recovered is None


def test_a_mode_that_never_applied_is_told_from_one_that_had_no_turn(dataset: Dataset) -> None:
    states = {(r.task, r.mode): r.state for r in coverage_table(dataset) if r.kind == "mode"}
    # Partition 0 drew translation_x again on the pick task, so every other mode that applies had an attempt.
    assert states[PICK, "object_dropped"] == "no stage"
    assert states[PUSH, "object_dropped"] == "untried"


def test_rows_go_into_json(dataset: Dataset) -> None:
    plain = codec.to_plain(coverage_table(dataset))
    assert plain[0]["yield_rate"] == 2 / 7
    assert plain[0]["reasons"] == {"no candidate ended in success": 1}


def test_no_cases_make_rows_without_numbers() -> None:
    rows = make_rows([], CONFIG)
    assert len(rows) == 6
    assert {(r.state, r.yield_rate, r.yield_low) for r in rows} == {("untried", None, None)}


def test_a_histogram_stacks_what_came_of_it() -> None:
    values = [(0.0, "verified"), (0.01, "harmless"), (0.01, "harmless"), (1.0, "verified"), (7.0, "other")]
    chart = histogram("moment", values, (0.0, 1.0), "")
    assert chart.most == 3
    found = [(s.kind, round(s.x * 12), s.y, s.height) for s in chart.segments]
    assert found == [
        ("verified", 0, 0.0, 1 / 3),
        ("harmless", 0, 1 / 3, 2 / 3),
        ("verified", 11, 0.0, 1 / 3),
        ("other", 11, 1 / 3, 1 / 3),
    ]
    assert [len(histogram("m", v, (1.0, 1.0), "steps").segments) for v in ([], [(1.0, "other")])] == [0, 1]


def test_the_table_for_terminals(dataset: Dataset) -> None:
    text = format_coverage(dataset, width=200)
    lines = text.splitlines()
    row = next(line for line in lines if line.startswith(f"{PICK}  translation_x"))
    assert row.split() == [
        *(PICK, "translation_x", "4", "7", "3", "2", "2", "of", "2", "3", "29%", "(8%-64%)"),
        *("1", "x", "no", "candidate", "ended", "in", "success"),
    ]
    assert "9 tried, 3 verified failures, 5 failures, 3 harmless, 1 other" in text
    assert lines[-1] == f"  {PICK}, translation x, grasp, with the stage, small (3 attempts)"
    assert not any(character in text for character in ("\x1b", "\r"))


class Checker(html.parser.HTMLParser):
    """Tags that are opened are closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone(dataset: Dataset, tmp_path: Path) -> None:
    page = write_coverage(dataset)
    assert page == dataset.path / "coverage.html"
    text = page.read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.addresses == ["data:,"]
    assert "://" not in text
    assert "{{" not in text
    assert "60.0% (23%–88%)" in text  # 3 of 5 failures
    assert "33.3% (12%–65%)" in text  # 3 of 9 tries
    assert f"{PICK}, translation x, grasp, with the stage, small (3 attempts)" in text
    assert text.count("<tr") == (1 + 3) + (1 + 6) + (1 + 5)
    dataset.check_files()  # it may lie in the dataset
    assert write_coverage(dataset, tmp_path / "other.html").read_text() == text


def test_text_from_the_dataset_is_never_markup(dataset: Dataset) -> None:
    odd = case(9, PICK, ("slip", "lift", 0.5, SLIP), HARMLESS)
    p = odd.perturbations[0]
    named = Perturbation(p.mode, p.stage, "<b>lift</b>", p.moment, p.magnitude, p.unit)
    dataset.write_case(
        FailureCase(odd.case_id, PICK, 9, "", (named,), HARMLESS, "", Times(), (), (), 0, 0), {}
    )
    text = write_coverage(dataset).read_text()
    assert "<b>lift" not in text
    assert "&lt;b&gt;lift" in text


def test_a_folder_that_is_no_dataset_and_a_damaged_case(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        coverage_table(Dataset(tmp_path))
    dataset.case_path(PICK, f"{PICK}-000000").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(RecordError, match=f"{PICK}-000000"):
        write_coverage(dataset)
    assert sum(r.tried for r in coverage_table(dataset, skip_damaged=True) if r.kind == "mode") == 8


@pytest.fixture
def page(dataset: Dataset, browser: Any) -> Any:
    browser.set_window_size(1400, 1000)
    browser.get_log("browser")
    browser.get("about:blank")
    browser.get(write_coverage(dataset).as_uri())
    yield browser
    assert browser.get_log("browser") == []


def shown(browser: Any) -> list[str]:
    rows = browser.find_elements("css selector", "#table tbody tr")
    return [row.find_element("css selector", "td:nth-child(3)").text for row in rows if row.is_displayed()]


@pytest.mark.browser
def test_filters_leave_what_fits_and_stand_in_the_address(page: Any) -> None:
    from selenium.webdriver.support.ui import Select

    assert shown(page) == ["reach", "reach", "grasp", "lift", "reach"]
    Select(page.find_element("id", "filter-task")).select_by_value(PICK)
    Select(page.find_element("id", "filter-state")).select_by_value("empty")
    assert shown(page) == ["grasp"]
    assert page.find_element("id", "count").text == "1 of 5 cells"
    page.refresh()
    assert shown(page) == ["grasp"]
    Select(page.find_element("id", "filter-mode")).select_by_value("slip")
    assert shown(page) == []
    assert page.find_element("id", "nothing").is_displayed()
    page.find_element("id", "clear").click()
    assert len(shown(page)) == 5


@pytest.mark.browser
def test_the_map_leads_to_its_cells_and_columns_sort(page: Any) -> None:
    page.find_element("css selector", f".heat button[data-task={PUSH}]").click()
    assert shown(page) == ["reach"]
    page.find_element("id", "clear").click()
    tried = page.find_elements("css selector", "#table .sort")[6]
    page.execute_script("arguments[0].click(); arguments[0].click()", tried)
    numbers = page.execute_script(
        "return [...document.querySelectorAll('#table tbody tr')].map((r) => Number(r.cells[6].textContent))"
    )
    assert numbers == [3, 3, 1, 1, 1]


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_off_at_the_side(page: Any, width: int) -> None:
    page.set_window_size(width, 900)
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_bars_stay_within_the_drawing(dataset: Dataset) -> None:
    class Bars(html.parser.HTMLParser):
        tops: list[float] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "rect":
                values = dict(attrs)
                assert math.isclose(float(values["width"] or 0), 232 / 12 - 2, abs_tol=0.01)
                self.tops.append(float(values["y"] or 0))

    bars = Bars()
    bars.feed(write_coverage(dataset).read_text())
    assert len(bars.tops) == 7
    assert min(bars.tops) == 16.0
