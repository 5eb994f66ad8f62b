"""The dataset card: what is in the folder, how it was made, what it covers, and under which licence."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from failsafe.datasets.files import write_atomically
from failsafe.datasets.manifest import Manifest
from failsafe.datasets.store import Dataset
from failsafe.datasets.tables import label_reason
from failsafe.generation.config import GenerationConfig
from failsafe.generation.sampling import COMPOUND, coverage_cell
from failsafe.records.branches import count_branches
from failsafe.records.case import FailureCase, NominalRecord, Outcome


def write_card(
    dataset: Dataset, manifest: Manifest, cases: Sequence[FailureCase], nominals: Sequence[NominalRecord]
) -> None:
    """Write `README.md` into the dataset; the same cases give the same bytes.

    Args:
        dataset: The dataset.
        manifest: Its manifest.
        cases: All its cases, in order.
        nominals: All its nominal rollouts, in order.
    """
    failed = sum(not n.success for n in nominals)
    categories = Counter(case.category for case in cases)
    versions = manifest.provenance.versions
    lines = [
        "# A dataset of robot failures with proven recoveries",
        "",
        f"Made by FailSafe {versions.get('failsafe-vla', '')}: every failure has a nominal rollout that "
        "succeeds from the same seed, and every correction was proven by rollout: from the same state, "
        "without it the episode fails, with it it succeeds.",
        "",
        "## How it was made",
        "```",
        manifest.command,
        "```",
        "`failsafe generate --manifest manifest.json --out FOLDER` makes it again with exactly these "
        "settings, the magnitudes and moments of each mode among them. "
        f"Commit `{manifest.provenance.commit or 'release'}`"
        f"{' with uncommitted changes' if manifest.provenance.dirty else ''}; "
        + ", ".join(f"{k} {v}" for k, v in sorted(versions.items()))
        + ".",
        "",
        "## What is in it",
        f"{len(cases)} perturbed episodes of {len(manifest.config.tasks)} task(s) over "
        f"{len({(c.task, c.seed) for c in cases})} initial states: "
        + ", ".join(f"{n} {category}" for category, n in sorted(categories.items()))
        + f". {failed} of {len(nominals)} unperturbed rollouts did not succeed and were "
        "left out.",
        "",
        "`cases/` and `nominal/` hold one file an episode (record and traces, NumPy `.npz` without pickles), "
        "`tables/*.parquet` the same facts for queries. Poses are in the robot's base frame (m, quaternion "
        "wxyz); actions are `[dx, dy, dz, rx, ry, rz, gripper]` (m, rotation vector in rad, -1 closed to +1 "
        "open), one row a control step.",
        "",
        "## Which corrections are needed",
        *_branches(cases),
        "",
        "## Coverage",
        *_mode_table(cases, manifest.config),
        "",
        "## Why some failures have no correction",
        *_reasons(cases),
        "",
        "## Licence",
        *_licences(nominals),
        "",
    ]
    write_atomically(dataset.path / "README.md", "\n".join(lines).encode())


def _branches(cases: Iterable[FailureCase]) -> list[str]:
    worth = count_branches(label for case in cases for label in case.labels)
    lines = [
        f"{worth.corrections} labelled steps have a proven correction. From the same state, without it:",
        "",
        f"- at {worth.cause_ended} it is enough that the cause ends and the expert goes on with its plan;",
        f"- at {worth.replanned} others it is enough that the expert plans anew;",
        f"- at {worth.needed} neither is enough: these corrections are **needed**.",
    ]
    if worth.unknown:
        lines.append(f"- At {worth.unknown} it is not known, because an older version tried fewer branches.")
    return lines


def _licences(nominals: Iterable[NominalRecord]) -> list[str]:
    licences: dict[str, set[str]] = defaultdict(set)
    for nominal in nominals:
        licences[nominal.asset_licence].add(nominal.task)
    lines = [
        f"Images rendered of {', '.join(sorted(tasks))} show assets licensed **{licence}**, which goes for "
        "the images, too."
        for licence, tasks in sorted(licences.items())
        if licence
    ]
    return [*lines, "The records and traces themselves hold no assets."]


def _mode_table(cases: Iterable[FailureCase], config: GenerationConfig) -> list[str]:
    by_mode: dict[tuple[str, str], list[FailureCase]] = defaultdict(list)
    for case in cases:
        by_mode[(case.task, coverage_cell(case, config).mode)].append(case)
    lines = [
        "| task | mode | tried | failures | with a proven correction | corrections | needed | harmless "
        "| other |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for task, mode in itertools.product(config.tasks, (*config.modes, COMPOUND)):
        group = by_mode.get((task, mode), [])
        failures = [c for c in group if c.outcome is Outcome.FAILURE]
        harmless = sum(c.outcome is Outcome.HARMLESS for c in group)
        proven = sum(c.verified for c in failures)
        share = f"{proven} ({proven / len(failures):.0%})" if failures else "none"
        other = len(group) - len(failures) - harmless
        worth = count_branches(label for case in failures for label in case.labels)
        lines.append(
            f"| {task} | {mode} | {len(group)} | {len(failures)} | {share} | {worth.corrections} "
            f"| {worth.needed} | {harmless} | {other} |"
        )
    return lines


def _reasons(cases: Iterable[FailureCase]) -> list[str]:
    reasons: Counter[tuple[str, str]] = Counter()
    for case in cases:
        if case.category == "unrecoverable":
            for reason in sorted({label_reason(label) for label in case.labels}):
                reasons[(" and ".join(p.mode for p in case.perturbations), reason)] += 1
    if not reasons:
        return ["Every failure has one."]
    lines = ["| mode | reason | failures |", "|---|---|---:|"]
    return lines + [f"| {mode} | {reason} | {n} |" for (mode, reason), n in sorted(reasons.items())]
