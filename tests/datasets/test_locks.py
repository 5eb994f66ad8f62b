"""Only one process writes to a folder, and a file system without locks is not taken for another process."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from failsafe.datasets.files import LOCK
from failsafe.datasets.locks import LOCK_FOLDER, locked
from failsafe.errors import StoreError


def test_the_message_names_the_process_that_holds_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(StoreError) as refused, locked(tmp_path):
        pass
    assert f"another process (process {os.getpid()}) is at work" in str(refused.value)
    with locked(tmp_path):
        pass  # and it is free again
    assert (tmp_path / LOCK).read_bytes() == b""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_with_two_ways_on(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(StoreError) as refused, locked(tmp_path / "data"):
        pass
    assert "another process" not in str(refused.value)
    for part in (os.strerror(number), f"error {number}", "local disk", LOCK_FOLDER):
        assert part in str(refused.value)


def test_locks_can_be_kept_on_a_local_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOCK_FOLDER, str(tmp_path / "locks"))
    with locked(tmp_path / "data"):
        assert not (tmp_path / "data" / LOCK).exists()
        assert len(list((tmp_path / "locks").iterdir())) == 1
        with pytest.raises(StoreError, match="another process"), locked(tmp_path / "locks" / ".." / "data"):
            pass
        with locked(tmp_path / "other"):
            pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / LOCK).symlink_to(tmp_path / "target")
    with (
        pytest.raises(StoreError, match="links out of a dataset are not followed"),
        locked(tmp_path / "data"),
    ):
        pass
    assert (tmp_path / "target").read_bytes() == b"kept"


def test_a_script_without_a_guard_is_told_to_have_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import failsafe as fs\n"
        f"fs.generate('ToyPick-v0', failures=1, labels=1, verify_rollouts=1, out={str(tmp_path / 'data')!r}, "
        "workers=2)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1, "that of the script, and none of its workers"
    assert 'put its calls under `if __name__ == "__main__":`' in done.stderr
    assert "another process" not in done.stderr
