"""The example of docs/simulators.md: a scene of one's own on the engine, checked and generated from."""

import re
import sys

import pytest
from tests.documentation.markdown import ROOT, blocks

pytest.importorskip("mujoco")

import failsafe as fs
from failsafe.cli.main import main
from failsafe.records.case import BranchMethod

pytestmark = pytest.mark.metaworld
SOURCE = ROOT / "examples" / "cube_and_plate.py"
PAGE = ROOT / "docs" / "simulators.md"


def check_adapter(adapter, monkeypatch, capsys):
    """Return the exit status of `failsafe check-adapter` and what it prints."""
    monkeypatch.setattr(sys, "argv", ["failsafe", "check-adapter", adapter])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().out


def test_the_example_is_what_the_page_says(monkeypatch, capsys):
    code, out = check_adapter("examples.cube_and_plate:CubeAndPlate", monkeypatch, capsys)
    assert code == 0, out
    shown = [line for block in blocks(PAGE, "text") for line in block.code.splitlines() if line != "..."]
    assert [line for line in shown if line not in out.splitlines()] == []


def test_the_page_shows_lines_of_the_example():
    lines = [line.strip() for line in SOURCE.read_text().splitlines()]
    assert len(lines) <= 120
    shown = [line.strip() for block in blocks(PAGE, "python") for line in block.code.splitlines()]
    assert [line for line in shown if line not in lines] == []


@pytest.mark.parametrize(
    ("line", "replaced", "rule"),
    [
        ("self._model.body_pos[:] = self._layout", "", "objects can be placed"),
        ("default_rng(seed)", "default_rng(0)", "seeds differ"),
    ],
)
def test_what_an_adapter_forgets_is_found(line, replaced, rule, monkeypatch, capsys, tmp_path):
    (tmp_path / "broken_plate.py").write_text(SOURCE.read_text().replace(line, replaced))
    (tmp_path / "broken_plate.xml").write_text(SOURCE.with_suffix(".xml").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    code, out = check_adapter("broken_plate:CubeAndPlate", monkeypatch, capsys)
    sys.modules.pop("broken_plate")
    assert code == 1
    assert rule in re.findall(r"BROKEN  ([^:]+):", out)


def test_failures_of_the_example_are_proven(tmp_path):
    data = fs.generate(
        "examples.cube_and_plate:make",
        modes=["early_release", "object_pushed", "translation_x"],
        failures=2,
        labels=1,
        verify_rollouts=1,
        out=tmp_path / "plate",
        executor="serial",
    )
    proofs = [case.labels[0].verification for case in data.cases() if case.verified]
    assert len(proofs) >= 2
    assert all(proof.prefix_exact and proof.branch is BranchMethod.RESTORE for proof in proofs)
