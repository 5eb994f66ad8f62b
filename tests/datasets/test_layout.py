"""What docs/data.md says about the shapes of traces and frames is true of a dataset that was generated."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import failsafe as fs
from failsafe.datasets.frame_grids import case_folder, open_grids
from failsafe.datasets.frames import render_case
from failsafe.experts.toy import ToyPickExpert
from failsafe.records.names import folder_name
from failsafe.records.trace import Trace
from failsafe.simulators.toy import ToyPick

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
TASK = "tests.datasets.test_layout:pick"


def pick() -> fs.Task:
    return fs.Task(ToyPick(), ToyPickExpert())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> fs.Dataset:
    out = tmp_path_factory.mktemp("layout") / "data"
    return fs.generate(
        TASK, failures=1, labels=1, verify_rollouts=1, modes=["object_dropped"], out=out, executor="serial"
    )


def test_the_table_of_the_page_states_the_shapes_of_every_array(data: fs.Dataset) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([TNDS0-9+, ]+?) \|", PAGE, re.MULTILINE))
    assert set(rows) == {f.name for f in dataclasses.fields(Trace)} - {"disturbances"}
    objects = len(ToyPick().reset(0).objects)
    case = next(c for c in data.cases() if c.verified)
    for name, trace in data.rollouts(case).items():
        sizes = {"T": len(trace.commands), "N": objects}
        sizes |= {"D": trace.commands.shape[1], "S": trace.states.shape[1]}
        for array, text in rows.items():
            stated = tuple(eval(size, {}, sizes) for size in text.split(","))
            assert getattr(trace, array).shape == stated, f"{name}.{array}"
            assert getattr(trace, array).dtype == (np.int16 if array == "stages" else np.float32)


def test_steps_of_frames_are_indices_of_states(data: fs.Dataset) -> None:
    case = next(c for c in data.cases() if c.verified)
    simulator = ToyPick()
    render_case(data, simulator, case, [simulator.camera("front")], size=16, every=5)
    trace = data.traces(case.task, case.case_id)["failing"]
    grid = open_grids(case_folder(data, case.task, case.case_id), "front")["failing"]
    assert grid.frames.steps[-1] == len(trace) == len(trace.states) - 1
    assert len(grid.frames.steps) < len(trace.states)
    assert set(range(0, len(trace), 5)) | {case.labels[0].step} <= set(grid.frames.steps)


def test_no_folder_has_the_name_of_a_module_and_function(data: fs.Dataset) -> None:
    assert not [path for path in data.path.rglob("*") if ":" in path.name]
    assert folder_name(TASK).startswith("test_layout.pick-")
    assert (data.path / "cases" / folder_name(TASK)).is_dir()
    case = next(c for c in data.cases() if c.verified)
    assert (case.task, data.find(case.case_id)) == (TASK, case)


def test_a_dataset_whose_folders_have_the_whole_name_is_still_read(data: fs.Dataset) -> None:
    cases = list(data.cases())
    for part in ("cases", "nominal"):
        (data.path / part / folder_name(TASK)).rename(data.path / part / TASK)
    try:
        assert list(data.cases()) == cases
        assert set(data.rollouts(cases[0])) >= {"nominal", "failing"}
    finally:
        for part in ("cases", "nominal"):
            (data.path / part / TASK).rename(data.path / part / folder_name(TASK))


def test_the_card_of_a_simulator_without_assets_claims_no_licence_of_assets(data: fs.Dataset) -> None:
    card = (data.path / "README.md").read_text(encoding="utf-8")
    assert "show assets licensed" not in card
    assert "CC BY-NC" not in card
