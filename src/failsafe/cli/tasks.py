"""`failsafe tasks`: every task, its instruction and its expert."""

from __future__ import annotations

from failsafe.cli.output import print_json
from failsafe.experts.catalog import TaskDescription, describe_tasks
from failsafe.records import codec


def tasks(*, simulator: str | None = None, json: bool = False) -> int:
    """List the tasks, with instruction, expert, the success of the expert, and what is missing.

    Args:
        simulator: List the tasks of one simulator only, for example maniskill, metaworld or libero.
        json: Print the list as JSON.

    Returns:
        The exit code, 0.
    """
    found = describe_tasks(simulator)
    if json:
        print_json({"tasks": codec.to_plain(found)})
        return 0
    width = max((len(task.name) for task in found), default=0)
    for task in found:
        print(f"{task.name:<{width}}  {_expert(task):<22}  {_remark(task)}")
    return 0


def _expert(task: TaskDescription) -> str:
    if not task.expert:
        return "no expert"
    if task.successes is None:
        return task.expert
    return f"{task.expert} {task.successes}/{task.seeds}"


def _remark(task: TaskDescription) -> str:
    if task.missing:
        return f"not ready: {task.missing}"
    return f"{task.instruction} (hard to judge at rest: {task.caution})" if task.caution else task.instruction
