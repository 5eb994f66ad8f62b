"""How a policy fails: tables of a mined dataset, for a terminal and as one page."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from failsafe.datasets.files import write_atomically
from failsafe.datasets.mined import read_mined_manifest
from failsafe.datasets.store import Dataset
from failsafe.evaluation.statistics import wilson
from failsafe.records.branches import count_branches
from failsafe.records.case import EXPERT, FAILING, FailureCase, Label, Outcome
from failsafe.reports.pages import inline, render
from failsafe.reports.tables import Table, TableCell, table_text

_JUDGED = (Outcome.FAILURE, Outcome.HARMLESS)


def mining_figures(dataset: Dataset) -> dict[str, int]:
    """Return the totals of a mined dataset by name.

    Args:
        dataset: The dataset.
    """
    return _figures(list(dataset.cases()))


def mining_tables(dataset: Dataset) -> list[Table]:
    """Return the tables of a mined dataset.

    Args:
        dataset: The dataset.

    Raises:
        UserError: If the folder has no manifest.
        RecordError: If it was not mined, or a file is damaged.
    """
    config, cases = read_mined_manifest(dataset.path).config, list(dataset.cases())
    judged = [case for case in cases if case.outcome in _JUDGED]
    tables = [
        _outcomes("Episodes by task", "task", judged, lambda case: case.task),
        _clusters(dataset, judged),
        _corrections(judged),
        _initial_states(dataset, judged),
    ]
    if config.perturbations:
        by_mode = _outcomes("Episodes by perturbation", "perturbation", judged, lambda case: case.mode)
        tables.insert(1, by_mode)
    return [table for table in tables if table.rows]


def note_on_chance(dataset: Dataset) -> str:
    """Return a sentence on a policy that is not deterministic; empty for one that is.

    Args:
        dataset: A mined dataset.
    """
    if all(case.policy is None or case.policy.deterministic for case in dataset.cases()):
        return ""
    samples = read_mined_manifest(dataset.path).config.samples
    return (
        "The policy is not deterministic: it gave other actions for the same observation, so each branch "
        f"without a correction was run {samples} times."
    )


def mining_text(dataset: Dataset, width: int | None = None) -> str:
    """Return the tables of a mined dataset as text for a terminal, under a note on chance.

    Args:
        dataset: The dataset.
        width: Characters per line; by default the width of the terminal.
    """
    tables = [table_text(table, width, intervals=True) for table in mining_tables(dataset)]
    return "\n\n".join(filter(None, [note_on_chance(dataset), *tables]))


def write_mining_page(dataset: Dataset) -> Path:
    """Write the tables of a mined dataset as one self-contained page, `report.html` in its folder.

    Args:
        dataset: The dataset.

    Returns:
        Path of the page.

    Raises:
        StoreError: If the file cannot be written.
    """
    manifest = read_mined_manifest(dataset.path)
    page = render(
        "mining.html.jinja",
        style=inline("gallery.css", "coverage.css", "evaluation.css"),
        policy=manifest.config.policy,
        weights=manifest.config.weights,
        command=manifest.command,
        note=note_on_chance(dataset),
        figures=mining_figures(dataset),
        tables=mining_tables(dataset),
    )
    out = dataset.path / "report.html"
    write_atomically(out, page.encode())
    return out


def _figures(cases: Sequence[FailureCase]) -> dict[str, int]:
    failures = [case for case in cases if case.outcome is Outcome.FAILURE]
    figures = {
        "episodes": sum(case.outcome in _JUDGED for case in cases),
        "failures": len(failures),
        "not judged": sum(case.outcome not in _JUDGED for case in cases),
        "labelled steps": len({(case.case_id, label.step) for case in failures for label in case.labels}),
    }
    for who, by_expert in (("the policy", False), ("the expert", True)):
        worth = count_branches(_labels(failures, by_expert))
        figures[f"corrections proven with {who}"] = worth.corrections
        figures[f"needed with {who}"] = worth.needed
    return figures


def _labels(cases: Sequence[FailureCase], by_expert: bool) -> list[Label]:
    labels = [label for case in cases for label in case.labels]
    return [label for label in labels if (label.verification.continuation == EXPERT) is by_expert]


def _outcomes(
    title: str, name: str, judged: Sequence[FailureCase], key: Callable[[FailureCase], str]
) -> Table:
    groups: dict[str, list[FailureCase]] = defaultdict(list)
    for case in judged:
        groups[key(case)].append(case)
    rows: list[tuple[TableCell, ...]] = []
    for value, group in groups.items():
        failures = [case for case in group if case.outcome is Outcome.FAILURE]
        corrected = sum(_proven(case, False) for case in failures)
        rows.append(
            (
                TableCell(value),
                TableCell(str(len(group)), value=float(len(group))),
                _share(len(failures), len(group)),
                _share(corrected, len(failures)),
                _share(sum(_proven(case, True) for case in failures), len(failures)),
            )
        )
    head = (name, "episodes", "failures", "of these corrected, policy going on", "expert going on")
    return Table(title, "Each share has its 95 % Wilson interval.", head, tuple(rows))


def _clusters(dataset: Dataset, judged: Sequence[FailureCase]) -> Table:
    """Failures by the generated failure that they resemble most and by the stage that was due."""
    groups: dict[tuple[str, str, str], list[FailureCase]] = defaultdict(list)
    for case in judged:
        if case.outcome is Outcome.FAILURE:
            mode = case.nearest.mode if case.nearest and case.nearest.near else "none is near"
            groups[case.task, mode, _stage_due(dataset, case)].append(case)
    episodes = Counter(case.task for case in judged)
    rows: list[tuple[TableCell, ...]] = []
    for (task, mode, stage), group in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]))):
        left = [case.times.onset_step or 0 for case in group]
        distances = [case.nearest.distance for case in group if case.nearest]
        rows.append(
            (
                TableCell(task),
                TableCell(mode.replace("_", " ")),
                TableCell(stage),
                _share(len(group), episodes[task]),
                TableCell(f"{statistics.median(left):.0f}"),
                TableCell(f"{1000 * statistics.median(distances):.0f}" if distances else "–"),
                _share(sum(_proven(case, False) for case in group), len(group)),
                TableCell(", ".join(str(case.seed) for case in group[:5])),
            )
        )
    head = (
        *("task", "nearest generated mode", "stage due", "of the episodes", "progress ends at step (median)"),
        *("distance, mm (median)", "corrected, policy going on", "seeds"),
    )
    hint = (
        "A failed episode stops making progress where the control steps that the expert would need from "
        "there stop falling for good. One second later its state is compared with every generated failure of "
        "the same initial state."
    )
    return Table("How it fails", hint, head, tuple(rows), names=3)


def _corrections(judged: Sequence[FailureCase]) -> Table:
    failures = [case for case in judged if case.outcome is Outcome.FAILURE]
    rows: list[tuple[TableCell, ...]] = []
    for who, by_expert in (("the policy", False), ("the expert", True)):
        labels = _labels(failures, by_expert)
        worth = count_branches(labels)
        lengths = [len(label.correction.actions) for label in labels if label.proven and label.correction]
        rows.append(
            (
                TableCell(who),
                _share(sum(_proven(case, by_expert) for case in failures), len(failures)),
                _share(sum(_needed(case, by_expert) for case in failures), len(failures)),
                TableCell(str(len(labels))),
                TableCell(str(worth.corrections)),
                TableCell(str(worth.cause_ended)),
                TableCell(str(worth.replanned)),
                TableCell(str(worth.needed)),
                TableCell(f"{statistics.median(lengths):.0f}" if lengths else "–"),
            )
        )
    head = (
        *("goes on", "failed episodes corrected", "with a needed correction", "labelled steps", "proven"),
        *("enough that the cause ends", "enough to plan anew", "needed", "actions (median)"),
    )
    hint = (
        "From the same state: with the correction it succeeds; needed where it fails in every way without. A "
        "failed episode counts once, by any of its labelled steps. The other columns count labelled steps: "
        "those of one episode are not independent, so they have no interval."
    )
    return Table("Corrections", hint, head, tuple(rows) if failures else ())


def _initial_states(dataset: Dataset, judged: Sequence[FailureCase]) -> Table:
    """Failures by where the object of the task lies at the beginning: four parts around the medians."""
    rows: list[tuple[TableCell, ...]] = []
    for task in dict.fromkeys(case.task for case in judged):
        group = [case for case in judged if case.task == task]
        places = np.array([_first_place(dataset, case) for case in group])
        middle = np.median(places, axis=0)
        for x_side, y_side in ((0, 0), (0, 1), (1, 0), (1, 1)):
            inside = ((places > middle) == np.array([x_side, y_side], dtype=bool)).all(axis=1)
            cases = [case for case, chosen in zip(group, inside, strict=True) if chosen]
            signs = [
                f"{axis} {'>' if side else '<='} {value:.3f} m"
                for axis, side, value in zip("xy", (x_side, y_side), middle.tolist(), strict=True)
            ]
            failures = sum(case.outcome is Outcome.FAILURE for case in cases)
            rows.append(
                (
                    TableCell(task),
                    TableCell(", ".join(signs)),
                    TableCell(str(len(cases))),
                    _share(failures, len(cases)),
                )
            )
    head = ("task", "initial position of the object", "episodes", "failures")
    hint = (
        "The object that moves most in the nominal rollout, robot base frame, cut at the medians of x and y."
    )
    return Table("Where it fails", hint, head, tuple(rows), names=2)


def _first_place(dataset: Dataset, case: FailureCase) -> tuple[float, float]:
    """Return where the object lies that moves most in the nominal rollout: the one that the task is about."""
    objects = dataset.nominal(case.task, case.seed)[1].objects
    if not objects.shape[1]:
        return 0.0, 0.0
    moved = np.linalg.norm(objects[:, :, :3] - objects[:1, :, :3], axis=2).max(axis=0)
    x, y = objects[0, int(np.argmax(moved)), :2]
    return float(x), float(y)


def _proven(case: FailureCase, by_expert: bool) -> bool:
    return any(label.proven for label in _labels([case], by_expert))


def _needed(case: FailureCase, by_expert: bool) -> bool:
    return any(label.needed for label in _labels([case], by_expert))


def _stage_due(dataset: Dataset, case: FailureCase) -> str:
    """Return the stage that was due where the episode stopped making progress."""
    if case.times.onset_step is None or not case.stage_names:
        return ""
    stages = dataset.traces(case.task, case.case_id)[FAILING].stages
    return case.stage_names[int(stages[min(case.times.onset_step, len(stages) - 1)])]


def _share(number: int, of: int) -> TableCell:
    interval = wilson(number, of)
    if interval is None:
        return TableCell("–")
    text = f"{number} of {of} ({number / of:.0%})"
    return TableCell(text, f"{interval[0]:.0%}–{interval[1]:.0%}", value=number / of)
