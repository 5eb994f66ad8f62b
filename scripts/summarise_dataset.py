"""Write what a dataset holds as a small JSON file, from which the documentation takes its figures.

    python -m scripts.summarise_dataset out/thousand docs/records/yield.json
    python -m scripts.summarise_dataset mined/ docs/records/mining.json

Of a generated dataset: rollouts, failures, proven and needed corrections by task, mode and level of cause. Of
a mined one: its failed episodes, and their corrections by what goes on after them. Intervals are Wilson's,
95 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from failsafe.datasets.manifest import Manifest, read_manifest
from failsafe.datasets.mined import MinedManifest, read_mined_manifest
from failsafe.datasets.store import Dataset, open_dataset
from failsafe.errors import RecordError
from failsafe.evaluation.statistics import wilson
from failsafe.generation.sampling import COMPOUND, coverage_cell
from failsafe.perturbations import MODES
from failsafe.records.branches import count_branches
from failsafe.records.case import EXPERT, FailureCase, Outcome


def origin(manifest: Manifest | MinedManifest) -> dict[str, Any]:
    """Return what made a dataset.

    Args:
        manifest: Its manifest.
    """
    if not manifest.complete:
        raise SystemExit("expected a complete dataset: run its command again, it resumes")
    return {"command": manifest.command, "commit": (manifest.provenance.commit or "release")[:12]}


def generated_row(cases: Sequence[FailureCase]) -> dict[str, Any]:
    """Return the figures of some cases of a generated dataset.

    Args:
        cases: The cases.
    """
    failures = [case for case in cases if case.outcome is Outcome.FAILURE]
    proven = sum(any(label.proven for label in case.labels) for case in failures)
    worth = count_branches(label for case in failures for label in case.labels)
    return {
        "rollouts": len(cases),
        "failures": len(failures),
        "harmless": sum(case.outcome is Outcome.HARMLESS for case in cases),
        "corrected": proven,
        "share": proven / len(failures) if failures else None,
        "interval": wilson(proven, len(failures)),
        "corrections": worth.corrections,
        "cause_ends": worth.cause_ended,
        "plan_anew": worth.replanned,
        "needed": worth.needed,
        "needed_share": worth.needed / worth.corrections if worth.corrections else None,
        "needed_interval": wilson(worth.needed, worth.corrections),
    }


def summarise_generated(dataset: Dataset) -> dict[str, Any]:
    """Return the record of a generated dataset.

    Args:
        dataset: The dataset.
    """
    cases, manifest = list(dataset.cases()), read_manifest(dataset.path)
    modes: dict[str, list[FailureCase]] = defaultdict(list)
    for case in cases:
        modes[coverage_cell(case, manifest.config).mode].append(case)
    ordered = [*MODES.in_order(set(modes) - {COMPOUND}), *({COMPOUND} & set(modes))]
    levels: dict[str, list[FailureCase]] = defaultdict(list)
    for mode in ordered:
        levels[COMPOUND if mode == COMPOUND else MODES[mode].level.value] += modes[mode]
    tasks: dict[str, list[FailureCase]] = defaultdict(list)
    for case in cases:
        tasks[case.task].append(case)
    return {
        **origin(manifest),
        "total": generated_row(cases),
        "tasks": {name: generated_row(found) for name, found in tasks.items()},
        "levels": {name: generated_row(found) for name, found in levels.items()},
        "modes": {name: generated_row(modes[name]) for name in ordered},
    }


def mined_row(failures: Sequence[FailureCase], by_expert: bool) -> dict[str, Any]:
    """Return the figures of the corrections of mined failures after which one of two goes on.

    Args:
        failures: The failed episodes.
        by_expert: Whether the expert goes on, in place of the policy.
    """
    labels = [
        [label for label in case.labels if (label.verification.continuation == EXPERT) is by_expert]
        for case in failures
    ]
    worth = count_branches(label for found in labels for label in found)
    lengths = [len(x.correction.actions) for found in labels for x in found if x.proven and x.correction]
    corrected = sum(any(label.proven for label in found) for found in labels)
    needed = sum(any(label.needed for label in found) for found in labels)
    return {
        "episodes_corrected": [corrected, len(failures)],
        "corrected_interval": wilson(corrected, len(failures)),
        "with_a_needed_correction": [needed, len(failures)],
        "needed_interval": wilson(needed, len(failures)),
        "labelled_steps": sum(map(len, labels)),
        "proven": worth.corrections,
        "cause_ends": worth.cause_ended,
        "plan_anew": worth.replanned,
        "needed": worth.needed,
        "actions": statistics.median(lengths) if lengths else None,
    }


def summarise_mined(manifest: MinedManifest, cases: Iterable[FailureCase]) -> dict[str, Any]:
    """Return the record of a mined dataset.

    Args:
        manifest: Its manifest.
        cases: Its cases.
    """
    judged = [case for case in cases if case.outcome in (Outcome.FAILURE, Outcome.HARMLESS)]
    failures = [case for case in judged if case.outcome is Outcome.FAILURE]
    return {
        **origin(manifest),
        "episodes": len(judged),
        "failures": len(failures),
        "goes_on": {"the policy": mined_row(failures, False), "the expert": mined_row(failures, True)},
    }


def main() -> None:
    """Write the record of a dataset."""
    parser = argparse.ArgumentParser(description="Write what a dataset holds as a small JSON file.")
    parser.add_argument("data", type=Path, help="folder of a dataset, generated or mined")
    parser.add_argument("out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data)
    try:
        mined = read_mined_manifest(arguments.data)
    except RecordError:
        record = summarise_generated(dataset)
    else:
        record = summarise_mined(mined, dataset.cases())
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
