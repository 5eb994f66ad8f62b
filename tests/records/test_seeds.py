"""Every seed has one role, and what is kept for proof and calibration is not trained on."""

from __future__ import annotations

import itertools
import re

import pytest

from failsafe.errors import UserError
from failsafe.generation.config import GenerationConfig
from failsafe.records.seeds import RANGES, SeedRole, check_trainable, role_of
from failsafe.samples.demonstrations import DemonstrationConfig


def test_the_ranges_are_disjoint() -> None:
    every = sorted((r for ranges in RANGES.values() for r in ranges), key=lambda r: r.start)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(every))


@pytest.mark.parametrize(
    ("first", "last", "role"),
    [
        (0, 5000, "train"),
        (10_000, 100_000, "train"),
        (300_000, 400_000, "train"),
        (500_000, 700_000, "train"),
        (1_000_000, 2**31, "train"),
        (5000, 5100, "develop"),  # everything that was evaluated before there were roles
        (6000, 6030, "develop"),
        (7000, 7050, "develop"),
        (100_000, 200_000, "develop"),
        (200_000, 300_000, "develop"),
        (400_000, 400_200, "develop"),
        (420_000, 420_100, "develop"),
        (700_000, 701_000, "develop"),
        (800_000, 900_000, "calibrate"),
        (900_000, 1_000_000, "proof"),
    ],
)
def test_the_role_of_a_range(first: int, last: int, role: str) -> None:
    assert role_of(range(first, last)) is SeedRole(role)


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        (4990, 5010, "got 4990:5010, of which 5000:5010 are for 'develop' and the others are not"),
        (9990, 10_010, "9990:10000 are for 'develop'"),
        (899_999, 900_001, "of one role"),
        (0, 100_000, "5000:10000 are for 'develop'"),
        (999_999, 1_000_001, "999999:1000000 are for 'proof'"),
    ],
)
def test_seeds_of_two_roles_are_refused(first: int, last: int, sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        role_of(range(first, last))


def test_what_is_kept_is_not_trained_on() -> None:
    check_trainable(range(100_000))
    for first, last in ((799_999, 800_001), (900_000, 900_001), (0, 2_000_000)):
        with pytest.raises(UserError, match="expected seeds that may be trained on"):
            check_trainable(range(first, last))
    with pytest.raises(UserError, match="expected seeds that may be trained on"):
        DemonstrationConfig(("ToyPick-v0",), 1, first_seed=900_000)


def test_a_dataset_is_of_proof_seeds_alone_or_has_none() -> None:
    GenerationConfig(("ToyPick-v0",), 1)
    GenerationConfig(("ToyPick-v0",), 1, first_seed=900_000, last_seed=910_000)
    with pytest.raises(UserError, match="900000:1000000 are for 'proof'"):
        GenerationConfig(("ToyPick-v0",), 1, first_seed=0, last_seed=2_000_000)
