from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.reports.gallery_data import make_dataset, render_dataset

from failsafe.datasets.store import Dataset


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset with frames; tests that change it take a copy."""
    dataset = make_dataset(tmp_path_factory.mktemp("rendered") / "data")
    render_dataset(dataset)
    return dataset


@pytest.fixture
def copy(rendered: Dataset, tmp_path: Path) -> Dataset:
    return Dataset(shutil.copytree(rendered.path, tmp_path / "data"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, of a phone's or a desk's size as the test wishes."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--force-prefers-reduced-motion",  # nothing moves unless a test asks for it
        "--window-size=1400,1200",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.chrome.service.Service(driver)
    chrome = webdriver.Chrome(options=options, service=service)
    yield chrome
    chrome.quit()
