"""The public API, as the README and the design write it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from tests.evaluation.toy_study import Replayer, TinyMonitor

import failsafe as fs
from failsafe.errors import UserError
from failsafe.monitors.calibration import Calibration, Threshold, write_calibration

FEW = {"failures": 3, "labels": 1, "verify_rollouts": 1, "workers": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> fs.Dataset:
    folder = tmp_path_factory.mktemp("api") / "data"
    return fs.generate("ToyPick-v0", out=folder, modes=["object_dropped", "translation_x"], **FEW)


def test_importing_takes_no_dependency_and_no_time() -> None:
    code = (
        "import time, sys; before = time.process_time(); import failsafe; "
        "print(time.process_time() - before, 'numpy' in sys.modules)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    assert min(float(line.split()[0]) for line in runs) < 0.05
    assert runs[0].split()[1] == "False", "numpy is not imported"


def test_every_public_name_is_listed_imported_for_type_checkers_and_documented() -> None:
    source = Path(inspect.getfile(fs)).read_text()
    typed = {
        alias.name
        for block in ast.walk(ast.parse(source))
        if isinstance(block, ast.If)
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert typed == set(fs.__all__)
    assert set(fs.__all__) <= set(dir(fs))
    for name in fs.__all__:
        found = getattr(fs, name)
        assert found.__name__ == name
        assert inspect.getdoc(found), name
        if inspect.isfunction(found):
            assert "Args:" in (found.__doc__ or ""), name
    with pytest.raises(AttributeError, match="no attribute 'generat'"):
        _ = fs.generat


def test_generate_makes_a_dataset_and_resumes(data: fs.Dataset) -> None:
    cases = [case.case_id for case in data.cases()]
    assert sum(case.verified for case in data.cases()) >= 3
    seen = []
    again = fs.generate(
        "ToyPick-v0",
        out=str(data.path),
        modes=["object_dropped", "translation_x"],
        on_progress=seen.append,
        **FEW,
    )
    assert [case.case_id for case in again.cases()] == cases
    assert all(progress.resumed for progress in seen)
    assert [case.case_id for case in fs.open_dataset(str(data.path)).cases()] == cases


def test_what_generate_refuses(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"steps of 1"):
        fs.generate("ToyPick-v0", out=tmp_path, seeds=range(0, 10, 2))
    with pytest.raises(UserError, match="did you mean 'slip'"):
        fs.generate("ToyPick-v0", out=tmp_path, modes=["slop"])
    with pytest.raises(UserError, match=r"which has no manifest\.json"):
        fs.open_dataset(tmp_path)


def test_guard_makes_a_policy_like_any_other(tmp_path: Path) -> None:
    policy = fs.guard(Replayer(), TinyMonitor(), threshold=0.5)
    assert isinstance(policy, fs.Policy)
    assert policy.name == "replayer + tiny"
    path = tmp_path / "thresholds.json"
    thresholds = {"pick up the box": Threshold(0.7, 40)}
    write_calibration(path, Calibration(0.05, "tiny", "replayer", 1.5, thresholds))
    assert fs.guard(Replayer(), TinyMonitor(), calibration=path).name == "replayer + tiny"
    with pytest.raises(UserError, match=r"expected settings with drift=1\.5"):
        fs.guard(Replayer(), TinyMonitor(), calibration=path, settings=fs.MonitorSettings())
    with pytest.raises(UserError, match="got both"):
        fs.guard(Replayer(), TinyMonitor(), calibration=path, threshold=1.0)
    with pytest.raises(UserError, match="expected thresholds for replayer with the model tiny, got none"):
        fs.guard(Replayer(), TinyMonitor())


def test_the_shipped_model_guards_a_shipped_policy_without_more_words() -> None:
    policy = fs.guard("reference:weak")
    assert set(policy.views) >= {"front", "hand"}
    assert policy.action_space.chunk == 1
    with pytest.raises(UserError, match="expected thresholds for"):  # the weights of an object are unknown
        fs.guard("reference:weak", fs.load_model("compact"))
