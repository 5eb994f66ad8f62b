"""The coverage table: targets and results for each task x mode x stage x moment x magnitude.

A case counts for the cell of its first perturbation. The yield of a cell is the share of its attempts that
became a verified failure. A cell with several attempts and no failure counts as empty.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from failsafe.datasets.tables import label_reason
from failsafe.evaluation.statistics import wilson
from failsafe.generation.config import GenerationConfig
from failsafe.generation.sampling import BINS, COMPOUND, SIZES, coverage_cell, reaches_target
from failsafe.perturbations import MODES
from failsafe.records.branches import count_branches
from failsafe.records.case import FailureCase, Outcome

SEVERAL = 3
"""Harmless attempts without a failure from which on a cell counts as empty."""

STATES = {
    "filled": "has verified failures",
    "unrecovered": "failed, but no correction was proven",
    "empty": f"never failed in {SEVERAL} or more attempts",
    "thin": f"not failed yet, in fewer than {SEVERAL} attempts that could be judged",
    "no stage": "the mode applies to no stage of the task",
    "untried": "no attempt yet",
}
"""The states of a cell and their meaning."""


@dataclass(frozen=True)
class CoverageRow:
    """A row of the coverage table: one cell, or all cells of a task and mode.

    Attributes:
        kind: "cell", or "mode" for all cells of a task and mode.
        task: Name of the task.
        mode: Name of the mode of the first perturbation.
        stage: Name of the stage, empty in a row of kind "mode"; so are moment and magnitude.
        moment: Third of the distribution of moments, or "with the stage" for modes without one.
        magnitude: Third of the distribution of magnitudes.
        state: A key of `STATES`.
        asked: Number of targets that attempts were made for.
        tried: Perturbed rollouts.
        failures: Rollouts that ended in failure.
        got: Verified failures: those with a proven correction.
        harmless: Rollouts that ended in success.
        other: Rollouts that could not be judged: diverged physics, no plan, a crash.
        yield_rate: got / tried, None without attempts.
        yield_low: Lower end of its 95 % Wilson interval.
        yield_high: Its upper end.
        recovered: got / failures, None without failures.
        corrections: Labelled steps with a proven correction.
        needed: Those without whose correction the expert fails, even if the cause ends and it plans anew.
        cause_ended: Those at which it is enough that the cause ends.
        replanned: Those at which it is enough that the expert plans anew.
        reasons: Why the other failures have no proven correction, with the number of failures.
    """

    kind: str
    task: str
    mode: str
    stage: str
    moment: str
    magnitude: str
    state: str
    asked: int
    tried: int
    failures: int
    got: int
    harmless: int
    other: int
    yield_rate: float | None
    yield_low: float | None
    yield_high: float | None
    recovered: float | None
    corrections: int
    needed: int
    cause_ended: int
    replanned: int
    reasons: dict[str, int]


def make_rows(cases: Sequence[FailureCase], config: GenerationConfig) -> list[CoverageRow]:
    """Return the coverage table of cases that one configuration made.

    Args:
        cases: The cases.
        config: The configuration.
    """
    groups: dict[tuple[str, str], list[FailureCase]] = defaultdict(list)
    for case in cases:
        groups[case.task, coverage_cell(case, config).mode].append(case)
    settled = _settled_tasks(cases, config)
    rows: list[CoverageRow] = []
    for task in config.tasks:
        for mode in MODES.in_order(config.modes):
            group = groups.get((task, mode), [])
            if group or config.modes[mode].weight > 0:
                untried = "no stage" if task in settled else "untried"
                rows.append(_row("mode", (task, mode, "", "", ""), group, untried))
                rows += _cells(group, config)
        if both := groups.get((task, COMPOUND)):
            rows.append(_row("mode", (task, COMPOUND, "", "", ""), both, ""))
            rows += _cells(both, config)
    return rows


def count_rows(rows: Sequence[CoverageRow]) -> dict[str, int]:
    """Return the totals of a coverage table by name."""
    modes, cells = [r for r in rows if r.kind == "mode"], [r for r in rows if r.kind == "cell"]
    return {
        "tried": sum(r.tried for r in modes),
        "verified failures": sum(r.got for r in modes),
        "failures": sum(r.failures for r in modes),
        "harmless": sum(r.harmless for r in modes),
        "other": sum(r.other for r in modes),
        "proven corrections": sum(r.corrections for r in modes),
        "needed corrections": sum(r.needed for r in modes),
        "cells tried": len(cells),
        "cells filled": sum(r.got > 0 for r in cells),
        "cells empty": sum(r.state == "empty" for r in cells),
    }


def name_cell(row: CoverageRow) -> str:
    """Return the name of a cell."""
    parts = (row.task, row.mode.replace("_", " "), row.stage, row.moment, row.magnitude)
    return ", ".join(part for part in parts if part)


def note(row: CoverageRow) -> str:
    """Return remarks on a row: its state if it has no failure, and why failures have no correction."""
    remarks = [STATES[row.state]] if row.state not in ("filled", "unrecovered") else []
    return "; ".join(remarks + [f"{number} x {reason}" for reason, number in row.reasons.items()])


def _settled_tasks(cases: Sequence[FailureCase], config: GenerationConfig) -> set[str]:
    """Return the tasks of which a partition has attempted every mode that applies.

    The sampler returns to a mode that has reached a target only after an attempt of every mode without one.
    So where one mode of a partition has two, a mode without an attempt never applied.
    """
    single = [case for case in cases if reaches_target(case, config) and len(case.perturbations) == 1]
    verified = Counter((case.task, case.partition, case.perturbations[0].mode) for case in single)
    return {task for (task, _, _), number in verified.items() if number >= 2}


def _cells(group: Sequence[FailureCase], config: GenerationConfig) -> list[CoverageRow]:
    cells: dict[tuple[str, str, str, str, str], list[FailureCase]] = defaultdict(list)
    order: dict[tuple[str, str, str, str, str], tuple[int, int, int]] = {}
    for case in group:
        cell = coverage_cell(case, config)
        key = (cell.task, cell.mode, cell.stage, cell.moment, cell.magnitude)
        cells[key].append(case)
        moment = BINS.index(cell.moment) if cell.moment in BINS else 0
        size = SIZES.index(cell.magnitude) if cell.magnitude in SIZES else 0
        place = (case.perturbations[0].stage, moment, size)
        order[key] = min(order.get(key, place), place)
    return [_row("cell", key, cells[key], "") for key in sorted(cells, key=lambda k: (order[k], k))]


def _row(
    kind: str, key: tuple[str, str, str, str, str], group: Sequence[FailureCase], untried: str
) -> CoverageRow:
    failures = [case for case in group if case.outcome is Outcome.FAILURE]
    got = sum(case.verified for case in group)
    harmless = sum(case.outcome is Outcome.HARMLESS for case in group)
    if got or failures:
        state = "filled" if got else "unrecovered"
    elif group:
        state = "empty" if harmless >= SEVERAL else "thin"
    else:
        state = untried
    interval = wilson(got, len(group))
    worth = count_branches(label for case in failures for label in case.labels)
    return CoverageRow(
        kind,
        *key,
        state=state,
        asked=len({case.target for case in group}),
        tried=len(group),
        failures=len(failures),
        got=got,
        harmless=harmless,
        other=len(group) - len(failures) - harmless,
        yield_rate=got / len(group) if group else None,
        yield_low=interval[0] if interval else None,
        yield_high=interval[1] if interval else None,
        recovered=got / len(failures) if failures else None,
        corrections=worth.corrections,
        needed=worth.needed,
        cause_ended=worth.cause_ended,
        replanned=worth.replanned,
        reasons=dict(sorted(Counter(_reason(c) for c in failures if not c.verified).items())),
    )


def _reason(case: FailureCase) -> str:
    """Return why a failure has no proven correction."""
    reasons = {label_reason(label) for label in case.labels} - {""}
    return " / ".join(sorted(reasons)) or "no step was labelled"
