"""The report of an evaluation: its words, its tables, and the page in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reports.evaluation_data import (
    CONFIG,
    PICK,
    POLICY,
    PUSH,
    episode,
    make_episodes,
    make_results,
    make_video,
    watched,
)
from tests.reports.test_gallery_page import Page

from failsafe.evaluation.config import StudyItem
from failsafe.evaluation.paired import Summary, pairs_of, summarise
from failsafe.evaluation.replay_videos import ReplayVideo
from failsafe.evaluation.results import Results
from failsafe.evaluation.statistics import wilson
from failsafe.records.episode import Ending, Episode
from failsafe.records.event import EventKind
from failsafe.reports.evaluation import (
    VIDEOS,
    format_summary,
    render_report,
    summary_markdown,
    write_report,
)
from failsafe.reports.evaluation_cells import probability
from failsafe.reports.evaluation_charts import (
    alarm_chart,
    curve_charts,
    delay_charts,
    success_charts,
    time_line,
)
from failsafe.reports.evaluation_tables import (
    cells_table,
    confusion_table,
    curve_table,
    effort_table,
    headlines,
)

WORKED, FAILED = Ending.SUCCESS, Ending.FAILURE


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return make_episodes()


@pytest.fixture(scope="module")
def summary(episodes: list[Episode]) -> Summary:
    return summarise(episodes)


def study(alone: list[bool], under: list[bool], alarms: list[bool] | None = None) -> Summary:
    alarms = alarms or [False] * len(alone)
    found = [episode(i, success) for i, success in enumerate(alone)]
    found += [
        episode(i, success, "monitor", events=watched(20 if alarm else None))
        for i, (success, alarm) in enumerate(zip(under, alarms, strict=True))
    ]
    return summarise(found)


def test_the_headline_takes_all_tasks_of_the_nominal_scenario(summary: Summary) -> None:
    (headline,) = headlines(summary)
    assert (headline.row.task, headline.row.scenario) == ("all", "nominal")
    # Of 20 pairs 8 succeed alone; 6 are rescued and 2 harmed, so 12 succeed with the monitor. McNemar:
    # twice the chance of 6 or more heads of 8, 2 * (28 + 8 + 1) / 256.
    assert {name: cell.text for name, cell in headline.figures.items()} == {
        "success alone": "40.0%",
        "with the monitor": "60.0%",
        "gain, points": "+20.0",
        "McNemar p": "0.29",
        "harm rate": "25.0%",
        "false alarms": "50.0%",
        "the monitor acts": "1.3%",
        "rescued, ends under policy": "4 of 6",
    }
    assert headline.figures["success alone"].interval == "22–61%"
    assert headline.figures["gain, points"].tone == ""
    assert headline.description == (
        "No difference beyond chance: of 20 initial states 6 fail alone and succeed with the monitor, "
        "2 succeed alone and fail with it (exact McNemar p = 0.29).",
        "Of the 8 episodes in which the policy alone succeeds 2 fail with the monitor (25.0%, 7–59%); "
        "in 50.0% (22–78%) there is an alarm.",
        # 12 takeovers of 3 steps each in 2,720 steps; rescued episodes have 60 steps.
        "The monitor acts in 1.3% of all control steps, and in 5.0% (5–5%) of those of rescued episodes; "
        # Two of them hand back 7 steps before the end, within the 12 for which a success has to last.
        "4 of 6 rescued episodes end under the base policy (30–90%).",
    )


@pytest.mark.parametrize(
    ("alone", "under", "start", "tone"),
    [
        ([False] * 8, [True] * 8, "More episodes succeed with the monitor: of 8", "good"),
        ([True] * 8, [False] * 8, "Fewer episodes succeed with the monitor: of 8", "bad"),
        ([True] * 8, [True] * 8, "No difference beyond chance: of 8", ""),
    ],
)
def test_the_words_follow_the_test(alone: list[bool], under: list[bool], start: str, tone: str) -> None:
    (headline,) = headlines(study(alone, under))
    assert headline.description[0].startswith(start)
    assert headline.figures["gain, points"].tone == tone


def test_of_a_policy_that_never_succeeds_no_harm_is_claimed_or_denied() -> None:
    (headline,) = headlines(study([False] * 3, [True, False, False]))
    assert headline.figures["harm rate"].text == headline.figures["false alarms"].text == "–"
    assert headline.description[1].startswith("The policy alone never succeeds")


def test_what_it_took_is_said_for_every_arm(summary: Summary) -> None:
    table = effort_table(summary)
    assert {len(row) for row in table.rows} == {len(table.head)}
    assert [row[0].text for row in table.rows] == ["nominal", "nominal", "noise", "noise"]
    never, monitor = (dict(zip(table.head, row, strict=True)) for row in table.rows[:2])
    assert (never["condition"].text, never["alarms"].text, never["asked for help"].text) == (
        "never",
        "–",
        "–",
    )
    whole = summary.find("all", "nominal", POLICY, "monitor")
    assert whole is not None
    assert (monitor["condition"].text, monitor["alarms"].text) == ("monitor", f"{whole.alarms:.2f}")
    assert (monitor["steps"].text, monitor["seconds"].text) == (f"{whole.steps:.0f}", f"{whole.seconds:.1f}")
    assert monitor["asked for help"].text == f"{whole.asked_for_help} of {whole.episodes}"


def test_p_is_never_zero() -> None:
    assert [probability(p) for p in (1.0, 0.0213, 1e-9)] == ["1", "0.021", "< 0.0001"]


def test_the_table_has_a_row_for_every_cell(summary: Summary) -> None:
    table = cells_table(summary)
    assert len(table.rows) == 2 * 3 * 2
    assert {len(row) for row in table.rows} == {len(table.head)}
    by_name = dict(zip(table.head, table.rows[1], strict=True))
    assert {name: cell.text for name, cell in by_name.items()} == {
        "task": PICK,
        "scenario": "nominal",
        "policy": POLICY,
        "condition": "monitor",
        "episodes": "10",
        "success": "60.0%",
        "alone": "40.0%",
        "gain": "+20.0",
        "p": "0.62",
        "rescued": "3",
        "harmed": "1",
        "harm rate": "25.0%",
        "false alarms": "50.0%",
        "alarms, policy survives": "–",
        "monitor acts": "1.3%",
        "in rescued": "5.0%",
        "ends under policy": "2 of 3",
        "alarms": "0.70",
        "takeovers": "0.60",
        "first alarm": "30",
        "delay": "–",
        "steps": "136",
        "seconds": "6.8",
        "waiting": "20.0%",
        "no assessment": "0.00",
        "asked for help": "1",
        "other endings": "",
    }


def test_what_was_named_and_what_came_of_it(episodes: list[Episode]) -> None:
    pairs = [pair for pair in pairs_of(episodes) if pair.alone.key.scenario == "nominal"]
    table = confusion_table(pairs)
    assert table.head == ("mode named", "rescued", "still failed", "harmed", "false alarm")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["slip", "4", "4", "", "2"],
        ["no op", "2", "", "2", ""],
    ]
    assert table.rows[0][1].description == "0.400"
    chart = alarm_chart(pairs, 250)
    # Bars of 250/12 steps: the alarms at step 20 fall into the first, those at 30 and 40 into the second.
    heights = {(s.kind, round(s.x * 12)): s.height * chart.most for s in chart.segments}
    assert heights == {
        ("rescued", 0): 2,
        ("false alarm", 0): 2,
        ("rescued", 1): 2,
        ("still failed", 1): 4,
        ("harmed", 1): 2,
        ("rescued", 2): 2,
    }


def test_a_time_line_has_every_event(episodes: list[Episode]) -> None:
    pair = next(p for p in pairs_of(episodes) if p.alone.key.seed == 4)
    line = time_line(pair)
    assert line.steps == 250
    assert line.queries == [(10, 0.2), (20, 0.9), (30, 0.9), (40, 0.9), (50, 0.9)]
    assert line.segments == [[(10, 0.2), (20, 0.9)], [(30, 0.9), (40, 0.9), (50, 0.9)]]
    assert (line.threshold, line.top) == (0.625, 1.25)
    assert line.acting == [(20, 23)]
    assert [(step, kind) for step, kind, _ in line.marks] == [
        (20, EventKind.ALARM),
        (20, EventKind.TAKE_OVER),
        (23, EventKind.HAND_BACK),
    ]
    assert line.marks[1][2] == "step 20: takeover, score 0.90, slip, lift, 4 actions"
    cut = replace(pair.under, events=pair.under.events[:4], steps=22)
    assert time_line(replace(pair, under=cut)).acting == [(20, 22)], "the episode ended in a correction"


def test_success_is_drawn_by_scenario_and_policy(summary: Summary) -> None:
    charts = success_charts(summary)
    assert [chart.title for chart in charts] == [f"{POLICY}, nominal", f"{POLICY}, noise"]
    assert {task: [row.condition for row in rows] for task, rows in charts[0].tasks.items()} == {
        PICK: ["never", "monitor"],
        PUSH: ["never", "monitor"],
        "all": ["never", "monitor"],
    }


def test_a_terminal_of_a_hundred_columns_holds_the_tables(summary: Summary) -> None:
    text = format_summary(summary, 100)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    lines = text.splitlines()
    assert lines[0] == f"{POLICY}, scenario nominal"
    assert lines[3].split() == [PICK, "never", "10", "40.0%", "(17–69%)", *["–"] * 5]
    assert lines[4].split() == ["monitor", "10", "60.0%", "(31–83%)", "+20.0", "0.62", "3", "1", "50.0%"]


def test_names_are_not_cut_in_a_narrow_terminal(summary: Summary) -> None:
    long = "a.package.of.ones.own:a_task_with_a_very_long_name_indeed"
    rows = tuple(replace(row, task=long, condition="a-condition-of-ones-own") for row in summary.rows[:2])
    text = format_summary(Summary(rows), 40)
    assert long in text
    assert "a-condition-of-ones-own" in text


def test_markdown_for_the_docs(summary: Summary) -> None:
    overview, first, second, curve, took = summary_markdown(summary).strip().split("\n\n### ")
    assert overview.splitlines()[0] == "### All scenarios"
    rows = [line for line in overview.splitlines() if line.startswith("|")]
    assert rows[0].startswith(
        "| scenario | axis | policy | condition | episodes | alone | success | gain | p |"
    )
    assert [row.split(" | ")[1] for row in rows[2:]] == ["none", "physics"]
    assert rows[2].startswith(
        f"| nominal | none | {POLICY} | monitor | 20 | 40.0% (22–61%) | 60.0% (39–78%) | +20.0 (−5 to +45) |"
    )
    assert first.startswith(f"{POLICY}, scenario nominal\n")
    assert second.startswith(f"{POLICY}, scenario noise\n")
    assert curve.startswith("Success by step limit\n")
    assert took.startswith("What it took\n")
    lines = [line for line in first.splitlines() if line.startswith("|")]
    assert lines[0] == (
        "| task | condition | episodes | success | gain | p | rescued | harm rate | false alarms "
        "| monitor acts | in rescued | ends under policy |"
    )
    assert lines[2].startswith(f"| {PICK} | never | 10 | 40.0% (17–69%) | – |")
    assert lines[3].startswith(
        f"| {PICK} | monitor | 10 | 60.0% (31–83%) | +20.0 (−20 to +60) | 0.62 | 3 | "
        "25.0% (5–70%) | 50.0% (15–85%) | 1.3%"
    )
    assert [line.split(" | ")[0] for line in lines[2::2]] == [f"| {PICK}", f"| {PUSH}", "| all"]


def test_success_by_step_limit_is_of_the_records(summary: Summary) -> None:
    table = curve_table(summary)
    assert table.head[-5:] == ("50 steps", "100 steps", "150 steps", "200 steps", "400 steps")
    # A success takes 60 steps.
    assert [cell.text for cell in table.rows[1][2:]] == ["monitor", "20", "0.0%", *["60.0%"] * 4]
    (nominal, noise) = curve_charts(summary)
    assert (nominal.title, [row.condition for row in noise.rows]) == (
        f"{POLICY}, nominal",
        ["never", "monitor"],
    )


def test_perturbations_have_columns_of_their_own(summary: Summary) -> None:
    rows = tuple(
        replace(
            row,
            onsets=7,
            detected=4,
            delay=12.0,
            survived=5,
            survived_alarms=2,
            survived_interval=wilson(2, 5),
        )
        for row in summary.rows
    )
    overview, first, *_ = summary_markdown(Summary(rows)).strip().split("\n\n### ")
    assert "| false alarms | alarms, policy survives | delay |" in overview
    assert "| 2 of 5 (12–77%) | 12 (4 of 7) |" in overview
    assert "| 12 (4 of 7) |" in first
    assert "delay" not in summary_markdown(summary)
    assert "2 of 5" in format_summary(Summary(rows), 100)


def test_how_late_alarms_are_is_drawn_where_there_were_perturbations(tmp_path: Path) -> None:
    results = make_results(tmp_path / "categories")
    assert "from the disturbance" not in render_report(results)
    for file in results.path.glob("episodes/*/nominal/*/*/*.json"):
        file.unlink()  # where the same seeds fail unperturbed
    for record in list(results.episodes()):
        results.write(replace(record, injection_step=15))
    (chart,) = delay_charts(pairs_of(results.episodes()))
    assert (chart.low, chart.high) == ("0", "36")  # the latest alarm is in step 50
    assert "steps from the disturbance to the alarm" in render_report(results)


def test_a_single_scenario_needs_no_overview(summary: Summary) -> None:
    rows = tuple(row for row in summary.rows if row.scenario == "nominal")
    assert summary_markdown(Summary(rows)).startswith(f"### {POLICY}, scenario nominal")


def test_equal_results_give_equal_pages_that_stand_alone(tmp_path: Path) -> None:
    results = make_results(tmp_path / "categories")
    page = write_report(results, tmp_path / "report.html")
    assert page.read_text() == render_report(results)
    text = page.read_text()
    assert "<b>weak</b>" not in text
    assert "box</script>" not in text
    assert "http" not in text
    assert results.manifest.command.replace("'", "&#39;") in text
    assert "0.6250" in text
    assert "no alarms: too few episodes" in text
    assert "failsafe report RESULTS --videos 3" in text
    assert 'id="unfinished"' not in text


def test_what_has_not_been_run_is_said(tmp_path: Path) -> None:
    results = Results(tmp_path / "categories")
    results.begin(CONFIG)
    assert "No initial state has been run both alone and with the monitor" in render_report(results)
    results.write(episode(0, True))
    assert "1 of 80 episodes have been run" in render_report(results)


def test_a_video_that_differs_or_is_missing_says_so(tmp_path: Path) -> None:
    results = make_results(tmp_path / "categories")
    other = make_video(tmp_path / VIDEOS, 4, (WORKED, WORKED))
    none = ReplayVideo(StudyItem(PICK, "nominal", POLICY, 5), description="no renderer on this machine")
    text = render_report(results, [other, none])
    assert "“never” ended differently (success) from the recorded one (failure after 250 steps)" in text
    assert "second run of “monitor”" not in text
    assert "No replay video: no renderer on this machine." in text


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Page]:
    results = make_results(tmp_path / "categories")
    endings = {3: (WORKED, FAILED), 4: (FAILED, WORKED), 7: (FAILED, FAILED)}
    videos = [make_video(tmp_path / VIDEOS, seed, ended) for seed, ended in endings.items()]
    browser.set_window_size(1400, 1200)
    browser.get_log("browser")
    shown = Page(browser)
    shown.open(write_report(results, tmp_path / "report.html", videos))
    yield shown
    assert browser.get_log("browser") == []


@pytest.mark.browser
def test_filters_leave_what_fits_and_columns_sort(page: Page) -> None:
    rows = "return [...document.querySelectorAll('#table tbody tr')].filter((r) => !r.hidden).length"
    assert (page.count(), page.script(rows)) == ("12 cells", 12)
    page.choose("filter-condition", "monitor")
    page.choose("filter-scenario", "noise")
    assert (page.count(), page.script(rows)) == ("3 of 12 cells", 3)
    page.choose("filter-task", "all")
    assert page.script(rows) == 1
    page.browser.refresh()
    assert page.script(rows) == 1, "the choice is in the address"
    page.find("#clear").click()
    assert page.count() == "12 cells"
    page.script("document.querySelectorAll('.sort')[5].click()")
    assert page.texts("#table tbody tr:first-child td")[1].startswith("40.0%")


@pytest.mark.browser
@pytest.mark.parametrize("camera", ["front", "hand"])
def test_videos_play_side_by_side(page: Page, camera: str) -> None:
    assert page.texts(".episodes .category") == ["rescued", "harmed", "still failed"]
    page.choose("camera", camera)
    canvases = page.script("return [...document.querySelectorAll('[data-video] canvas')].map((c) => c.width)")
    assert canvases == [32] * 6
    page.script("document.querySelector('[data-video]').scrollIntoView({block: 'center'})")
    shown = "document.querySelector('[data-video] .monitor canvas').dataset.frame"
    page.wait(f"{shown} === '15'")
    assert page.texts("[data-video='0'] .state") == ["end: failure, step 250", "end: success, step 60"]
    page.script("document.querySelector('[data-video]').card.player.seek(21)")
    assert page.wait(f"{shown} === '5'")
    assert page.texts("[data-video='0'] .state") == ["the policy acts", "the monitor acts"]
    middle = page.pixels("[data-video='0'] .monitor canvas")
    _, green, blue = np.median(middle.reshape(-1, 3), axis=0)
    assert green > 80
    assert (blue > 150) == (camera == "hand")
    page.find("[data-video='0'] .mark.take_over").click()
    assert page.find("[data-video='0'] .clock").text == "step 20/250 · 1.0 s"
    assert len(page.browser.find_elements("css selector", "[data-video='0'] .tick")) == 3
    page.find("[data-video='0'] .play").click()
    page.wait("Number(document.querySelector('[data-video] .slider').value) > 22")


@pytest.mark.browser
def test_every_drawing_is_there(page: Page) -> None:
    assert len(page.browser.find_elements("css selector", "svg.success circle.dot")) == 12
    # Two scenarios, two conditions, five step limits.
    assert len(page.browser.find_elements("css selector", "svg.success polyline.curve")) == 4
    assert len(page.browser.find_elements("css selector", "svg.success polyline.curve ~ .whisker")) == 20
    assert len(page.browser.find_elements("css selector", "svg.line")) == 3
    assert len(page.browser.find_elements("css selector", ".pairs .confusion tbody tr")) == 2
    assert page.texts(".policy dd")[1].startswith("60.0%")


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_off_at_the_side(page: Page, width: int) -> None:
    page.browser.set_window_size(width, 900)
    assert page.script("return document.documentElement.scrollWidth <= innerWidth")


def test_the_page_says_what_came_out_of_a_threshold_and_what_to_know(tmp_path: Path) -> None:
    text = render_report(make_results(tmp_path))
    # Of 8 undisturbed successes of the policy alone 4 see an alarm; Wilson's interval: 0.215 to 0.785.
    assert "<td>at most 5 %</td><td>50.0 % (22 to 78), 4 of 8</td>" in text
    assert "The seeds 0:10 are seeds of the training range" in text
