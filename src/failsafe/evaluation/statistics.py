"""Uncertainty of a figure: Wilson's interval, McNemar's exact test, the bootstrap over seeds."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 1000


def wilson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Wilson's score interval of a share; None where there were no trials.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if trials == 0:
        return None
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    whole = 1 + z * z / trials
    # At the ends the interval closes exactly; rounding would leave 1e-17.
    low = 0.0 if successes == 0 else (middle - half) / whole
    high = 1.0 if successes == trials else (middle + half) / whole
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value of McNemar's test on pairs, for example of episodes with one seed.

    Args:
        only_first: Pairs of which the first alone succeeded.
        only_second: Pairs of which the second alone succeeded.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions, 1947;
    exact by the binomial distribution of the pairs that disagree.
    """
    pairs = only_first + only_second
    return 1.0 if pairs == 0 else float(stats.binomtest(only_first, pairs).pvalue)


class SeedBootstrap:
    """Resamples of seeds: whole seeds are drawn with replacement, since rows of one seed are alike.

    The first "resample" holds every seed once: it gives the figure itself. Equal sets of seeds are resampled
    alike, so that figures of two sample sets with the same seeds can be subtracted resample by resample.

    Args:
        seeds: Seed of each row. [N]
        resamples: Number of resamples R.

    Attributes:
        counts: How often each seed is in each resample. [R+1, S]
        index: For each row, the column of its seed in `counts`. [N]
    """

    def __init__(self, seeds: Int[np.ndarray, "N"], resamples: int = RESAMPLES) -> None:
        self.seeds, self.index = np.unique(seeds, return_inverse=True)
        number = len(self.seeds)
        rng = np.random.default_rng([*self.seeds.tolist(), number])
        drawn = rng.multinomial(number, np.full(number, 1 / number), size=resamples) if number else []
        self.counts = np.concatenate([np.ones((1, number)), np.reshape(drawn, (-1, number))])

    def total(self, columns: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "R1 C"]:
        """Sum of each column over the rows of each resample."""
        per_seed = np.zeros((len(self.seeds), columns.shape[1]))
        np.add.at(per_seed, self.index, columns)
        return self.counts @ per_seed

    def concordance(
        self, scores: Float[np.ndarray, "N"], truth: Int[np.ndarray, "N"]
    ) -> Float[np.ndarray, "R1"]:
        """Area under the ROC curve in each resample: how often a true row scores above a false one.

        Ties count half; NaN where one of the two sorts is missing.
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


def interval(resampled: Float[np.ndarray, "R"], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Percentile interval of resampled figures; None where most resamples have no figure."""
    known = resampled[np.isfinite(resampled)]
    if len(known) == 0 or len(known) < len(resampled) / 2:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail]).tolist()
    return low, high
