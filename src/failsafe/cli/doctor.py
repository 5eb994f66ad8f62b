"""`failsafe doctor`: what this machine can do."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from failsafe.cli.streams import StyledOutput
from failsafe.diagnostics.checks import Check, run_checks


def doctor(*, json: bool = False) -> int:
    """Report what this machine can do, with a command that fixes each problem.

    Args:
        json: Print one JSON object instead of a table.

    Returns:
        The exit code: 0 if everything that generating needs is there, else 1.
    """
    checks = run_checks()
    ready = all(check.ok for check in checks if check.needed_for == "generating")
    if json:
        print(json_module.dumps({"ok": ready, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        _print_report(checks, Console(file=cast(IO[str], StyledOutput())))
    return 0 if ready else 1


def _print_report(checks: Sequence[Check], console: Console) -> None:
    if console.is_terminal:
        table = Table(show_edge=False)
        for heading in ("", "check", "found", "needed for"):
            table.add_column(heading)
        for check in checks:
            mark = "[green]ok[/]" if check.ok else "[red]no[/]"
            table.add_row(mark, check.name, escape(check.found), check.needed_for)
        console.print(table)
    else:
        for check in checks:
            print(
                f"{'ok' if check.ok else 'no'}  {check.name}: {check.found} (needed for {check.needed_for})"
            )
    # Outside the table and unwrapped, so that each can be pasted.
    for check in checks:
        if not check.ok:
            print(f"\nTo mend {check.name} (needed for {check.needed_for}):\n  {check.fix}")
    lacking = sorted({check.needed_for for check in checks if not check.ok})
    print(f"\n{'Not ready for ' + ', '.join(lacking) if lacking else 'Ready for everything'}.")
