"""The public API, as the README and the design write it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from tests.evaluation.toy_study import PICK, POLICY, Replayer, TinyMonitor, pick

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


def test_generate_takes_tasks_as_objects(data: fs.Dataset, tmp_path: Path) -> None:
    def unnamed() -> fs.Task:
        task = pick()
        return fs.Task(task.simulator, task.expert)

    modes = ["object_dropped", "translation_x"]
    made = fs.generate(unnamed(), out=tmp_path / "objects", modes=modes, **FEW)
    assert list(made.cases()) == list(data.cases())
    with pytest.raises(UserError, match="expected each task once"):
        fs.generate([unnamed(), "ToyPick-v0"], out=tmp_path / "twice", modes=modes, **FEW)


def test_what_generate_refuses(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"steps of 1"):
        fs.generate("ToyPick-v0", out=tmp_path, seeds=range(0, 10, 2))
    with pytest.raises(UserError, match="did you mean 'slip'"):
        fs.generate("ToyPick-v0", out=tmp_path, modes=["slop"])
    with pytest.raises(UserError, match=r"which has no manifest\.json"):
        fs.open_dataset(tmp_path)


def test_export_writes_a_dataset_with_an_exporter(data: fs.Dataset, tmp_path: Path) -> None:
    def write_names(dataset: fs.Dataset, out: Path) -> None:
        out.write_text(" ".join(case.case_id for case in dataset.cases()))

    assert fs.export(data, write_names, out=tmp_path / "names.txt") == {}
    assert (tmp_path / "names.txt").read_text().split() == [case.case_id for case in data.cases()]


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
    with pytest.raises(UserError, match="got those of compact-metaworld: use that model"):
        fs.guard("reference:metaworld")


EPISODES = {"max_steps": 140, "threshold": 0.0, "workers": 1}


def outcomes(results: fs.Results) -> dict[tuple[int, str], tuple[str, int]]:
    return {(e.key.seed, e.key.condition): (e.ending.value, e.steps) for e in results.episodes()}


def test_evaluate_runs_objects_in_this_process_as_it_runs_names(tmp_path: Path) -> None:
    names = fs.evaluate(
        POLICY, "tests.evaluation.toy_study:TinyMonitor", tasks=PICK, seeds=range(4), out=tmp_path / "names",
        executor="serial", **EPISODES,
    )  # fmt: skip
    task = fs.Task(pick().simulator, pick().expert, "pick")
    told = []
    objects = fs.evaluate(
        Replayer(), TinyMonitor(), tasks=task, seeds=range(4), out=tmp_path / "objects",
        on_progress=lambda done, total: told.append((done, total)), **EPISODES,
    )  # fmt: skip
    assert len(outcomes(names)) == 8
    assert outcomes(objects) == outcomes(names)
    assert told == [(done, 4) for done in range(5)]
    row = objects.summary().find("pick", "nominal", "replayer", "monitor")
    assert row is not None
    assert row.episodes == 4


def test_conditions_without_a_calibrated_threshold_need_none(tmp_path: Path) -> None:
    def run(*conditions: str) -> fs.Results:
        return fs.evaluate(
            Replayer(), TinyMonitor(), tasks=PICK, seeds=range(1), out=tmp_path / conditions[0],
            conditions=conditions, max_steps=140, workers=1,
        )  # fmt: skip

    assert len(outcomes(run("never"))) == 1
    assert len(outcomes(run("watch"))) == 1
    with pytest.raises(UserError, match="expected thresholds for replayer"):
        run("monitor")


def test_evaluate_resumes_and_refuses_the_results_of_another_class(tmp_path: Path) -> None:
    class Other(Replayer):
        pass

    def run(policy: fs.Policy, seeds: range = range(2)) -> fs.Results:
        return fs.evaluate(
            policy, TinyMonitor(), tasks=PICK, seeds=seeds, out=tmp_path, conditions=["never"], **EPISODES
        )

    first = {path: path.stat().st_mtime_ns for path in run(Replayer()).path.rglob("0*.json")}
    assert len(first) == 2
    assert {path: path.stat().st_mtime_ns for path in run(Replayer()).path.rglob("0*.json")} == first
    with pytest.raises(fs.FailSafeError, match="results of another evaluation"):
        run(Other())


def test_what_evaluate_refuses(tmp_path: Path) -> None:
    class NotPickled(Replayer):
        def __init__(self) -> None:
            self.callback = lambda: None

    def run(policy: object = POLICY, **options: object) -> None:
        settings = {"tasks": PICK, "seeds": range(2), "out": tmp_path / "out", "threshold": 0.0} | options
        fs.evaluate(policy, TinyMonitor(), **settings)  # pyright: ignore[reportArgumentType]

    with pytest.raises(UserError, match=r"that can be pickled.*use workers=1, or give names"):
        run(NotPickled(), workers=2)
    with pytest.raises(UserError, match="expected policies with different names, got 'replayer' twice"):
        run([Replayer(), Replayer()])
    with pytest.raises(UserError, match="steps of 1"):
        run(seeds=range(0, 4, 2))
    with pytest.raises(UserError, match=r"expected thresholds for .*Replayer with the model tiny, got none"):
        run(threshold=None)
    with pytest.raises(UserError, match=r"without assist.*choose the condition 'assist'"):
        run(settings=fs.MonitorSettings(assist=True))
    with pytest.raises(UserError, match="unknown condition 'asist': did you mean 'assist'"):
        run(conditions=["never", "asist"])


@pytest.mark.slow
def test_objects_travel_to_several_workers(tmp_path: Path) -> None:
    results = fs.evaluate(
        Replayer(), TinyMonitor(), tasks=PICK, seeds=range(2), out=tmp_path, max_steps=30, threshold=0.0,
        conditions=["never"], workers=2,
    )  # fmt: skip
    assert len(list(results.episodes())) == 2


def test_calibrate_stores_thresholds_that_guard_reads(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    found = fs.calibrate(
        Replayer(), TinyMonitor(), out=path, tasks=PICK, seeds=range(2, 12), max_steps=140, alpha=0.5
    )
    assert found.model == "tiny"
    assert found.policy == "replayer"
    assert found.thresholds["pick up the box and hold it at the goal"].episodes == 6
    assert fs.guard(Replayer(), TinyMonitor(), calibration=path).name == "replayer + tiny"


@pytest.mark.slow
@pytest.mark.maniskill
@pytest.mark.render
def test_the_design_example_with_what_ships(tmp_path: Path) -> None:
    results = fs.evaluate(
        "reference:weak", "compact", tasks="PickCube-v1", seeds=range(5000, 5001), out=tmp_path,
        executor="serial", max_steps=60,
    )  # fmt: skip
    assert {e.key.condition for e in results.episodes()} == {"never", "monitor"}
