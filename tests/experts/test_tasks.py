"""Tasks with an instruction of their own, and tasks that no test of FailSafe covers."""

import dataclasses
import pickle

import numpy as np
import pytest

import failsafe as fs
from failsafe.datasets.store import Dataset
from failsafe.errors import UserError
from failsafe.experts.own_step import TaskLoader, compare_own_step
from failsafe.experts.tasks import Task, task_code
from failsafe.experts.toy import ToyPickExpert
from failsafe.simulators.conformance import check_simulator
from failsafe.simulators.contract import EpisodeSpec, Exactness, StepComparison
from failsafe.simulators.instructed import InstructedSimulator
from failsafe.simulators.toy import ToyPick

WRONG = "ManiSkill's own env.step and FailSafe's adapter differ from seed 0 ('plate' from step 1 on, by 2 m)"


class Silent(ToyPick):
    """States no instruction."""

    @property
    def episode(self) -> EpisodeSpec:
        return dataclasses.replace(super().episode, instruction="")


class Unchecked(ToyPick):
    """A user's task, as an adapter sees it."""

    difference = ""

    def __init__(self):
        super().__init__()
        self._spec = dataclasses.replace(self._spec, checked=False)
        self.compared = []

    def compare_with_own_step(self, seed, commands):
        self.compared.append((seed, np.array(commands)))
        return StepComparison(len(commands), self.difference)


class Different(Unchecked):
    difference = WRONG


def generate(simulator, out):
    task = Task(simulator, ToyPickExpert(), "mine")
    return fs.generate(task, modes=["object_dropped"], failures=1, labels=1, verify_rollouts=1, out=out)


def test_the_instruction_of_the_task_takes_precedence(tmp_path):
    task = Task(ToyPick(), ToyPickExpert(), "mine", instruction="Take it. Then hold it.")
    assert task.simulator.reset(3).instruction == "Take it. Then hold it."
    assert task.simulator.episode.seed == 3
    renamed = dataclasses.replace(task, name="other")
    assert renamed.simulator is task.simulator  # not within another one
    data = fs.generate(task, modes=["object_dropped"], failures=1, labels=1, verify_rollouts=1, out=tmp_path)
    assert {case.instruction for case in data.cases()} == {"Take it. Then hold it."}
    assert pickle.loads(pickle.dumps(task)).simulator.episode.instruction == "Take it. Then hold it."


def test_a_simulator_with_another_instruction_conforms():
    assert check_simulator(lambda: InstructedSimulator(ToyPick(), "take it")).failed == ()


def test_without_an_instruction_a_task_keeps_that_of_its_simulator():
    simulator = ToyPick()
    assert Task(simulator, ToyPickExpert()).simulator is simulator


def test_a_task_without_any_instruction_is_refused():
    with pytest.raises(UserError, match=r"task 'mine' has no instruction: give Task\(..., instruction="):
        Task(Silent(), ToyPickExpert(), "mine")
    assert Task(Silent(), ToyPickExpert(), "mine", "lift").simulator.episode.instruction == "lift"


def test_a_task_that_no_test_covers_is_compared_once(tmp_path):
    simulator = Unchecked()
    generate(simulator, tmp_path)
    ((seed, commands),) = simulator.compared
    assert seed == 0
    assert len(commands) > 40  # the expert's rollout
    loader = TaskLoader({"mine": Task(simulator, ToyPickExpert())})
    assert loader.load("mine", 3) is loader.load("mine", 4)
    assert [seed for seed, _ in simulator.compared] == [0, 3]


def test_a_task_that_differs_writes_no_data(tmp_path):
    with pytest.raises(UserError) as raised:
        generate(Different(), tmp_path)
    assert str(raised.value).startswith("task 'mine' would give wrong data: over ")
    assert str(raised.value).endswith(f"control steps, {WRONG}")
    assert not list(Dataset(tmp_path).case_files())
    assert not list(Dataset(tmp_path).nominal_files())


def test_a_simulator_without_another_step_has_nothing_to_compare():
    assert compare_own_step(Task(ToyPick(), ToyPickExpert()), 0) is None


def test_a_task_with_values_of_its_own_is_never_restored(monkeypatch, tmp_path):
    def restore(state):
        raise AssertionError("restored")

    simulator = Unchecked()
    simulator._spec = dataclasses.replace(simulator._spec, exactness=Exactness.REPLAY)
    monkeypatch.setattr(simulator, "restore", restore)
    data = generate(simulator, tmp_path)
    assert any(case.verified for case in data.cases())


class UsersExpert(ToyPickExpert):
    pass


def test_the_code_of_a_task_with_an_instruction_is_that_of_its_simulator():
    plain, told = (Task(Unchecked(), UsersExpert(), "mine", words) for words in ("", "Hold it up."))
    assert "tests.experts.test_tasks.Unchecked" in task_code(plain)
    assert task_code(told) == task_code(plain)
    assert task_code(Task(ToyPick(), ToyPickExpert(), "mine", "Hold it up.")) == ""


def test_mining_compares_too(tmp_path):
    with pytest.raises(UserError, match="would give wrong data"):
        fs.mine(
            "tests.mining.scripted:Still",
            tasks=Task(Different(), ToyPickExpert(), "mine"),
            episodes=1,
            max_steps=3,
            labels=1,
            out=tmp_path,
            executor="serial",
        )
    assert not list(Dataset(tmp_path).nominal_files())
