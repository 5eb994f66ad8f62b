from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.reports.gallery_data import make_dataset

from failsafe.datasets.store import Dataset
from failsafe.errors import RecordError, UserError
from failsafe.reports.filmstrip import choose_moments, write_filmstrip
from failsafe.reports.gallery import figures, spread, write_gallery


def data_of(page: Path) -> dict[str, Any]:
    text = (page.parent / "cases.js").read_text()
    return json.loads(text.removeprefix("window.FAILSAFE = ").removesuffix(";\n"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_equal_datasets_give_equal_galleries_wherever_they_lie(rendered: Dataset, copy: Dataset) -> None:
    first, second = write_gallery(rendered), write_gallery(copy)
    assert contents(first.parent) == contents(second.parent)


def test_every_sheet_that_the_page_names_is_there(copy: Dataset, tmp_path: Path) -> None:
    for out in (None, tmp_path / "other"):
        page = write_gallery(copy, out)
        data = data_of(page)
        named = 0
        for case in data["cases"]:
            for folder, frames in (
                (case["folder"], case["frames"]),
                (case["nominal"], data["nominals"][case["nominal"]]["frames"]),
            ):
                for trace in frames["traces"] if frames else ():
                    for camera in frames["cameras"]:
                        assert (page.parent / data["base"] / folder / trace / f"{camera}.webp").is_file()
                        named += 1
        assert named == 3 * (
            7 + 8
        )  # cameras; the nominal rollout of every case, 3 + 2 + 1 + 1 + 1 rollouts of their own
    shutil.rmtree(copy.path)
    assert (page.parent / data["base"] / "ToyPick-v0/pick-open/recovery-1/hand.webp").is_file()


def test_figures_are_counted_by_hand(rendered: Dataset) -> None:
    assert figures(list(rendered.cases())) == {
        "cases": 7,
        "verified failures": 2,
        "unrecoverable": 1,
        "harmless": 2,
        "proven corrections": 3,
        "tasks": 2,
    }


def test_a_correction_is_told_in_millimetres_and_degrees(rendered: Dataset) -> None:
    data = data_of(write_gallery(rendered))
    case = next(c for c in data["cases"] if c["id"] == "pick-open")
    correction = case["labels"][0]["correction"]
    assert correction["actions"] == [[0, 0, 20, 0, 0, 0, 1], [5, -2.5, 20, 0, 0, 5.73, 1]]
    assert (correction["millimetres"], correction["degrees"]) == (40.8, 5.7)  # 20 + sqrt(25 + 6.25 + 400)
    assert correction["strategy"] == "fresh plan"
    assert [label["verification"]["successes"] for label in case["labels"]] == [5, 3]


def test_a_limit_takes_from_every_task_and_verdict_in_turn(rendered: Dataset) -> None:
    cases = list(rendered.cases())
    assert [case.case_id for case in spread(cases, 2)] == ["pick-diverged", "push-crashed"]
    assert spread(cases, None) == spread(cases, 7) == cases
    page = write_gallery(rendered, limit=3)
    assert len(data_of(page)["cases"]) == 3
    assert "This page shows 3 of 7 cases" in page.read_text()
    with pytest.raises(UserError, match="expected a limit of at least 1 case, got 0"):
        write_gallery(rendered, limit=0)


def test_without_frames_the_page_says_how_to_get_them(tmp_path: Path) -> None:
    page = write_gallery(make_dataset(tmp_path / "data"))
    assert "<code>failsafe render DATA</code>" in page.read_text()
    assert all(case["frames"] is None for case in data_of(page)["cases"])


def test_text_from_the_dataset_is_never_markup(rendered: Dataset) -> None:
    page = write_gallery(rendered)
    assert "<b>stayed</b>" not in page.read_text()
    for script in ("card.js", "dom.js", "gallery.js", "player.js", "transport.js"):
        assert "innerHTML" not in (page.parent / script).read_text()


def test_nothing_comes_from_a_network(rendered: Dataset) -> None:
    page = write_gallery(rendered)
    for path in page.parent.iterdir():
        assert "://" not in path.read_text(), path


def test_a_folder_that_is_no_dataset_and_a_damaged_case(copy: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no manifest"):
        write_gallery(Dataset(tmp_path))
    copy.case_path("ToyPick-v0", "pick-lost").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(RecordError, match="pick-lost"):
        write_gallery(copy)
    assert len(data_of(write_gallery(copy, skip_damaged=True))["cases"]) == 6


def test_a_strip_has_three_rows_of_six(rendered: Dataset, tmp_path: Path) -> None:
    out = write_filmstrip(
        rendered, rendered.case("ToyPick-v0", "pick-open"), tmp_path / "filmstrip.png", "front"
    )
    pixels = np.asarray(Image.open(out).convert("RGB")).astype(int)
    # Images lie on white, so a line through their middles is cut by white gaps.
    white = (pixels == 255).all(axis=(2,))
    column = white[:, -20]
    row = white[-30, :]
    assert np.sum(column[:-1] & ~column[1:]) == 3
    assert np.sum(row[:-1] & ~row[1:]) >= 6
    with pytest.raises(UserError, match="expected a case with a proven recovery, got 'pick-lost'"):
        write_filmstrip(rendered, rendered.case("ToyPick-v0", "pick-lost"), out, "front")
    with pytest.raises(
        UserError, match=r"a proven recovery at label 2, got 'pick-open' \(recoverable, 2 labels\)"
    ):
        write_filmstrip(rendered, rendered.case("ToyPick-v0", "pick-open"), out, "front", moment=2)
    with pytest.raises(UserError, match="'top'"):
        write_filmstrip(rendered, rendered.case("ToyPick-v0", "pick-open"), out, "top")


def test_moments_of_a_strip() -> None:
    marks = {"injection": 20, "correction": 34, "failure": 34, "onset": 21}
    assert choose_moments(marks, 90) == [
        (20, "injection"),
        (34, "correction, failure"),
        (48, ""),
        (62, ""),
        (76, ""),
        (90, "end"),
    ]
    assert choose_moments({"injection": 0}, 3) == [(0, "injection"), (1, ""), (2, ""), (3, "end")]
