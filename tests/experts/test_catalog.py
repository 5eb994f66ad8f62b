"""`failsafe tasks`: what is known about each task without making it."""

import json

import pytest

from failsafe.cli.tasks import tasks
from failsafe.errors import UnknownNameError, UserError
from failsafe.experts.catalog import describe_tasks
from failsafe.experts.tasks import check_task
from failsafe.simulators.suites import SIMULATORS, LiberoSuite, MetaWorldSuite


def test_the_toy_has_instructions_and_experts():
    found = {task.name: task for task in describe_tasks("toy")}
    push = found["ToyPush-v0"]
    assert (push.simulator, push.expert, push.missing) == ("toy", "toy", "")
    assert push.instruction == "push the box onto the goal region"
    assert push.successes is None


def test_the_list_is_printed_and_read_as_json(capsys):
    assert tasks(simulator="toy", json=True) == 0
    assert {t["name"] for t in json.loads(capsys.readouterr().out)["tasks"]} >= {"ToyPick-v0", "ToyStack-v0"}
    assert tasks(simulator="toy") == 0
    assert "ToyPick-v0   toy" in capsys.readouterr().out


def test_an_unknown_simulator_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'metaworld'"):
        describe_tasks("metawrld")


def test_a_suite_that_is_not_installed_names_its_extra(monkeypatch):
    with monkeypatch.context() as missing:
        missing.setattr("importlib.util.find_spec", lambda name: None)
        requirement = MetaWorldSuite().requirement
    assert requirement == "pip install 'failsafe-vla[metaworld]'"
    monkeypatch.setattr(SIMULATORS["metaworld"], "requirement", requirement)
    with pytest.raises(UserError, match=r"expected metaworld to be installed, .*failsafe-vla\[metaworld\]"):
        describe_tasks("metaworld")
    for name in ("metaworld/reach-v3", "metaworld"):
        with pytest.raises(UserError, match=rf"metaworld to be installed for '{name}', .*vla\[metaworld\]'$"):
            check_task(name)


def test_a_suite_with_a_part_missing_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "numba" else name)
    assert MetaWorldSuite().requirement == ""
    libero = LiberoSuite()
    assert libero.requirement == "pip install 'failsafe-vla[libero]'"
    assert (libero.tasks(), libero.has("libero_goal/3")) == ([], False)


@pytest.mark.metaworld
def test_every_task_of_meta_world_has_a_measured_expert(capsys):
    pytest.importorskip("metaworld")
    found = describe_tasks("metaworld")
    assert len(found) == 50
    assert all(task.expert == "metaworld" and task.seeds >= 50 and task.instruction for task in found)
    solved = [task for task in found if task.successes is not None and task.successes >= 0.9 * task.seeds]
    assert len(solved) >= 42
    cautions = {task.name: task.caution for task in found if task.caution}
    assert cautions["metaworld/lever-pull-v3"] == "the lever goes on past the accepted angle"
    assert len(cautions) == 5
    assert cautions.keys().isdisjoint(task.name for task in solved)
    tasks(simulator="metaworld")
    assert "pull the lever up (hard to judge at rest: the lever goes on past" in capsys.readouterr().out
