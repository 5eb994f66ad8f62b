"""Work for processes that may die: one costs its item only, and a bug is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.execution.jobs import Marks

from failsafe.errors import FailSafeError
from failsafe.execution.processes import ProcessExecutor


def test_a_process_that_dies_costs_its_item_only(tmp_path: Path) -> None:
    job, done = Marks(tmp_path), list[str]()
    items = ["first", "dies", "dies once", "last"]
    ProcessExecutor(2).run(job, items, done.append)
    assert sorted(done) == sorted(items)
    assert job.marks("done") == ["dies once", "first", "last"]
    assert job.marks("given-up") == ["dies"]
    assert job.marks("try1") == ["dies", "dies once"], "tried twice each"
    assert job.marks("try2") == [], "and not a third time"


def test_what_is_left_of_an_item_that_was_given_up_is_done(tmp_path: Path) -> None:
    job, done = Marks(tmp_path), list[str]()
    ProcessExecutor(1).run(job, ["dies in parts", "last"], done.append)
    assert sorted(done) == ["dies in parts", "last"], "each is reported once"
    assert len(job.marks("given-up")) == 3
    assert len(list(tmp_path.glob("dies in parts.try*"))) == 6, "two tries for each part"


def test_a_part_that_kills_two_processes_is_given_up_and_the_others_are_done(tmp_path: Path) -> None:
    job, done, messages = Marks(tmp_path), list[str](), list[str]()
    ProcessExecutor(2).run(job, ["in parts", "last"], done.append, messages.append)
    assert sorted(done) == ["in parts", "last"], "each is reported once"
    assert job.marks("given-up") == ["in parts-two"]
    assert messages == ["one is done", "two is done", "three is done"], "what was done is not done again"


def test_processes_that_die_before_they_begin_stop_the_work(tmp_path: Path) -> None:
    (tmp_path / "stillborn").touch()
    with pytest.raises(
        FailSafeError, match="2 workers died before they had started, the last one with exit status 1"
    ):
        ProcessExecutor(1).run(Marks(tmp_path), ["first", "last"])
    assert Marks(tmp_path).marks("given-up") == [], "no item is blamed"


def test_what_an_item_raises_on_purpose_is_its_sentence(tmp_path: Path) -> None:
    with pytest.raises(FailSafeError) as caught:
        ProcessExecutor(1).run(Marks(tmp_path), ["unknown"])
    assert str(caught.value) == "unknown task 'Pick'. There are: Push."


def test_a_bug_is_shown_with_its_traceback_and_not_retried(tmp_path: Path) -> None:
    job = Marks(tmp_path)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug") as caught:
        ProcessExecutor(1).run(job, ["bug", "last"])
    assert "jobs.py" in str(caught.value)
    assert not isinstance(caught.value, FailSafeError)
    assert job.marks("try0") == ["bug"]


def test_no_items_are_no_work(tmp_path: Path) -> None:
    ProcessExecutor(3).run(Marks(tmp_path), [])
    assert list(tmp_path.iterdir()) == []
