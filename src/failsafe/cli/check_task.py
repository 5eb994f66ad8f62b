"""`failsafe check-task`: try a task before a long run."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.output import print_json
from failsafe.cli.parsing import parse_seeds
from failsafe.generation.task_check import check_task as run_check
from failsafe.reports.task_check import check_rows, format_check, write_check


def check_task(
    task: tyro.conf.Positional[str],
    /,
    *,
    out: Path | None = None,
    seeds: str = "0:10",
    json: bool = False,
) -> int:
    """Try a task before a long run: expert, instruction, objects, cameras, a failure and its recovery.

    Args:
        task: Name of the task, or MODULE:FUNCTION that returns a failsafe.Task.
        out: Folder to write a page with pictures to.
        seeds: Seeds FIRST:LAST of the initial states, the last not included.
        json: Print the result as JSON.

    Returns:
        0 if nothing has to be put right, else 1.
    """
    check = run_check(task, parse_seeds(seeds))
    page = write_check(check, out) if out is not None else None
    if json:
        found = {"task": check.task, "passed": check.passed, "problems": list(check.problems)}
        print_json(found | {"found": check_rows(check), "page": str(page) if page else None})
        return 0 if check.passed else 1
    print(format_check(check))
    if page is not None:
        print(f"page: {page.resolve()}")
    print(f"{check.task}: {'ready' if check.passed else 'not ready'} for a long run")
    return 0 if check.passed else 1
