"""Output that cannot be written, terminals of other encodings, a deleted working directory: no traceback."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from failsafe.cli.main import PIPE_CLOSED
from failsafe.cli.streams import LONGEST, _Output, _print_bug, printable

FAILSAFE = (sys.executable, "-m", "failsafe")


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def run(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*FAILSAFE, *map(str, words)], **{"stderr": subprocess.PIPE, "stdout": subprocess.PIPE} | options
    )


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_verbs_work_in_a_locale_that_is_not_utf_8(encoding: str, copy: Path) -> None:
    # Neither coercion to UTF-8: files are then read in the encoding of the locale unless another is stated.
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding}
    name = copy.parent / "\u673a\u5668\u4eba"
    copy.rename(name)
    done = run("coverage", name, env={**os.environ, **plain})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"page: " in done.stdout
    done = run("coverage", name / "none", env={**os.environ, **plain})
    assert done.returncode == 2
    assert done.stderr.startswith(b"failsafe: expected a dataset made by")


def test_a_reader_that_has_gone_is_no_error(copy: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run("coverage", copy, stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (PIPE_CLOSED, b"")


def test_a_reader_that_takes_one_line_gets_it(copy: Path) -> None:
    line = f"set -o pipefail; {' '.join(FAILSAFE)} coverage {copy} --json | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True)
    assert done.stdout == b"{\n"
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_output_to_a_full_device_is_one_sentence(copy: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run("coverage", copy, stdout=full)
        assert done.returncode == 2
        assert done.stderr.decode().startswith(
            "failsafe: could not write the output ([Errno 28] No space left"
        )
        assert len(done.stderr.splitlines()) == 1
        # What is said beside the result is lost, and the result is not.
        done = run("coverage", copy, "--json", stderr=full)
        assert done.returncode == 0
        done = run("coverage", copy / "none", stderr=full)
        assert done.returncode == 2


def test_a_working_directory_that_was_deleted_is_one_sentence(copy: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()

    line = f"cd {gone} && rmdir {gone} && exec {' '.join(FAILSAFE)}"
    # Not `python -m failsafe`, which Python itself refuses there.
    line = line.replace("-m failsafe", "-c 'from failsafe.cli import main; main()'")
    done = subprocess.run(["bash", "-c", f"{line} coverage {copy}"], capture_output=True)
    assert done.returncode == 2
    said = done.stderr.decode().splitlines()
    assert len(said) == 1
    assert "expected a working directory that exists, got one that was deleted" in said[0]
    done = subprocess.run(["bash", "-c", f"mkdir {gone}; {line} --help"], capture_output=True)
    assert done.returncode == 0


def test_a_message_shows_control_characters_and_ends() -> None:
    assert printable("a\x1b[2Jb\nc\u202e\x9b") == "a\\x1b[2Jb\\nc\\u202e\\x9b"
    assert printable("caf\u00e9 \u673a \U0001f916") == "caf\u00e9 \u673a \U0001f916"
    assert printable("x" * (LONGEST + 1)) == "x" * LONGEST + f" ... ({LONGEST + 1} characters)"


def test_standard_output_shows_control_characters() -> None:
    raw = io.BytesIO()
    output = _Output(raw, "utf-8")
    print("a\x1b[2J\u202eb\r\nc\td \u673a\x9b", file=output)
    output.flush()
    assert raw.getvalue() == "a\\x1b[2J\\u202eb\\r\nc\td \u673a\\x9b\n".encode()


def test_the_traceback_of_a_bug_shows_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    _print_bug(ValueError, ValueError("\x1b[2Jhello"), None)
    assert capsys.readouterr().err == "ValueError: \\x1b[2Jhello\n\n"
