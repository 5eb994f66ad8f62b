"""Intervals and tests against values worked out by hand or by brute force."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failsafe.evaluation.statistics import SeedBootstrap, interval, mcnemar, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0)],
)
def test_wilson(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_wilson_of_nothing_is_nothing() -> None:
    assert wilson(0, 0) is None


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 5, 2 / 2**5),
        (1, 7, 2 * (1 + 8) / 2**8),
        (7, 1, 2 * (1 + 8) / 2**8),
    ],
)
def test_mcnemar(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(p)


def test_the_first_resample_is_the_data_and_all_draw_as_many_seeds() -> None:
    bootstrap = SeedBootstrap(np.array([7, 3, 7, 9]), 50)
    assert bootstrap.counts.shape == (51, 3)
    np.testing.assert_array_equal(bootstrap.counts[0], [1, 1, 1])
    np.testing.assert_array_equal(bootstrap.counts.sum(axis=1), 3)
    # Columns 1 and 2 of the rows of the seeds 3 | 7 7 | 9.
    totals = bootstrap.total(np.array([[1.0, 0.0], [2.0, 1.0], [4.0, 0.0], [8.0, 1.0]]))
    np.testing.assert_array_equal(totals[0], [15, 2])
    np.testing.assert_array_equal(totals, bootstrap.counts @ np.array([[2.0, 1], [5, 0], [8, 1]]))


def test_whole_seeds_are_drawn_so_that_copies_of_a_row_teach_nothing() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(40)
    once, often = SeedBootstrap(np.arange(40), 2000), SeedBootstrap(np.repeat(np.arange(40), 25), 2000)
    narrow = interval(once.total(values[:, None])[1:, 0] / 40)
    wide = interval(often.total(np.repeat(values, 25)[:, None])[1:, 0] / 1000)
    assert narrow == pytest.approx(wide)
    # As wide as the central limit theorem has it: 1.96 standard errors to either side.
    assert narrow is not None
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * values.std() / np.sqrt(40), rel=0.1)


def test_equal_seeds_are_resampled_alike_whatever_their_order() -> None:
    first, second = SeedBootstrap(np.array([1, 2, 3, 3]), 20), SeedBootstrap(np.array([3, 1, 2]), 20)
    np.testing.assert_array_equal(first.counts, second.counts)
    assert not np.array_equal(first.counts, SeedBootstrap(np.array([1, 2, 4]), 20).counts)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=25))
def test_concordance_is_the_share_of_pairs_in_order(rows: list[tuple[int, int, int]]) -> None:
    seeds, scores, truth = (np.array(column) for column in zip(*rows, strict=True))
    bootstrap = SeedBootstrap(seeds, 3)
    got = bootstrap.concordance(scores.astype(float), truth)
    for resample, counts in enumerate(bootstrap.counts):
        copies = np.repeat(np.arange(len(rows)), counts[bootstrap.index].astype(int))
        yes, no = scores[copies][truth[copies] > 0], scores[copies][truth[copies] == 0]
        if len(yes) and len(no):
            above = (yes[:, None] > no).mean() + (yes[:, None] == no).mean() / 2
            assert got[resample] == pytest.approx(above)
        else:
            assert np.isnan(got[resample])


def test_an_interval_of_what_mostly_is_not_there_is_none() -> None:
    assert interval(np.array([])) is None
    assert interval(np.array([1.0, np.nan, np.nan])) is None
    assert interval(np.linspace(0.0, 1.0, 1001)) == pytest.approx((0.025, 0.975))


def test_a_thousand_resamples_of_three_thousand_rows_take_a_moment() -> None:
    rng = np.random.default_rng(0)
    begun = time.process_time()
    bootstrap = SeedBootstrap(rng.integers(0, 300, 3000), 1000)
    bootstrap.total(rng.random((3000, 40)))
    bootstrap.concordance(rng.random(3000), rng.integers(0, 2, 3000))
    assert time.process_time() - begun < 2.0
