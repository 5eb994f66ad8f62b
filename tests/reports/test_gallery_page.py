"""The gallery in a browser, from disk: what a person does with it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.reports.gallery_data import make_dataset

from failsafe.datasets.store import Dataset
from failsafe.reports.gallery import write_gallery

pytestmark = pytest.mark.browser


class Page:
    """The page as a person sees it."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def open(self, page: Path, address: str = "") -> None:
        self.browser.get("about:blank")
        self.browser.get(page.as_uri() + address)

    def script(self, text: str, *arguments: Any) -> Any:
        return self.browser.execute_script(text, *arguments)

    def wait(self, text: str, *arguments: Any) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, 20).until(lambda _: self.script(f"return {text}", *arguments))

    def choose(self, name: str, value: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.find(f"#{name}")).select_by_value(value)

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return [e.text for e in self.browser.find_elements("css selector", selector)]

    def cards(self) -> list[str]:
        return sorted(self.script("return [...document.querySelectorAll('.card')].map((c) => c.dataset.id)"))

    def count(self) -> str:
        return self.find("#count").text

    def pixels(self, selector: str) -> np.ndarray:
        # A canvas with images from disk cannot be read by scripts: it is looked at instead.
        element = self.find(selector)
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    browser.set_window_size(1400, 1200)
    browser.get_log("browser")
    yield Page(browser)
    assert browser.get_log("browser") == []  # no error in the console


@pytest.fixture
def gallery(rendered: Dataset, page: Page) -> Page:
    page.open(write_gallery(rendered))
    page.wait("document.querySelectorAll('.pane').length >= 3")
    return page


PICKS = ["pick-diverged", "pick-harmless", "pick-lost", "pick-open", "pick-two"]


@pytest.mark.parametrize(
    ("name", "value", "cards"),
    [
        ("filter-task", "ToyPick-v0", PICKS),
        ("filter-mode", "translation_x", ["pick-harmless", "pick-two"]),
        ("filter-mode", "slip", ["pick-diverged", "pick-lost", "pick-two"]),
        ("filter-stage", "close gripper", ["pick-open"]),
        ("filter-category", "recoverable", ["pick-open", "pick-two"]),
        ("filter-category", "unrecoverable", ["pick-lost"]),
        ("filter-category", "crashed", ["push-crashed"]),
    ],
)
def test_a_filter_leaves_what_fits(gallery: Page, name: str, value: str, cards: list[str]) -> None:
    assert gallery.count() == "7 cases"
    gallery.choose(name, value)
    assert gallery.cards() == cards
    assert gallery.count() == f"{len(cards)} of 7 cases"


def test_filters_add_up_and_are_in_the_address(gallery: Page) -> None:
    gallery.choose("filter-category", "harmless")
    gallery.choose("filter-task", "ToyPush-v0")
    assert gallery.cards() == ["push-harmless"]
    options = gallery.texts("#filter-category option")
    assert options == [
        "all (2)",
        "recoverable (0)",
        "unrecoverable (0)",
        "harmless (1)",
        "physics diverged (0)",
        "simulator crashed (1)",
    ]
    gallery.browser.refresh()
    assert gallery.cards() == ["push-harmless"]
    gallery.find("#clear").click()
    assert (len(gallery.cards()), gallery.count()) == (7, "7 cases")


def test_search_finds_words(gallery: Page) -> None:
    gallery.find("#search").send_keys("slip DROPPED")
    assert gallery.cards() == ["pick-lost"]
    assert gallery.count() == "1 of 7 cases"
    gallery.find("#search").send_keys(" nowhere")
    assert gallery.cards() == []
    assert gallery.find("#nothing").is_displayed()


@pytest.mark.parametrize("pane", ["nominal", "failing", "recovery"])
def test_a_rollout_is_seen_and_moves(gallery: Page, pane: str) -> None:
    canvas = f"[data-id=pick-open] .{pane} canvas"
    gallery.wait(f"document.querySelector('{canvas}').dataset.frame !== undefined")
    end = gallery.pixels(canvas)
    assert end.std() > 10
    gallery.script("document.querySelector('[data-id=pick-open]').card.player.seek(0)")
    assert np.abs(gallery.pixels(canvas) - end).max() > 50


def test_the_recovery_is_the_failure_until_the_label(gallery: Page) -> None:
    card = "[data-id=pick-open]"
    gallery.wait(f"document.querySelector('{card} .recovery canvas').dataset.frame !== undefined")
    gallery.script(f"document.querySelector('{card}').card.player.seek(20)")
    gallery.wait(f"document.querySelector('{card} .recovery').dataset.tone === 'before'")
    gallery.script(f"document.querySelector('{card} .recovery canvas').style.opacity = 1")
    difference = gallery.pixels(f"{card} .recovery canvas") - gallery.pixels(f"{card} .failing canvas")
    assert np.abs(difference).mean() < 2


