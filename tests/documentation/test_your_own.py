"""The page about a task of one's own: its commands run with small numbers, in an empty folder."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from tests.documentation.markdown import ROOT, SHELLS, blocks, commands_in

PAGE = ROOT / "docs" / "your-own.md"
SMALLER = {
    "check-task": {"--seeds": "0:1"},
    "generate": {"--failures": "8", "--labels": "1", "--executor": "serial"},
    "samples": {"--executor": "serial"},
    "train": {"--steps": "2", "--batch": "4"},
    "score": {"--resamples": "10"},
    "calibrate": {"--seeds": "800000:800002", "--alpha": "0.5", "--max-steps": "120", "--executor": "serial"},
    "evaluate": {"--seeds": "5000:5001", "--videos": "0", "--max-steps": "120", "--executor": "serial"},
}
"""Options of the page's commands that only cost time or certainty, and what takes their place."""
RUN = """
import contextlib, io, json, sys
from failsafe.cli.main import main

for command in json.load(open("steps.json")):
    printed = io.StringIO()
    sys.argv = command
    with contextlib.redirect_stdout(printed):
        try:
            main()
        except SystemExit as end:
            # 3: the monitor asked for help in some episode, which is a result like any other.
            assert end.code in (None, 0) or (command[1], end.code) == ("evaluate", 3), (command, end.code)
    print(json.dumps([command, printed.getvalue()]))
"""
"""One process for all steps: importing the simulator takes longer than most of them."""


def smaller(command: list[str]) -> list[str]:
    """Return a command with small numbers."""
    words = list(command)
    for option, value in SMALLER.get(command[1], {}).items():
        if option in words:
            words[words.index(option) + 1] = value
        else:
            words += [option, value]
    return words


@pytest.mark.maniskill
@pytest.mark.render
@pytest.mark.slow
def test_the_page_is_run_from_the_top_to_the_table(tmp_path):
    written = [command for block in blocks(PAGE, *SHELLS) for command in commands_in(block.code)]
    assert [command[1] for command in written] == list(SMALLER), "from the task to the table"
    steps = [smaller(command) for command in written]
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(printed) == len(steps)
    assert "Put the red cube into the blue bin" in printed[0][1], "the task is checked first"
    table = printed[-1][1]
    for condition in ("never", "monitor", "assist"):
        assert re.search(rf"\b{condition}\b", table), table
    log = (tmp_path / "out" / "model" / "log.jsonl").read_text().splitlines()
    columns = set(json.loads(log[-1])) - {"format", "validation"}
    columns |= {f"validation.{name}" for name in json.loads(log[-1])["validation"]}
    documented = set(re.findall(r"`([a-z_.]+)`(?=[^\n|]*\|)", PAGE.read_text()))
    assert columns <= documented, "the page says what each column of the log means"
