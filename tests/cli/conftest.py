from __future__ import annotations

from collections.abc import Callable

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
