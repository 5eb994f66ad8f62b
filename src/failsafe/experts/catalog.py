"""The tasks of this machine, with what is known about each: `failsafe tasks`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from failsafe.errors import UnknownNameError, UserError
from failsafe.experts.suites import EXPERTS
from failsafe.simulators.suites import SIMULATORS

_RATES = Path(__file__).with_name("success_rates.json")
"""Successes at rest and seeds tried, by task. docs/experts.md says how they were measured."""


@dataclass(frozen=True)
class TaskDescription:
    """What is known about a task without making it.

    Attributes:
        name: Name of the task.
        simulator: Name of its simulator.
        instruction: What the robot is told to do; empty if that is not known before an episode begins.
        expert: Name of its expert; empty if it has none.
        successes: Seeds that the expert solved, None if it was not measured.
        seeds: Seeds that it was measured on.
        missing: What has to be done before the task can be made, for example a command that downloads its
            assets; empty if it can be made.
        caution: Why it can hardly be judged at rest; empty if it can.
    """

    name: str
    simulator: str
    instruction: str
    expert: str
    successes: int | None
    seeds: int
    missing: str
    caution: str = ""


def describe_tasks(simulator: str | None = None) -> list[TaskDescription]:
    """Describe every task of the simulators that are installed.

    Args:
        simulator: Name of one simulator; None: all of them.

    Raises:
        UnknownNameError: If there is no simulator of that name.
        UserError: If it is not installed. The message says how to install it.
    """
    if simulator is not None:
        if simulator not in SIMULATORS:
            raise UnknownNameError("simulator", simulator, SIMULATORS)
        if requirement := SIMULATORS[simulator].requirement:
            raise UserError(
                f"expected {simulator} to be installed, got an environment without it: {requirement}"
            )
    rates: dict[str, list[int]] = json.loads(_RATES.read_text(encoding="utf-8"))
    solvers = {task: name for name, suite in reversed(list(EXPERTS.items())) for task in suite.tasks()}
    found: list[TaskDescription] = []
    for name in [simulator] if simulator is not None else list(SIMULATORS):
        suite = SIMULATORS[name]
        for task in suite.tasks():
            successes, seeds = rates.get(task, (None, 0))
            found.append(
                TaskDescription(
                    task,
                    name,
                    suite.instruction(task),
                    solvers.get(task, ""),
                    successes,
                    seeds,
                    _missing(name, task),
                    suite.caution(task),
                )
            )
    return found


def _missing(simulator: str, task: str) -> str:
    try:
        SIMULATORS[simulator].check(task)
    except UserError as error:
        return str(error)
    return ""
