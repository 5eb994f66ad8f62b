"""`failsafe check-adapter`: try a simulator against the rules of the contract."""

from __future__ import annotations

from typing import Any, cast

import tyro

from failsafe.cli.output import print_json
from failsafe.errors import UserError
from failsafe.imports import import_attribute
from failsafe.records import codec
from failsafe.simulators.conformance import check_simulator
from failsafe.simulators.contract import Simulator


def check_adapter(
    adapter: tyro.conf.Positional[str],
    arguments: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    json: bool = False,
) -> int:
    """Run the conformance suite on a simulator.

    Args:
        adapter: MODULE:CLASS, or MODULE:FUNCTION that returns a simulator.
        arguments: What to call it with, for example the name of a task.
        json: Print the result as JSON.

    Returns:
        0 if every rule is kept, 1 if not.

    Raises:
        UserError: If the adapter cannot be imported or called.
    """
    try:
        factory: Any = import_attribute(adapter) if ":" in adapter else None
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"expected MODULE:CLASS of a simulator, got '{adapter}': {error}") from error
    if not callable(factory):
        raise UserError(f"expected MODULE:CLASS of a simulator, got '{adapter}'")
    report = check_simulator(lambda: cast(Simulator, factory(*arguments)))
    if json:
        print_json({"task": report.task, "passed": report.passed, "checks": codec.to_plain(report.checks)})
        return 0 if report.passed else 1
    for check in report.checks:
        print(f"{'ok    ' if check.passed else 'BROKEN'}  {check.name}: {check.sentence}")
    kept = sum(check.passed for check in report.checks)
    print(f"{report.task}: {kept} of {len(report.checks)} rules are kept")
    return 0 if report.passed else 1
