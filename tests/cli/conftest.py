from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from failsafe.cli.main import main

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verb:
    """Runs `failsafe WORDS`: exit status, standard output and standard error."""

    def command(*description: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["failsafe", *description])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return command


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the toy with three verified failures, which no test may change."""
    from failsafe.cli.execution import Execution
    from failsafe.cli.generate import generate

    folder = tmp_path_factory.mktemp("verbs") / "data"
    modes = "object_dropped,translation_x"
    one = Execution(workers=1)
    generate(("ToyPick-v0",), out=folder, failures=3, labels=1, verify_rollouts=1, modes=modes, execution=one)
    return folder
