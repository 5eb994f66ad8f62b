from __future__ import annotations

from pathlib import Path

import pytest
from tests.hostile.targets import Target, make_targets


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `inside`, where the targets are, and `outside`, which nothing may touch."""
    place = tmp_path_factory.mktemp("hostile")
    (place / "outside").mkdir()
    (place / "outside" / "kept").write_text("kept", encoding="utf-8")
    (place / "inside" / "scratch").mkdir(parents=True)
    return place


@pytest.fixture(scope="session")
def targets(place: Path) -> dict[str, Target]:
    """Everything that reads what others wrote; who changes a file of a target restores it."""
    return make_targets(place / "inside")