def test_the_camera_changes_the_image(gallery: Page) -> None:
    canvas = "[data-id=pick-open] .nominal canvas"
    gallery.wait(f"document.querySelector('{canvas}').dataset.frame !== undefined")
    front = gallery.pixels(canvas)
    gallery.choose("camera", "hand")
    gallery.wait("[...images.values()].every((p) => p.ready)")
    assert np.abs(gallery.pixels(canvas) - front).mean() > 5


def test_the_label_changes_table_evidence_and_mark(gallery: Page) -> None:
    card = "[data-id=pick-open]"
    assert gallery.texts(f"{card} tbody tr") == [
        "1 0.0 0.0 +20.0 0.0 0.0 0.0 open",
        "2 +5.0 −2.5 +20.0 0.0 0.0 +5.7 open",
    ]
    first = gallery.texts(f"{card} .verification li, {card} .correction h3, {card} .mark.label")
    assert "Recoverability: 5 of 5 rollouts (2 mm, 1 degree, one step late)" in first
    second_label = gallery.browser.find_elements("css selector", f"{card} .chip")[1]
    gallery.script("arguments[0].scrollIntoView({block: 'center'})", second_label)
    second_label.click()
    second = gallery.texts(f"{card} .verification li, {card} .correction h3, {card} .mark.label")
    assert "Recoverability: 3 of 5 rollouts (2 mm, 1 degree, one step late)" in second
    assert [a == b for a, b in zip(first, second, strict=True)].count(False) == 3


def test_the_times_are_marked_and_lead_there(gallery: Page) -> None:
    card = "[data-id=pick-open]"
    marks = gallery.texts(f"{card} .mark")
    assert [mark.split()[0] for mark in marks] == ["injection", "onset", "failure", "label"]
    gallery.script(f"document.querySelector('{card} .mark.onset').click()")
    assert gallery.find(f"{card} .slider").get_attribute("value") == marks[1].split()[1]
    assert len(gallery.browser.find_elements("css selector", f"{card} .tick")) == 4


def test_keys_play_pause_and_step(gallery: Page) -> None:
    card, element = "[data-id=pick-open]", gallery.find("[data-id=pick-open]")
    gallery.script("arguments[0].focus()", element)
    step = f"document.querySelector('{card}').card.player.step"
    last = gallery.script(f"return {step}")
    element.send_keys("\ue012")  # left
    assert gallery.script(f"return {step}") < last
    element.send_keys(" ")
    before = gallery.script(f"return {step}")
    gallery.wait(f"{step} !== {before}")
    element.send_keys(" ")
    paused = gallery.script(f"return {step}")
    assert gallery.script(f"return new Promise((r) => setTimeout(() => r({step}), 300))") == paused


def test_results_without_a_recovery_say_why(gallery: Page) -> None:
    for case, description in {
        "pick-lost": "No correction was proven.",
        "pick-harmless": "None needed: the rollout ends in success.",
        "pick-diverged": "None: the physics diverged.",
        "push-crashed": "None: the simulator crashed.",
    }.items():
        gallery.script(f"document.querySelector('[data-id={case}]').scrollIntoView()")
        gallery.wait(
            f"document.querySelector('[data-id={case}] .recovery .missing')?.textContent === {description!r}"
        )


def test_markup_in_the_data_is_shown_as_text(gallery: Page) -> None:
    gallery.script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert any(
        "the box <b>stayed</b> behind" in text for text in gallery.texts("[data-id=pick-open] details li")
    )


def test_without_frames_the_rest_works(tmp_path: Path, page: Page) -> None:
    page.open(write_gallery(make_dataset(tmp_path / "data")))
    assert "failsafe render DATA" in page.find("#no-frames").text
    page.choose("filter-category", "recoverable")
    assert page.cards() == ["pick-open", "pick-two"]
    assert "+20.0" in page.find("[data-id=pick-open] tbody").text


def test_two_thousand_cases_load_only_what_is_seen(rendered: Dataset, tmp_path: Path, page: Page) -> None:
    dataset = make_dataset(tmp_path / "data", copies=290)
    shutil.copytree(rendered.path / "frames", dataset.path / "frames")
    page.open(write_gallery(dataset))
    assert page.count() == "2030 cases"
    page.wait("document.querySelector('canvas').dataset.frame !== undefined")
    assert page.script("return document.querySelectorAll('.card').length") < 100
    assert page.script("return document.querySelectorAll('canvas').length") < 60
    assert page.script("return performance.now()") < 20_000
    page.choose("filter-task", "ToyPush-v0")
    assert page.count() == "580 of 2030 cases"


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_off_at_the_side(gallery: Page, width: int) -> None:
    gallery.browser.set_window_size(width, 900)
    assert gallery.script("return document.documentElement.scrollWidth <= innerWidth")
