"""The coverage table: of each task x mode x stage x moment x magnitude, what was asked and what it gave.

A case counts for the cell of its first perturbation. The yield of a cell is the share of its tries that
became a verified failure; a cell that was tried several times and never failed is one that physics leaves
empty, and is named as such.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from failsafe.datasets.tables import label_reason
from failsafe.evaluation.statistics import wilson
from failsafe.generation.config import GenerationConfig
from failsafe.generation.sampling import BINS, COMPOUND, SIZES, coverage_cell
from failsafe.perturbations import MODES
from failsafe.records.case import FailureCase, Outcome

SEVERAL = 3
"""Harmless tries, and no failure, from which on a cell is taken to be empty by physics, not by chance."""

STATES = {
    "filled": "has verified failures",
    "no way back": "failed, but no correction was proven",
    "empty": f"never failed in {SEVERAL} or more tries",
    "thin": f"not failed yet, in fewer than {SEVERAL} tries that could be judged",
    "no stage": "no stage of the task offers what the mode needs",
    "untried": "not tried yet",
}
"""What a cell can be, and what that means."""


@dataclass(frozen=True)
class CoverageRow:
    """One cell of the coverage table, or all cells of a task and mode together.

    Attributes:
        kind: "cell", or "mode" for all cells of a task and mode together.
        task: Name of the task.
        mode: Name of the mode of the first perturbation.
        stage: Name of the stage, empty in a row of kind "mode"; so are moment and magnitude.
        moment: Third of the distribution of moments, or "with the stage" for modes without one.
        magnitude: Third of the distribution of magnitudes.
        state: A key of `STATES`.
        asked: Wanted failures for which it was tried.
        tried: Perturbed rollouts.
        failures: Rollouts that ended in failure.
        got: Failures with a proven correction.
        harmless: Rollouts that ended in success all the same.
        other: Rollouts that could not be judged: diverged physics, no plan, a crash.
        yield_rate: got / tried, None where nothing was tried.
        yield_low: Lower end of its 95 % Wilson interval.
        yield_high: Upper end of it.
        recovered: got / failures, None where nothing failed.
        reasons: Why the other failures have no proven correction, with how many each concerns.
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
    reasons: dict[str, int]


def make_rows(cases: Sequence[FailureCase], config: GenerationConfig) -> list[CoverageRow]:
    """The coverage table of some cases that were made by one configuration."""
    groups: dict[tuple[str, str], list[FailureCase]] = defaultdict(list)
    for case in cases:
        groups[case.task, coverage_cell(case, config).mode].append(case)
    settled = _settled_tasks(cases)
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
    """A coverage table in numbers, by what they count."""
    modes, cells = [r for r in rows if r.kind == "mode"], [r for r in rows if r.kind == "cell"]
    return {
        "tried": sum(r.tried for r in modes),
        "verified failures": sum(r.got for r in modes),
        "failures": sum(r.failures for r in modes),
        "harmless": sum(r.harmless for r in modes),
        "other": sum(r.other for r in modes),
        "cells tried": len(cells),
        "cells filled": sum(r.got > 0 for r in cells),
        "cells empty": sum(r.state == "empty" for r in cells),
    }


def name_cell(row: CoverageRow) -> str:
    """A cell in words."""
    parts = (row.task, row.mode.replace("_", " "), row.stage, row.moment, row.magnitude)
    return ", ".join(part for part in parts if part)


def note(row: CoverageRow) -> str:
    """What else there is to say about a row: its state where nothing came of it, and why failures stayed."""
    said = [STATES[row.state]] if row.state not in ("filled", "no way back") else []
    return "; ".join(said + [f"{number} x {reason}" for reason, number in row.reasons.items()])


def _settled_tasks(cases: Sequence[FailureCase]) -> set[str]:
    """Tasks of which a lane has tried every mode that applies.

    The sampler turns to a mode that has a verified failure only after every mode without one has had its
    try. So where one mode of a lane has two, a mode that was never tried is one that never applied.
    """
    single = [case for case in cases if case.verified and len(case.perturbations) == 1]
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
        state = "filled" if got else "no way back"
    elif group:
        state = "empty" if harmless >= SEVERAL else "thin"
    else:
        state = untried
    interval = wilson(got, len(group))
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
        reasons=dict(sorted(Counter(_reason(c) for c in failures if not c.verified).items())),
    )


def _reason(case: FailureCase) -> str:
    """Why a failure has no proven correction, in words."""
    reasons = {label_reason(label) for label in case.labels} - {""}
    return " / ".join(sorted(reasons)) or "no moment was labelled"
