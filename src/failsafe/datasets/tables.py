"""The tables of a dataset: what is queried, as Parquet, made from the files of the cases."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from failsafe.datasets.files import write_atomically
from failsafe.datasets.manifest import read_manifest
from failsafe.datasets.store import Dataset
from failsafe.generation.config import GenerationConfig
from failsafe.generation.sampling import coverage_cell
from failsafe.perturbations import MODES
from failsafe.records.case import FailureCase, Label, NominalRecord

CASES = pa.schema(
    [
        ("case_id", pa.string()),
        ("task", pa.string()),
        ("seed", pa.int64()),
        ("category", pa.string()),
        ("outcome", pa.string()),
        ("verified", pa.bool_()),
        ("needed", pa.bool_()),
        ("reason", pa.string()),
        ("mode", pa.string()),
        ("level", pa.string()),
        ("second_mode", pa.string()),
        ("stage", pa.string()),
        ("moment", pa.float64()),
        ("moment_bin", pa.string()),
        ("magnitude", pa.float64()),
        ("magnitude_bin", pa.string()),
        ("unit", pa.string()),
        ("direction", pa.float64()),
        ("object", pa.string()),
        ("injection_step", pa.int64()),
        ("onset_step", pa.int64()),
        ("failure_step", pa.int64()),
        ("labels", pa.int64()),
        ("partition", pa.int64()),
        ("target", pa.int64()),
    ]
)
LABELS = pa.schema(
    [
        ("case_id", pa.string()),
        ("step", pa.int64()),
        ("stage", pa.string()),
        ("proven", pa.bool_()),
        ("strategy", pa.string()),
        ("actions", pa.list_(pa.list_(pa.float64()))),
        ("frame", pa.string()),
        ("resume_stage", pa.string()),
        ("rollouts", pa.int64()),
        ("successes", pa.int64()),
        ("recoverability", pa.float64()),
        ("continuation", pa.string()),
        ("without_succeeds", pa.bool_()),
        ("cause_ended_succeeds", pa.bool_()),
        ("replanned_succeeds", pa.bool_()),
        ("with_succeeds", pa.bool_()),
        ("needed", pa.bool_()),
        ("attempts", pa.int64()),
        ("reason", pa.string()),
        ("recovery", pa.string()),
    ]
)
NOMINALS = pa.schema(
    [
        ("task", pa.string()),
        ("seed", pa.int64()),
        ("success", pa.bool_()),
        ("reason", pa.string()),
        ("stages", pa.list_(pa.string())),
        ("steps", pa.int64()),
    ]
)


def write_tables(dataset: Dataset, cases: Sequence[FailureCase], nominals: Sequence[NominalRecord]) -> None:
    """Make `tables/*.parquet`; the same cases give the same bytes.

    Args:
        dataset: The dataset.
        cases: All its cases, in order.
        nominals: All its nominal rollouts, in order.
    """
    config = read_manifest(dataset.path).config
    _write(dataset, "cases", CASES, (case_row(case, config) for case in cases))
    _write(dataset, "labels", LABELS, (_label_row(case, label) for case in cases for label in case.labels))
    _write(dataset, "nominal", NOMINALS, (_nominal_row(nominal) for nominal in nominals))


def case_row(case: FailureCase, config: GenerationConfig) -> dict[str, Any]:
    """Return a case as a row of `cases.parquet`.

    Args:
        case: The case.
        config: The configuration of the dataset.
    """
    first, cell = case.perturbations[0], coverage_cell(case, config)
    second = case.perturbations[1].mode if len(case.perturbations) > 1 else ""
    return {
        "case_id": case.case_id,
        "task": case.task,
        "seed": case.seed,
        "category": case.category,
        "outcome": case.outcome.value,
        "verified": case.verified,
        "needed": case.needed,
        "reason": case.reason,
        "mode": first.mode,
        "level": MODES[first.mode].level.value,
        "second_mode": second,
        "stage": first.stage_name,
        "moment": first.moment,
        "moment_bin": cell.moment,
        "magnitude": first.magnitude,
        "magnitude_bin": cell.magnitude,
        "unit": first.unit,
        "direction": first.direction,
        "object": first.object,
        "injection_step": case.times.injection_step,
        "onset_step": case.times.onset_step,
        "failure_step": case.times.failure_step,
        "labels": len(case.labels),
        "partition": case.partition,
        "target": case.target,
    }


def label_reason(label: Label) -> str:
    """Return why a label has no correction; empty if it has one."""
    verification = label.verification
    if label.correction is not None:
        return ""
    if not verification.prefix_exact:
        return "the replay was not exact"
    if not verification.attempts:
        return "no correction within the length limit"
    if all(a.reason.startswith("planner") for a in verification.attempts):
        return "the expert has no plan from there"
    return "no candidate ended in success"


def _label_row(case: FailureCase, label: Label) -> dict[str, Any]:
    correction, verification = label.correction, label.verification
    return {
        "case_id": case.case_id,
        "step": label.step,
        "stage": label.stage,
        "proven": label.proven,
        "strategy": correction.strategy.value if correction else "",
        "actions": [list(row) for row in correction.actions] if correction else [],
        "frame": correction.frame if correction else "",
        "resume_stage": correction.resume_stage if correction else "",
        "rollouts": verification.rollouts,
        "successes": verification.successes,
        "recoverability": verification.recoverability,
        "continuation": verification.continuation,
        "without_succeeds": verification.without_succeeds,
        "cause_ended_succeeds": verification.cause_ended_succeeds,
        "replanned_succeeds": verification.replanned_succeeds,
        "with_succeeds": verification.with_succeeds,
        "needed": label.needed,
        "attempts": len(verification.attempts),
        "reason": label_reason(label),
        "recovery": label.recovery,
    }


def _nominal_row(nominal: NominalRecord) -> dict[str, Any]:
    return {
        "task": nominal.task,
        "seed": nominal.seed,
        "success": nominal.success,
        "reason": nominal.reason,
        "stages": [stage.name for stage in nominal.plan.stages],
        "steps": nominal.spans[-1].stop if nominal.spans else 0,
    }


def _write(dataset: Dataset, name: str, schema: Any, rows: Iterable[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(list(rows), schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(dataset.path / "tables" / f"{name}.parquet", buffer.getvalue(), dataset.path)
