"""An installed package adds one entry of every kind, and the command line uses each with several workers."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from failsafe import registry
from failsafe.datasets.store import Dataset
from failsafe.evaluation.results import Results
from failsafe.records.event import EventKind

HERE = Path(__file__).parent
TASKS = ("plugin_task", "PluginPick-v0")
WORKERS = ("--executor", "plugin_executor", "--workers", "2", "--json")
USED = {"failsafe-plugin": "0.3"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package as pip installs it: its module, and the metadata of the distribution."""
    folder = tmp_path_factory.mktemp("site-packages")
    shutil.copy(HERE / "failsafe_plugin.py", folder)
    info = folder / "failsafe_plugin-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: failsafe-plugin\nVersion: 0.3\n")
    shutil.copy(HERE / "entry_points.txt", info)
    return folder


@pytest.fixture
def python(installed, tmp_path):
    def run(*words):
        path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, *words],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_the_plugin_adds_one_entry_of_every_kind():
    points = configparser.ConfigParser()
    points.read(HERE / "entry_points.txt")
    assert points.sections() == [kind.group for kind in registry.KINDS.values()]


@pytest.mark.slow
def test_generate_with_a_plugin(python, tmp_path):
    words = ("--failures", "2", "--labels", "1", "--verify-rollouts", "1", "--compound", "0")
    command = ("generate", *TASKS, "--modes", "plugin_mode", *words, *WORKERS, "--out", "data")
    done = python("-m", "failsafe", *command)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "executor.txt").read_text() == "2 workers"
    dataset = Dataset(tmp_path / "data")
    assert manifest_of(dataset.path)["provenance"]["plugins"] == USED
    failures = [case for case in dataset.cases() if case.verified]
    assert {case.task for case in failures} == set(TASKS)
    assert {p.mode for case in failures for p in case.perturbations} == {"plugin_mode"}

    export = ("export", "data", "--format", "plugin_exporter", "--out", "cases.json")
    done = python("-m", "failsafe", *export)
    assert done.returncode == 0, done.stderr
    exported = json.loads((tmp_path / "cases.json").read_text())
    assert sorted(exported) == sorted(case.case_id for case in dataset.cases())

    case = next(c for c in failures if c.task == "plugin_task")
    for command in (("generate", "--manifest", "data", "--out", "again"), ("replay", "data", case.case_id)):
        without = subprocess.run(
            [sys.executable, "-m", "failsafe", *command], cwd=tmp_path, capture_output=True, text=True
        )
        assert without.returncode == 2
        assert "made with plugins that are not installed (failsafe-plugin==0.3)" in without.stderr
        assert "unknown" in without.stderr


@pytest.mark.slow
def test_evaluate_with_a_plugin(python, tmp_path):
    scenarios = ("--scenarios", "nominal,plugin_scenario", "--conditions", "monitor,plugin_condition")
    parts = ("--policy", "plugin_policy", "--monitor", "plugin_model", "--tasks", ",".join(TASKS))
    words = ("--seeds", "0:1", "--max-steps", "20", "--threshold", "0", "--videos", "0")
    done = python("-m", "failsafe", "evaluate", *parts, *scenarios, *words, *WORKERS, "--out", "results")
    assert done.returncode in (0, 3), done.stderr
    results = Results(tmp_path / "results")
    manifest = manifest_of(results.path)
    assert manifest["provenance"]["plugins"] == USED
    identified = manifest["config"]["weights"]
    assert re.fullmatch(r"failsafe-plugin 0\.3 [0-9a-f]{64}", identified), "the version, and the sources"
    assert manifest["config"]["policy_weights"] == {"plugin_policy": identified}
    episodes = list(results.episodes())
    assert len(episodes) == 2 * 2 * 3
    assert {e.key.task for e in episodes} == set(TASKS)
    took_over = {
        name: any(
            event.kind is EventKind.TAKE_OVER
            for e in episodes
            if e.key.condition == name
            for event in e.events
        )
        for name in ("never", "monitor", "plugin_condition")
    }
    assert took_over == {"never": False, "monitor": True, "plugin_condition": False}
    rows = json.loads(done.stdout)["summary"]["rows"]
    assert [row["condition"] for row in rows if row["task"] == "plugin_task"] == [
        *("never", "monitor", "plugin_condition"),
        *("never", "monitor", "plugin_condition"),
    ]


@pytest.mark.slow
def test_names_of_plugins_are_suggested(python):
    cases = {
        "plugin_tsk": "unknown task 'plugin_tsk': did you mean 'plugin_task'?",
        "ToyPick-v0 --modes plugin_mod": "did you mean 'plugin_mode'?",
        "ToyPick-v0 --executor plugin_executer": "did you mean 'plugin_executor'?",
    }
    # One process for all: most of the time of each is that of its start.
    done = python("-c", _EACH, *(f"generate {words} --out data" for words in cases))
    assert done.returncode == 0, done.stderr
    for (words, sentence), said in zip(cases.items(), done.stderr.split(_END), strict=False):
        assert sentence in said, words
    assert done.stdout.split() == ["2", "2", "2"]


_END = "---- the next command"
_EACH = f"""
import sys
from failsafe.cli.main import main
for command in sys.argv[1:]:
    sys.argv = ["failsafe", *command.split()]
    try:
        main()
    except SystemExit as end:
        print(end.code)
    print({_END!r}, file=sys.stderr)
"""
