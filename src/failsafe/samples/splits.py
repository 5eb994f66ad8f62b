"""Splits by seed: everything that starts from one initial state is in one split, for every task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from failsafe.errors import RecordError
from failsafe.samples.sample import Sample

SPLITS = ("train", "validation", "calibration", "test")
_SHARES = (0.70, 0.05, 0.10, 0.15)
"""Share of the seeds in each split."""


def split_of(seed: int) -> str:
    """Return the split of a seed; it is the same for every task and dataset."""
    share = int.from_bytes(hashlib.sha256(f"split {seed}".encode()).digest()[:4], "big") / 2**32
    for name, edge in zip(SPLITS, np.cumsum(_SHARES), strict=True):
        if share < edge:
            return name
    return SPLITS[-1]


def check_leaks(samples: Iterable[Sample]) -> None:
    """Check that every seed is in one split only and that every name is unique.

    Raises:
        RecordError: Naming the first seed or sample that violates this.
    """
    split_by_seed: dict[int, str] = {}
    names: set[str] = set()
    for sample in samples:
        before = split_by_seed.setdefault(sample.seed, sample.split)
        if before != sample.split:
            raise RecordError(
                f"expected every seed in one split, got seed {sample.seed} in {before} and {sample.split}: "
                "make the samples again with `failsafe samples`"
            )
        if sample.name in names:
            raise RecordError(f"expected unique sample names, got {sample.name} twice")
        names.add(sample.name)
