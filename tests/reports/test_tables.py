"""The tables in the docs are what the records beside them come to, and the monitor keeps what it promises."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import binom

from failsafe.evaluation.episode_table import read_episode_table
from failsafe.evaluation.paired import summarise
from failsafe.monitors.calibration import shipped_calibration

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "docs" / "tables"
NAMES = sorted(path.stem for path in TABLES.glob("*.parquet"))


def test_there_are_tables() -> None:
    assert set(NAMES) >= {"weak", "medium", "strong", "controls", "axes", "perturbed"}


def test_every_number_is_of_the_records(tmp_path: Path) -> None:
    """In a process of its own: the check of types in this one takes ten times as long as the tables."""
    copy = shutil.copytree(TABLES, tmp_path / "tables")
    done = subprocess.run(
        [sys.executable, "-m", "scripts.tables", str(copy)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]


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
