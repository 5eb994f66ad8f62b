"""Statistics with uncertainty: Wilson interval, exact paired tests, bootstrap over seeds."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

CONFIDENCE = 0.95
RESAMPLES = 1000


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Compute the Wilson score interval of a success rate.

    Args:
        successes: Number of successes.
        trials: Number of trials.
        confidence: Confidence level, 0 to 1.

    Returns:
        Lower and upper end; None without trials.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if trials == 0:
        return None
    from scipy.special import ndtri  # here: SciPy takes longer to import than most verbs run

    z = float(ndtri(0.5 + confidence / 2))
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    whole = 1 + z * z / trials
    # Exact ends; rounding would leave 1e-17.
    low = 0.0 if successes == 0 else (middle - half) / whole
    high = 1.0 if successes == trials else (middle + half) / whole
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """Compute the exact two-sided p-value of McNemar's test on paired outcomes.

    Args:
        only_first: Number of pairs in which only the first succeeded.
        only_second: Number of pairs in which only the second succeeded.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions, 1947;
    exact by the binomial distribution of the pairs that disagree.
    """
    from scipy.stats import binomtest  # here: it takes half a second to import

    pairs = only_first + only_second
    return 1.0 if pairs == 0 else float(binomtest(only_first, pairs).pvalue)


def sign_flip(differences: Sequence[int]) -> float:
    """Compute the exact two-sided p-value of a sign-flip test on differences of paired counts.

    Under the null hypothesis every difference is as likely with the opposite sign. With differences of 1 and
    -1 the test is McNemar's. It also holds where one initial state is paired several times, if its pairs are
    summed to one difference.

    Args:
        differences: One difference for each independent unit.

    Source: R. A. Fisher, The Design of Experiments, 1935, section 21.
    """
    sizes = [abs(difference) for difference in differences if difference]
    chances = np.ones(1)  # of every sum, from minus the largest to the largest
    for size in sizes:
        either = np.zeros(len(chances) + 2 * size)
        either[: len(chances)] += chances / 2
        either[2 * size :] += chances / 2
        chances = either
    sums = np.abs(np.arange(len(chances)) - sum(sizes))
    return min(1.0, float(np.sum(chances[sums >= abs(sum(differences))])))


def rate_interval(outcomes: Sequence[bool], units: Sequence[int]) -> tuple[float, float] | None:
    """Compute the interval of a success rate: Wilson's, or by bootstrap where a unit has several outcomes.

    If all outcomes are equal, Wilson's interval of the units is returned.

    Args:
        outcomes: Whether each trial succeeded. [N]
        units: Number of the independent unit, such as the initial state, of each trial. [N]

    Returns:
        Lower and upper end; None without trials.
    """
    number = len(set(units))
    if number == len(units):
        return wilson(sum(outcomes), number)
    if len(set(outcomes)) == 1:  # a bootstrap of equal outcomes would state no uncertainty
        return wilson(number if outcomes[0] else 0, number)
    columns = np.stack([np.array(outcomes, dtype=np.float64), np.ones(len(outcomes))], axis=1)
    total = SeedBootstrap(np.array(units, dtype=np.int64)).total(columns)
    return interval(total[1:, 0] / total[1:, 1])


def gain_interval(differences: Sequence[int], units: Sequence[int]) -> tuple[float, float] | None:
    """Compute the bootstrap interval over units of the mean of paired differences.

    Args:
        differences: Difference of each pair: 1, 0 or -1. [N]
        units: Number of the independent unit, such as the initial state, of each pair. [N]

    Returns:
        Lower and upper end; None without pairs.
    """
    if not differences:
        return None
    columns = np.stack([np.array(differences, dtype=np.float64), np.ones(len(differences))], axis=1)
    total = SeedBootstrap(np.array(units, dtype=np.int64)).total(columns)
    return interval(total[1:, 0] / total[1:, 1])


class SeedBootstrap:
    """Bootstrap over seeds: whole seeds are drawn with replacement, because rows of one seed are correlated.

    The first "resample" holds every seed once: it gives the point estimate. Equal sets of seeds get equal
    resamples, so metrics of two sample sets with the same seeds can be subtracted resample by resample.

    Args:
        seeds: Seed of each row. [N]
        resamples: Number of resamples R.

    Attributes:
        counts: Number of times each seed is in each resample. [R+1, S]
        index: Column of each row's seed in `counts`. [N]
    """

    def __init__(self, seeds: Int[np.ndarray, "N"], resamples: int = RESAMPLES) -> None:
        self.seeds, self.index = np.unique(seeds, return_inverse=True)
        self.counts = _counts(tuple(self.seeds.tolist()), resamples)

    def total(self, columns: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "R1 C"]:
        """Sum each column over the rows of each resample."""
        per_seed = np.zeros((len(self.seeds), columns.shape[1]))
        np.add.at(per_seed, self.index, columns)
        return self.counts @ per_seed

    def concordance(
        self, scores: Float[np.ndarray, "N"], truth: Int[np.ndarray, "N"]
    ) -> Float[np.ndarray, "R1"]:
        """Compute the area under the ROC curve in each resample; ties count half.

        Args:
            scores: Score of each row.
            truth: 1 for positive rows, 0 for negative rows.

        Returns:
            The area of each resample; NaN without positive or without negative rows.
        """
        yes, no = truth > 0, truth == 0
        # above[s, t]: pairs of a true row of seed s and a false row of seed t in the right order. Summed by
        # the seeds' counts it gives every resample, which spares comparing rows a thousand times.
        above = np.zeros((len(self.seeds), len(self.seeds)))
        for column in range(len(self.seeds)):
            others = np.sort(scores[no & (self.index == column)])
            below = np.searchsorted(others, scores[yes], "left") + np.searchsorted(
                others, scores[yes], "right"
            )
            above[:, column] = np.bincount(self.index[yes], below / 2, len(self.seeds))
        right = np.sum((self.counts @ above) * self.counts, axis=1)
        pairs = self.counts @ np.bincount(self.index[yes], minlength=len(self.seeds))
        pairs = pairs * (self.counts @ np.bincount(self.index[no], minlength=len(self.seeds)))
        return np.divide(right, pairs, out=np.full(len(right), np.nan), where=pairs > 0)


@functools.lru_cache(maxsize=8)
def _counts(seeds: tuple[int, ...], resamples: int) -> Float[np.ndarray, "R1 S"]:
    """Draw the resamples of a set of seeds. Cached: the metrics of a table have the same seeds."""
    number = len(seeds)
    rng = np.random.default_rng([*seeds, number])
    drawn = rng.multinomial(number, np.full(number, 1 / number), size=resamples) if number else []
    counts = np.concatenate([np.ones((1, number)), np.reshape(drawn, (-1, number))])
    counts.flags.writeable = False
    return counts


def interval(resampled: Float[np.ndarray, "R"], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Compute the percentile interval of resampled values.

    Args:
        resampled: Values, NaN where undefined.
        confidence: Confidence level, 0 to 1.

    Returns:
        Lower and upper end; None if most values are undefined.
    """
    known = resampled[np.isfinite(resampled)]
    if len(known) == 0 or len(known) < len(resampled) / 2:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail]).tolist()
    return low, high
