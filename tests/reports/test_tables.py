"""The tables in the docs are what the records beside them come to, and the monitor keeps what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binom

from failsafe.evaluation.episode_table import read_episode_table
from failsafe.evaluation.paired import summarise
from failsafe.monitors.calibration import shipped_calibration
from failsafe.reports.evaluation import summary_markdown

TABLES = Path(__file__).parents[2] / "docs" / "tables"
NAMES = sorted(path.stem for path in TABLES.glob("*.parquet"))


def test_there_are_tables() -> None:
    assert set(NAMES) >= {"weak", "medium", "strong", "controls", "axes", "perturbed"}


@pytest.mark.parametrize("name", NAMES)
def test_every_number_is_of_the_records(name: str) -> None:
    written = (TABLES / f"{name}.md").read_text()
    again = summary_markdown(summarise(read_episode_table(TABLES / f"{name}.parquet")))
    assert written.rstrip().endswith(again.rstrip())


@pytest.mark.parametrize("strength", ["weak", "medium", "strong"])
def test_alpha_is_kept_on_rollouts_that_calibration_has_not_seen(strength: str) -> None:
    """So many false alarms, or more, would come about in one study of a hundred if alpha were kept."""
    calibration = shipped_calibration(f"reference:{strength}")
    assert calibration is not None
    whole = summarise(read_episode_table(TABLES / f"{strength}.parquet")).find(
        "all",
        "nominal",
        f"reference:{strength}",
        "assist",  # alarms up to the first are the same
    )
    assert whole is not None
    assert whole.false_alarm_rate is not None
    assert whole.alone >= 50
    alarmed = round(whole.false_alarm_rate * whole.alone)
    assert binom.sf(alarmed - 1, whole.alone, calibration.alpha) > 0.01
