"""Results, thresholds and datasets of other code are not taken for those of today."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.bench import Glance

import failsafe as fs
from failsafe.datasets.render import RenderOptions, render_dataset
from failsafe.datasets.store import Dataset
from failsafe.errors import StoreError, UserError
from failsafe.evaluation.results import Results
from failsafe.execution.serial import SerialExecutor
from failsafe.records.assessment import WindowSpec
from failsafe.samples.manifest import SampleConfig
from failsafe.samples.render import build_samples

POLICY = """
from sfp_speed import SPEED
import numpy as np
from failsafe.policies.contract import ActionSpace

class Policy:
    name, action_space, views = "mine", ActionSpace(), {"front": 16}
    def reset(self, instruction): ...
    def drop_queue(self): ...
    def act(self, observation):
        return np.array([[SPEED, 0, 0, 0, 0, 0, 1.0]])
"""
TASK = """
import failsafe as fs
from failsafe.experts.toy import ToyPickExpert
from failsafe.simulators.toy import ToyPick

def pick():
    return fs.Task(ToyPick(), ToyPickExpert())
"""
PICK, MINE = "sfp_task:pick", "sfp_mine:Policy"


@pytest.fixture
def change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A user's policy with a module beside it, and a user's task; changes one of the files."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in (("sfp_mine", POLICY), ("sfp_speed", "SPEED = 0.001"), ("sfp_task", TASK)):
        (folder / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(folder))

    def edit(name: str) -> None:
        file = folder / f"{name}.py"
        file.write_text(file.read_text() + "\n# mended\n")

    return edit


def evaluate(out: Path, policy: Any = MINE, task: Any = PICK) -> Results:
    return fs.evaluate(
        policy, Glance(), tasks=task, seeds=range(5000, 5001), out=out, max_steps=3, threshold=1.0
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sfp_mine", "the weights or code of the policy sfp_mine:Policy: choose another folder"),
        ("sfp_speed", "the weights or code of the policy sfp_mine:Policy"),
        ("sfp_task", "the code of the task sfp_task:pick"),
    ],
)
def test_results_of_other_code_are_not_continued(
    change: Callable[[str], None], tmp_path: Path, name: str, sentence: str
) -> None:
    out = tmp_path / "out"
    assert len(list(evaluate(out).episodes())) == 2
    evaluate(out)
    change(name)
    with pytest.raises(StoreError, match=f"another evaluation, which differs in {sentence}"):
        evaluate(out)
    assert len(list(evaluate(tmp_path / "another").episodes())) == 2


def test_objects_are_known_by_their_code_too(change: Callable[[str], None], tmp_path: Path) -> None:
    from sfp_mine import Policy  # pyright: ignore[reportMissingImports]
    from sfp_task import pick  # pyright: ignore[reportMissingImports]

    evaluate(tmp_path / "out", Policy(), pick())
    change("sfp_task")  # the classes of its simulator and its expert are FailSafe's own
    evaluate(tmp_path / "out", Policy(), pick())
    change("sfp_speed")
    with pytest.raises(StoreError, match="the weights or code of the policy mine"):
        evaluate(tmp_path / "out", Policy(), pick())


def test_the_version_of_failsafe_counts_and_its_source_is_recorded(
    change: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(tmp_path / "out")
    monkeypatch.setattr("failsafe.records.provenance.own_sources", lambda: "mended")
    for _ in range(2):
        manifest = evaluate(tmp_path / "out").manifest
        assert [run.sources for run in manifest.continued] == ["mended"]
        assert len(manifest.provenance.sources) == 64
    monkeypatch.setattr("failsafe.evaluation.code.own_version", lambda: "99.0")
    with pytest.raises(StoreError, match=r"the version of FailSafe \(\d.* then, 99.0 now\)"):
        evaluate(tmp_path / "out")


def test_a_dataset_of_other_code_is_not_continued(change: Callable[[str], None], tmp_path: Path) -> None:
    def generate() -> Dataset:
        return fs.generate(
            PICK, out=tmp_path / "data", failures=1, modes=["object_dropped"], labels=1, executor="serial"
        )

    generate()
    generate()
    change("sfp_task")
    with pytest.raises(UserError, match=r"made by other code \(the code of the task sfp_task:pick\): choose"):
        generate()


def test_a_mined_folder_of_other_code_is_not_continued(change: Callable[[str], None], tmp_path: Path) -> None:
    def mine(**settings: Any) -> Dataset:
        given: dict[str, Any] = {"episodes": 1, "max_steps": 3, "labels": 1, "executor": "serial"} | settings
        return fs.mine(MINE, tasks=PICK, out=tmp_path / "mined", **given)

    mine()
    mine()
    with pytest.raises(
        UserError, match=r"with other settings \(max_steps\): continue it with `failsafe mine"
    ):
        mine(max_steps=4)
    change("sfp_task")
    with pytest.raises(UserError, match=r"with other code \(the code of the task sfp_task:pick\): choose"):
        mine()
    change("sfp_mine")
    with pytest.raises(UserError, match="the weights or code of the policy sfp_mine:Policy, the code of the"):
        mine()


def test_what_other_code_made_is_neither_rendered_nor_sampled(
    change: Callable[[str], None], tmp_path: Path
) -> None:
    data = fs.generate(
        PICK, out=tmp_path / "data", failures=1, modes=["object_dropped"], labels=1, executor="serial"
    )
    view, cases = RenderOptions("front", 8, 50, False), list(data.cases())
    samples = SampleConfig(WindowSpec(("front",), 2, 1, 16), splits=("train", "test"), failing_share=0.0)
    run_on = SerialExecutor()
    render_dataset(data, cases, view, run_on)
    assert build_samples([data.path], tmp_path / "samples", samples, run_on)
    change("sfp_task")
    sentence = r"was made by other code \(the code of the task sfp_task:pick\)"
    with pytest.raises(UserError, match=sentence):
        render_dataset(data, cases, view, run_on)
    with pytest.raises(UserError, match=sentence):
        build_samples([data.path], tmp_path / "others", samples, run_on)
