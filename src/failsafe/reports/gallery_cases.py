"""The data of the gallery page: each case as plain JSON, in the units and names that the page shows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from failsafe.datasets.frame_grids import FrameIndex, case_folder, nominal_folder, read_index
from failsafe.datasets.store import Dataset
from failsafe.errors import UserError
from failsafe.records.case import FAILING, Correction, FailureCase, Label, Outcome, Verification
from failsafe.records.trace import Trace

CATEGORIES = {
    "recoverable": "recoverable",
    "unrecoverable": "unrecoverable",
    "failure": "failure without a label",
    "harmless": "harmless",
    "diverged": "physics diverged",
    "plan_failed": "no plan found",
    "crashed": "simulator crashed",
}
"""Every category of cases, in the order of the filter, and its name on the page."""

_NO_RECOVERY = {
    Outcome.FAILURE: "No correction was proven.",
    Outcome.HARMLESS: "None needed: the rollout ends in success.",
    Outcome.DIVERGED: "None: the physics diverged.",
    Outcome.PLAN_FAILED: "None: the expert found no plan.",
    Outcome.CRASHED: "None: the simulator crashed.",
}
_ENDS = {Outcome.FAILURE: "fails", Outcome.HARMLESS: "succeeds", Outcome.DIVERGED: "diverges"}

Plain = dict[str, Any]


def plain_case(dataset: Dataset, case: FailureCase, task: str) -> Plain:
    """Return everything that the card of a case shows.

    Args:
        dataset: The dataset, with rendered frames of the case.
        case: The case.
        task: Short name of its task.
    """
    traces = dataset.traces(case.task, case.case_id)
    index = read_index(case_folder(dataset, case.task, case.case_id))
    times = case.times
    marks = {
        "injection": times.injection_step,
        "onset": times.onset_step,
        "failure": times.failure_step,
        "detection": times.detection_step,
    }
    return {
        "id": case.case_id,
        "task": task,
        "seed": case.seed,
        "instruction": case.instruction,
        "category": case.category,
        "reason": case.reason,
        "causes": [
            {"mode": p.mode, "stage": p.stage_name, "description": p.description} for p in case.perturbations
        ],
        "times": {name: step for name, step in marks.items() if step is not None},
        "stages": _stages(case, traces.get(FAILING)),
        "ends": _ENDS.get(case.outcome, ""),
        "unrecovered": _NO_RECOVERY[case.outcome],
        "labels": [_plain_label(label) for label in case.labels],
        "frames": plain_frames(index),
        "recorded": FAILING in traces,
    }


def plain_nominal(dataset: Dataset, task: str, seed: int) -> Plain:
    """Return the nominal rollout that the cases of a seed share.

    Args:
        dataset: The dataset.
        task: Name of the task.
        seed: Seed of the initial state.
    """
    try:
        nominal, _ = dataset.nominal(task, seed)
        ends = "succeeds" if nominal.success else "fails"
    except UserError:
        ends = ""
    return {"frames": plain_frames(read_index(nominal_folder(dataset, task, seed))), "ends": ends}


def plain_frames(index: FrameIndex | None) -> Plain | None:
    """Return the index of the rendered frames, or None if nothing was rendered."""
    if index is None or not index.traces:
        return None
    return {
        "size": index.size,
        "hz": index.control_hz,
        "cameras": [camera.name for camera in index.cameras],
        "traces": {t.trace: {"steps": list(t.steps), "columns": t.columns} for t in index.traces},
    }


def folders(dataset: Dataset, case: FailureCase) -> tuple[Path, Path]:
    """Return the folders of a case's frames and of its nominal rollout's, relative to `frames`.

    Args:
        dataset: The dataset.
        case: The case.
    """
    found = case_folder(dataset, case.task, case.case_id), nominal_folder(dataset, case.task, case.seed)
    first, second = (folder.relative_to(dataset.path / "frames") for folder in found)
    return first, second


def _stages(case: FailureCase, failing: Trace | None) -> list[tuple[int, str]]:
    """Return first step and name of every stage of the failing rollout."""
    if failing is None:
        return []
    found: list[tuple[int, str]] = []
    before: int | None = None
    for step, stage in enumerate(failing.stages.tolist()):
        if stage != before:
            known = 0 <= stage < len(case.stage_names)
            found.append((step, case.stage_names[stage] if known else f"stage {stage}"))
            before = stage
    return found


def _plain_label(label: Label) -> Plain:
    return {
        "step": label.step,
        "stage": label.stage,
        "recovery": label.recovery,
        "proven": label.proven,
        "correction": None if label.correction is None else _plain_correction(label.correction),
        "verification": _plain_verification(label.verification),
    }


def _plain_correction(correction: Correction) -> Plain:
    return {
        # Millimetres and degrees.
        "actions": [
            [
                *(round(1000 * v, 2) for v in a[:3]),
                *(round(math.degrees(v), 2) for v in a[3:6]),
                round(a[6], 2),
            ]
            for a in correction.actions
        ],
        "millimetres": round(sum(1000 * math.hypot(*a[:3]) for a in correction.actions), 1),
        "degrees": round(sum(math.degrees(math.hypot(*a[3:6])) for a in correction.actions), 1),
        "frame": correction.frame.replace("_", " "),
        "strategy": correction.strategy.value.replace("_", " "),
        "resume": correction.resume_stage,
        "fresh": correction.resume_index < 0,
        "then": list(correction.plan_stages),
    }


def _plain_verification(verification: Verification) -> Plain:
    return {
        "exact": verification.prefix_exact,
        "branch": verification.branch.value,
        "without": verification.without_succeeds,
        "with": verification.with_succeeds,
        "successes": verification.successes,
        "rollouts": verification.rollouts,
        "noise": verification.noise,
        "attempts": [
            {
                "strategy": attempt.strategy.value.replace("_", " "),
                "actions": attempt.actions,
                "success": attempt.success,
                "reason": attempt.reason,
            }
            for attempt in verification.attempts
        ],
    }
