"""The scripts that README and docs name, each in its quick variant (`FAILSAFE_QUICK=1`), and the example."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.documentation.markdown import ROOT, commands_in
from tests.documentation.test_snippets import flags, problem

SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))


def run(*command, **environment):
    """Run a command of the repository in its quick variant, and return what it prints."""
    folder = Path(sys.executable).parent.parent
    quick = {"FAILSAFE_QUICK": "1", "FAILSAFE_VENV": str(folder), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, **quick, **{name: str(value) for name, value in environment.items()}},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_uses_flags_that_exist(script):
    verb, unknown = "", []
    text = re.sub(r"(?m)^\s*#.*$", "", script.read_text()).replace("\\\n", " ")
    for line in text.splitlines():
        if found := re.search(r'bin/failsafe" ([a-z-]+)', line):
            verb = found[1]
            unknown += [flag for flag in re.findall(r"(?<=\s)--[a-z-]+", line) if flag not in flags(verb)]
    assert unknown == []
    problems = [problem(command) for command in commands_in(text)]
    assert [found for found in problems if found] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_bash(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.maniskill
@pytest.mark.render
@pytest.mark.long
def test_the_demo_runs(tmp_path):
    out = run("bash", "scripts/demo.sh", FAILSAFE_DEMO_OUT=tmp_path / "demo")
    pages = [Path(line.partition(":")[2].strip()) for line in out.splitlines() if line.startswith("Open the")]
    assert len(pages) == 3
    assert all(page.is_file() for page in pages)


@pytest.mark.maniskill
@pytest.mark.render
@pytest.mark.long
def test_the_study_runs(tmp_path):
    folders = {"FAILSAFE_STUDY_OUT": tmp_path / "study", "FAILSAFE_STUDY_TABLES": tmp_path / "tables"}
    run("bash", "scripts/study.sh", **folders)
    assert {path.suffix for path in (tmp_path / "tables").iterdir()} == {".md", ".parquet"}


@pytest.mark.maniskill
@pytest.mark.render
@pytest.mark.long
def test_the_reference_policies_are_made(tmp_path):
    run("bash", "scripts/policies.sh", tmp_path)
    made = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert made == {"weak.safetensors", "weak.json", "strong.safetensors"}


@pytest.mark.long
def test_a_compact_model_and_a_tiny_llava_are_made(tmp_path):
    run("bash", "scripts/compact.sh", FAILSAFE_COMPACT_OUT=tmp_path)
    assert (tmp_path / "run" / "compact.safetensors").is_file()
    assert {path.name for path in (tmp_path / "scores").iterdir()} == {"seven", "all", "left_out"}
    run(sys.executable, "scripts/tiny_llava.py", tmp_path / "samples" / "all", tmp_path / "tiny")
    assert (tmp_path / "tiny" / "config.json").is_file()


@pytest.mark.maniskill
@pytest.mark.render
@pytest.mark.long
def test_the_offline_test_set_is_made_and_scored(tmp_path):
    run("bash", "scripts/offline_test.sh", tmp_path)
    assert {path.name for path in (tmp_path / "scores").iterdir()} == {"seven_proof", "all_proof"}


@pytest.mark.long
@pytest.mark.metaworld
@pytest.mark.slow
def test_the_recipe_of_meta_world_runs(tmp_path):
    run("bash", "scripts/metaworld.sh", FAILSAFE_METAWORLD_OUT=tmp_path)
    assert (tmp_path / "model" / "compact.safetensors").is_file()
    assert (tmp_path / "proof" / "report.html").is_file()


@pytest.mark.maniskill
@pytest.mark.render
@pytest.mark.slow
def test_the_localizer_is_measured():
    few = ("--tasks", "PushCube-v1", "--seeds", "400200:400201", "--max-steps", "30")
    assert "| from the tool | queries |" in run(sys.executable, "scripts/localizer_error.py", *few)


@pytest.mark.maniskill
@pytest.mark.slow
def test_the_example_is_generated(tmp_path):
    few = ("--failures", "1", "--labels", "1", "--verify-rollouts", "1", "--out", tmp_path / "poke")
    run(sys.executable, "-m", "failsafe", "generate", "examples.poke_cube:make", *few)
    assert list((tmp_path / "poke").rglob("*.npz"))
