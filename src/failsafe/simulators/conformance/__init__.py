"""The conformance suite: what every simulator must do, tried on one.

`check_simulator` is what `failsafe check-adapter MODULE:CLASS` runs: `rules` holds the rules, each a
function, `bench` the ways to move a simulator that they share. A dataset's proofs rest on the rules about
exactness, so these are tried on motion with contacts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from failsafe.simulators.conformance.bench import Bench, Broken
from failsafe.simulators.conformance.rules import RULES
from failsafe.simulators.contract import Simulator


@dataclass(frozen=True)
class CheckResult:
    """One rule, and whether it is kept.

    Attributes:
        name: Name of the check.
        passed: Whether the rule is kept.
        sentence: What was seen, or which part of the rule is not kept.
    """

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Report:
    """The outcome of the suite for one simulator.

    Attributes:
        task: The task that it was tried on.
        checks: Every check, in order.
    """

    task: str
    checks: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every rule is kept."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the rules that are not kept."""
        return tuple(check.name for check in self.checks if not check.passed)


def check_simulator(
    factory: Callable[[], Simulator], rules: Sequence[Callable[[Bench], str]] = RULES
) -> Report:
    """Try every rule on a simulator.

    Args:
        factory: Makes a simulator; a class without arguments will do.
        rules: What to try, the contract's own rules by default.

    Returns:
        One result for each rule. A rule that raises counts as not kept, with what it raised.
    """
    bench = Bench(factory)
    task = bench.simulator.spec.task
    results: list[CheckResult] = []
    for rule in rules:
        name = rule.__name__.replace("_", " ")
        try:
            results.append(CheckResult(name, True, rule(bench)))
        except Broken as broken:
            results.append(CheckResult(name, False, str(broken)))
        except Exception as error:  # whatever the code under test raises is a finding about it
            results.append(CheckResult(name, False, f"raised {type(error).__name__}: {error}"))
    return Report(task, tuple(results))


__all__ = ["CheckResult", "Report", "check_simulator"]
