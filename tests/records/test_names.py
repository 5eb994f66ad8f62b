"""Names of tasks as names of folders and columns, and ids that can be nothing but names of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from failsafe.errors import RecordError
from failsafe.records.names import check_id, check_seed, folder_name, short_names, task_folder


@pytest.mark.parametrize("task", ["PickCube-v1", "ToyPick-v0", "my_task", "a.b-c+1"])
def test_a_name_that_can_be_a_folder_is_one(task: str) -> None:
    assert folder_name(task) == task
    assert short_names([task]) == {task: task}


@pytest.mark.parametrize(
    ("task", "short"),
    [
        ("my_tasks.bin:make", "bin.make"),
        ("bin:make", "bin.make"),
        ("bin:Bin.make", "bin.Bin.make"),
        ("../goal/4", "goal-4"),
        ("a//b", "a-b"),
        ("../../etc:x", "etc.x"),
        ("\u673a", "task"),
        (".hidden", "hidden"),
        ("x" * 300, "x" * 60),
    ],
)
def test_another_name_becomes_a_short_one_and_a_folder_with_a_digest(task: str, short: str) -> None:
    assert short_names([task]) == {task: short}
    name = folder_name(task)
    assert name.startswith(f"{short}-")
    assert len(name) == len(short) + 9
    assert not set(name) & set(":/\\ ")


@pytest.mark.parametrize("task", ["libero_goal/4", "metaworld/drawer-open-v3"])
def test_a_task_of_a_suite_is_shown_by_its_name(task: str) -> None:
    assert short_names([task]) == {task: task}
    assert folder_name(task).startswith(task.replace("/", "-") + "-")


def test_different_tasks_have_different_folders_and_short_names() -> None:
    tasks = ["a.bin:make", "b.bin:make", "bin.make", "a:b", "a-b", "a/b", "c.own:make"]
    assert len({folder_name(task) for task in tasks}) == len(tasks)
    short = short_names(tasks)
    assert len(set(short.values())) == len(tasks)
    assert short["c.own:make"] == "own.make"
    assert short["a.bin:make"] == folder_name("a.bin:make"), "there are three of the name bin.make"


def test_the_folder_of_an_earlier_version_is_used_where_it_exists(tmp_path: Path) -> None:
    assert task_folder(tmp_path, "own:make") == tmp_path / folder_name("own:make")
    (tmp_path / "own:make").mkdir()
    assert task_folder(tmp_path, "own:make") == tmp_path / "own:make"
    assert task_folder(tmp_path, "../own:make").parent == tmp_path


@pytest.mark.parametrize(
    "text", ["PickCube-v1-000012-0123456789", "own:make-000012-0123456789", "recovery_0"]
)
def test_ids_of_every_version_are_accepted(text: str) -> None:
    check_id("an id", text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "a b", "\u673a", "x" * 300, "-x"],
)
def test_what_could_be_another_path_is_no_id(text: str) -> None:
    with pytest.raises(RecordError, match="expected an id of at most 180 letters"):
        check_id("an id", text)


@pytest.mark.parametrize("seed", [-1, 10**300])
def test_a_seed_that_is_none_is_refused(seed: int) -> None:
    with pytest.raises(RecordError, match="expected a seed from 0"):
        check_seed(seed)
