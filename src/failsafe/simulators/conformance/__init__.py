"""The conformance suite: rules that every simulator must satisfy.

`failsafe check-adapter MODULE:CLASS` runs `check_simulator`. Each rule is a function in `rules`; `bench`
holds the motions that the rules share. Proofs of corrections depend on the rules about exactness, which
therefore run on motions with contacts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from failsafe.simulators.conformance.bench import Bench, Broken
from failsafe.simulators.conformance.rules import RULES
from failsafe.simulators.contract import Simulator

Case = TypeVar("Case")


@dataclass(frozen=True)
class CheckResult:
    """The result of one rule.

    Attributes:
        name: Name of the rule.
        passed: Whether the simulator satisfies the rule.
        sentence: The measurement, or how the simulator violates the rule.
    """

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Report:
    """The outcome of the suite for one simulator.

    Attributes:
        task: The task of the simulator.
        checks: The results, in the order of the rules.
    """

    task: str
    checks: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether all rules are satisfied."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the violated rules."""
        return tuple(check.name for check in self.checks if not check.passed)


def check_simulator(
    factory: Callable[[], Simulator], rules: Sequence[Callable[[Bench], str]] = RULES
) -> Report:
    """Check a simulator against rules.

    Args:
        factory: Makes a simulator, for example a class without arguments.
        rules: The rules; by default all of the contract.

    Returns:
        One result for each rule. A rule that raises any exception counts as violated.
    """
    bench = Bench(factory)
    task = bench.simulator.spec.task
    return Report(task, tuple(check_rule(rule, bench) for rule in rules))


def check_rule(rule: Callable[[Case], str], case: Case) -> CheckResult:
    """Check one rule; any exception of the code under test is a violation.

    Args:
        rule: Returns what it found, and raises `Broken` for a violation. Its name is that of the check.
        case: What the rule takes: the code under test with what it is tried on.
    """
    name = rule.__name__.replace("_", " ")
    try:
        return CheckResult(name, True, rule(case))
    except Broken as broken:
        return CheckResult(name, False, str(broken))
    except Exception as error:
        return CheckResult(name, False, f"raised {type(error).__name__}: {error}")


__all__ = ["CheckResult", "Report", "check_rule", "check_simulator"]
