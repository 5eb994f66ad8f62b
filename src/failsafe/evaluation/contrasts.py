"""Compare policies with each other, and conditions with the monitor.

The table of a study compares each condition with the same policy alone. With several policies (one that was
trained further, say), every policy under every condition is also compared with the first policy, alone and
with the monitor, on the same seeds. With one policy, every other condition is compared with the monitor. Two
studies on the same seeds are compared alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from failsafe.evaluation.conditions import CONDITIONS, MONITOR, NEVER
from failsafe.evaluation.intervention import number_states
from failsafe.evaluation.paired import NOMINAL, PERTURBED
from failsafe.evaluation.scenarios import scenario
from failsafe.evaluation.statistics import gain_interval, rate_interval, sign_flip
from failsafe.records.episode import Episode

_Cell = dict[tuple[str, str, int], Episode]
"""Episodes of a policy under a condition, by scenario, task and seed."""
_Cells = dict[tuple[str, str, str], _Cell]
"""Cells by scenario, policy and condition."""


@dataclass(frozen=True)
class Contrast:
    """A policy under a condition against the first policy under another, from the same initial states.

    Attributes:
        scenario: Name of the scenario, or "perturbed": all run-time perturbations together.
        policy: The policy.
        condition: Its condition.
        base: The first policy.
        reference: Its condition.
        episodes: Number of pairs, all tasks together.
        successes: Number of pairs in which the policy succeeds.
        interval: 95 % interval of its success rate.
        gain: Its success rate minus that of the reference.
        gain_interval: 95 % bootstrap interval of the gain over initial states.
        better: Pairs in which only the policy succeeds.
        worse: Pairs in which only the reference succeeds.
        p: p-value of the exact McNemar test; where an initial state counts several times, of the sign-flip
            test on the sums over each state.
    """

    scenario: str
    policy: str
    condition: str
    base: str
    reference: str
    episodes: int
    successes: int
    interval: tuple[float, float] | None
    gain: float
    gain_interval: tuple[float, float] | None
    better: int
    worse: int
    p: float


def compare_policies(episodes: Iterable[Episode], policies: Sequence[str]) -> tuple[Contrast, ...]:
    """Compare every policy under every condition with the first policy, alone and with the monitor.

    One policy is compared with itself: every other condition with the monitor.

    Args:
        episodes: Records of a study.
        policies: Names of its policies, the one to compare with first.

    Returns:
        One contrast for each scenario, policy, condition and reference.
    """
    cells = _cells(episodes)
    found = _contrasts(cells, cells, policies[0])
    if len(policies) < 2:
        return tuple(c for c in found if c.reference == MONITOR and c.condition not in (NEVER, MONITOR))
    return tuple(c for c in found if (c.policy, c.condition) != (c.base, c.reference))


def compare_studies(
    episodes: Iterable[Episode], others: Iterable[Episode], base: str
) -> tuple[Contrast, ...]:
    """Compare a study with another one on the same seeds, for example with another recovery model.

    Args:
        episodes: Records of a study.
        others: Records of the study to compare with.
        base: Policy of `others` to compare with, alone and with the monitor.

    Returns:
        One contrast for each scenario, policy, condition and reference with common initial states.
    """
    return _contrasts(_cells(episodes), _cells(others), base)


def _cells(episodes: Iterable[Episode]) -> _Cells:
    cells: _Cells = defaultdict(dict)
    for episode in episodes:
        key = episode.key
        names = (key.scenario, PERTURBED) if scenario(key.scenario).perturbations else (key.scenario,)
        for name in names:
            cells[name, key.policy, key.condition][key.scenario, key.task, key.seed] = episode
    names = {name for name, _, _ in cells}
    if len({name for name in names if name != PERTURBED and scenario(name).perturbations}) < 2:
        return {cell: found for cell, found in cells.items() if cell[0] != PERTURBED}
    return cells


def _contrasts(cells: _Cells, others: _Cells, base: str) -> tuple[Contrast, ...]:
    """Return the contrast of every cell with the base policy, alone and with the monitor."""
    policies = sorted({policy for _, policy, _ in cells}, key=lambda policy: (policy != base, policy))
    found = [
        _contrast(cells.get((name, policy, condition), {}), others.get((name, base, reference), {}), *names)
        for name in sorted(
            {name for name, _, _ in cells}, key=lambda name: (name != NOMINAL, name == PERTURBED, name)
        )
        for policy in policies
        for condition in CONDITIONS.in_order({condition for _, _, condition in cells})
        for reference in (NEVER, MONITOR)
        for names in [(name, policy, condition, base, reference)]
    ]
    return tuple(contrast for contrast in found if contrast)


def _contrast(
    under: _Cell, against: _Cell, name: str, policy: str, condition: str, base: str, reference: str
) -> Contrast | None:
    """Return the contrast of two cells; None without a common initial state."""
    common = sorted({*under} & {*against})
    if not common:
        return None
    outcomes = [under[state].success for state in common]
    differences = [under[state].success - against[state].success for state in common]
    units = number_states([under[state] for state in common])
    sums = [0] * (max(units) + 1)
    for unit, difference in zip(units, differences, strict=True):
        sums[unit] += difference
    return Contrast(
        scenario=name,
        policy=policy,
        condition=condition,
        base=base,
        reference=reference,
        episodes=len(common),
        successes=sum(outcomes),
        interval=rate_interval(outcomes, units),
        gain=sum(differences) / len(common),
        gain_interval=gain_interval(differences, units),
        better=differences.count(1),
        worse=differences.count(-1),
        p=sign_flip(sums),
    )
