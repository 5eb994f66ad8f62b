"""Everything that README and docs tell a reader to run exists, and their Python snippets run.

The snippets of a page run one after another in one process, in a folder with a small dataset `data/` and
thresholds `thresholds.json`; numbers that only cost time are made small. A block that cannot run as it stands
(it needs a server, say) has the line `<!-- test: parse -->` before it; then only its imports run.
"""

import contextlib
import io
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from tests.documentation.markdown import PAGES, ROOT, blocks, commands

from failsafe.cli.main import VERBS, main
from failsafe.monitors.calibration import THRESHOLDS

SMALLER = (
    (r"failures=\d+", "failures=1"),
    (r"episodes=\d+", "episodes=1"),
    (r"range\((\d+), \d+\)", r"range(\1, \1 + 1), max_steps=60"),
    # Each process that starts imports the simulator.
    (r"((?:failures|episodes|max_steps)=\d+)(?![^)]*executor=)", r'\1, executor="serial"'),
)
"""Numbers in snippets that only cost time, and what takes their place."""
PYTHON_PAGES = [page for page in PAGES if blocks(page, "python")]


def imports_of(code: str) -> str:
    """Return only the imports of a snippet."""
    return "\n".join(re.findall(r"^(?:from \S+ )?import (?:\([^)]*\)|.*)$", code, re.M))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small dataset, for snippets that read one."""
    folder = tmp_path_factory.mktemp("snippets") / "data"
    few = ("--failures", "1", "--labels", "1", "--verify-rollouts", "1", "--modes", "object_dropped")
    command = (sys.executable, "-m", "failsafe", "generate", "ToyPick-v0", *few, "--out", str(folder))
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


@pytest.mark.maniskill
@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, data, tmp_path):
    parts = [block.code if block.runs else imports_of(block.code) for block in blocks(page, "python")]
    code = "\n".join(parts)
    for pattern, smaller in SMALLER:
        code = re.sub(pattern, smaller, code)
    if "generate(" not in code:
        shutil.copytree(data, tmp_path / "data")
    shutil.copy(THRESHOLDS / "weak.json", tmp_path / "thresholds.json")
    # A script with a main guard: worker processes import it again.
    script = tmp_path / "snippet.py"
    body = "\n".join("    " + line for line in (code.strip() or "pass").splitlines())
    script.write_text(f"def main():\n{body}\n\n\nif __name__ == '__main__':\n    main()\n")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_compiles(page):
    for block in blocks(page, "python"):
        compile(block.code, page.name, "exec")


@cache
def flags(verb: str) -> frozenset[str]:
    """Return the flags that a verb's own help names."""
    out, argv = io.StringIO(), sys.argv
    sys.argv = ["failsafe", verb, "--help"]
    try:
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
            main()
    finally:
        sys.argv = argv
    return frozenset(re.findall(r"--[a-z][a-z0-9-]*", out.getvalue()))


def problem(command: list[str]) -> str:
    """Return what is wrong with a command of the documentation, empty if nothing is."""
    program, *rest = command
    if Path(program).name == "failsafe":
        verb = rest[0] if rest else "--help"
        if verb not in VERBS:
            return "" if verb in ("--help", "VERB", "...") else f"there is no verb '{verb}'"
        used = {word.partition("=")[0].strip("[](),.") for word in rest if word.startswith(("--", "[--"))}
        unknown = used - flags(verb) - {"--", "--trust"}  # the top-level help names --trust
        return f"`failsafe {verb}` has no {', '.join(sorted(unknown))}" if unknown else ""
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
        unknown = {word for word in rest if "=" not in word} - targets
        return f"make has no target {', '.join(sorted(unknown))}" if unknown else ""
    if Path(program).name in ("bash", "python", "python3"):
        ours = [word for word in rest if word.startswith(("scripts/", "benchmarks/", "examples/"))]
        if rest[:1] == ["-m"] and rest[1].startswith(("scripts.", "benchmarks.")):
            ours.append(f"{rest[1].replace('.', '/')}.py")
        missing = [word for word in ours if not (ROOT / word).is_file()]
        return f"there is no {', '.join(missing)}" if missing else ""
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page):
    found = {" ".join(command): problem(command) for command in commands(page)}
    assert {command: text for command, text in found.items() if text} == {}


def test_the_pages_have_commands_and_snippets():
    assert sum(len(commands(page)) for page in PAGES) > 20
    assert PYTHON_PAGES


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["failsafe", "generat", "X"], "there is no verb 'generat'"),
        (["failsafe", "generate", "--failure", "3"], "`failsafe generate` has no --failure"),
        (["failsafe", "generate", "--failures=3"], ""),
        (["make", "tost"], "make has no target tost"),
        (["bash", "scripts/none.sh"], "there is no scripts/none.sh"),
    ],
)
def test_a_wrong_command_is_found(command, expected):
    assert problem(command) == expected
