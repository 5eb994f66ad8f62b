"""`failsafe check-task` says what is wrong with a task before a long run, and how well its expert does."""

import json

import pytest
from tests.experts.test_tasks import Different

import failsafe as fs
from failsafe.cli.check_task import check_task
from failsafe.errors import PlanError, UserError
from failsafe.experts.toy import ToyPickExpert
from failsafe.simulators.toy import ToyPick


class Helpless:
    """An expert that finds no plan."""

    def solve(self, runner):
        raise PlanError("no way")


def helpless():
    return fs.Task(ToyPick(), Helpless(), instruction="try")


def different():
    return fs.Task(Different(), ToyPickExpert())


def test_a_good_task_is_ready(capsys, tmp_path):
    assert check_task("ToyPick-v0", out=tmp_path, seeds="0:4") == 0
    out = capsys.readouterr().out
    assert "instruction  pick up the box and hold it at the goal" in out
    assert "box (movable, 72 x 40 x 50 mm); goal (goal, " in out
    assert "solves 4 of 4 initial states" in out
    assert "front, side, hand" in out
    assert "recovered by" in out
    assert out.rstrip().endswith("ToyPick-v0: ready for a long run")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") == 5  # three cameras, the failure, the recovery
    assert "Ready for a long run." in page


def test_an_expert_that_fails_is_a_problem(capsys):
    assert check_task("tests.cli.test_check_task:helpless", seeds="0:2", json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == [
        "the expert solves 0 of 2 initial states (seed 0: planner: no way): give the task a better expert"
    ]
    assert found["found"]["instruction"] == "try"


def test_a_task_that_differs_from_its_simulators_step_is_a_problem(capsys):
    assert check_task("tests.cli.test_check_task:different", seeds="0:1") == 1
    out = capsys.readouterr().out
    assert "own step     differs, see below" in out
    assert "control steps, ManiSkill's own env.step and FailSafe's adapter differ" in out


def test_no_seeds_is_an_error():
    with pytest.raises(UserError, match="at least one seed"):
        fs.check_task("ToyPick-v0", seeds=range(0))
