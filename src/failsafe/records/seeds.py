"""Roles of seeds: every seed of an initial state belongs to one role, so that no seed both chooses and proves.

| role | what it is for | seeds |
|---|---|---|
| train | datasets and demonstrations that train models and policies | all that are not listed below |
| develop | evaluations that choose something; all figures before the proof | 5,000 to 9,999; 100,000 to 299,999; 400,000 to 499,999; 700,000 to 799,999 |
| calibrate | alarm thresholds | 800,000 to 899,999 |
| proof | evaluations and offline test sets that prove something, once, by a protocol | 900,000 to 999,999 |

The development seeds include all that were evaluated, calibrated on, or held out as an offline test set before the
roles existed, except the test split of the dataset `all` (seeds below 100,000), whose role is train.
"""  # noqa: E501 -- a table

from __future__ import annotations

import enum
from collections.abc import Mapping

from failsafe.errors import UserError


class SeedRole(str, enum.Enum):
    """What a seed is for."""

    TRAIN = "train"
    DEVELOP = "develop"
    CALIBRATE = "calibrate"
    PROOF = "proof"


RANGES: Mapping[SeedRole, tuple[range, ...]] = {
    SeedRole.DEVELOP: (
        range(5_000, 10_000),
        range(100_000, 300_000),
        range(400_000, 500_000),
        range(700_000, 800_000),
    ),
    SeedRole.CALIBRATE: (range(800_000, 900_000),),
    SeedRole.PROOF: (range(900_000, 1_000_000),),
}
"""The seeds of every role but `TRAIN`, which has all others."""


def role_of(seeds: range) -> SeedRole:
    """Return the role of a range of seeds.

    Args:
        seeds: The seeds, in steps of 1.

    Raises:
        UserError: If they are of more than one role.
    """
    for role, ranges in RANGES.items():
        for known in ranges:
            inside = range(max(seeds.start, known.start), min(seeds.stop, known.stop))
            if inside and len(inside) < len(seeds):
                raise UserError(
                    f"expected seeds of one role, got {text_of(seeds)}, of which {text_of(inside)} are for "
                    f"'{role.value}' and the others are not: choose seeds within {text_of(known)}, or outside"
                )
            if inside:
                return role
    return SeedRole.TRAIN


def check_trainable(seeds: range) -> None:
    """Check that seeds may be trained on: those of calibration and of proof may not.

    Args:
        seeds: The seeds.

    Raises:
        UserError: If one is kept for calibration or proof.
    """
    for role in (SeedRole.CALIBRATE, SeedRole.PROOF):
        for known in RANGES[role]:
            if max(seeds.start, known.start) < min(seeds.stop, known.stop):
                raise UserError(
                    f"expected seeds that may be trained on, got {text_of(seeds)}; {text_of(known)} are kept "
                    f"for '{role.value}': make the data with other seeds, or a test set of them alone"
                )


def check_unmixed(seeds: range) -> None:
    """Check that a dataset is of proof seeds alone, or has none.

    Args:
        seeds: The seeds of the dataset.

    Raises:
        UserError: If it has some and others.
    """
    for known in RANGES[SeedRole.PROOF]:
        inside = range(max(seeds.start, known.start), min(seeds.stop, known.stop))
        if inside and len(inside) < len(seeds):
            raise UserError(
                f"expected a dataset of proof seeds alone or of none, got {text_of(seeds)}, of which "
                f"{text_of(inside)} are for '{SeedRole.PROOF.value}': choose seeds outside {text_of(known)}"
            )


def text_of(seeds: range) -> str:
    """Return a range of seeds as FIRST:LAST, the last not included."""
    return f"{seeds.start}:{seeds.stop}"
