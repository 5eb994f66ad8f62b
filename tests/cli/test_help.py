"""Help is fast, and says of each verb what the verb's own help says."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from failsafe.cli.main import VERBS, verb_function

SLOW = ("scipy.stats", "torch", "transformers", "sapien", "mani_skill", "gymnasium", "websockets")
"""What takes more than a tenth of a second to import, and is imported where it is used."""
HEAVY = ("numpy", "scipy", "torch", "pyarrow", "PIL", "jaxtyping", "transformers", "sapien", "mani_skill")


@pytest.mark.parametrize("verb", VERBS)
def test_the_summary_of_a_verb_is_the_first_line_of_its_docstring(verb: str) -> None:
    assert (inspect.getdoc(verb_function(verb)) or "").splitlines()[0] == VERBS[verb]


@pytest.mark.parametrize("code", ["import failsafe", "import failsafe.cli"])
def test_importing_the_package_or_the_command_line_imports_nothing_heavy(code: str) -> None:
    loaded = f"{code}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_of_a_verb_imports_nothing_slow() -> None:
    code = (
        "import sys; from failsafe.cli.main import VERBS, verb_function\n"
        "for verb in VERBS: verb_function(verb)\n"
        f"print([m for m in {SLOW!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_lists_every_verb_without_importing_one() -> None:
    code = (
        "import sys, failsafe.cli; sys.argv = ['failsafe', '--help']\n"
        "try: failsafe.cli.main()\n"
        "finally: print([m for m in sys.modules if m.startswith('failsafe.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for verb in VERBS:
        assert f"• {verb} " in done.stdout
    expected = ["failsafe.cli", "failsafe.cli.main", "failsafe.cli.streams", "failsafe.errors"]
    assert sorted(eval(done.stdout.splitlines()[-1])) == expected
