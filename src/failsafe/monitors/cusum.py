"""CUSUM detector: queries add up to a score.

A single assessment may be wrong, and a mean of the last few forgets: a tool that stalls beside the cube with
p = 0.95 in each of forty queries must not stay below a threshold that three queries of 0.97 exceed. The score
is therefore the cumulative sum of the log odds of failure, less a drift at each query, and never below zero,
because an episode may start to fail at any time (Page, "Continuous inspection schemes", Biometrika, 1954).
Summing treats queries as independent. They are not; the threshold accounts for that, because it is calibrated
on the scores of whole episodes.
"""

from __future__ import annotations

import math

MAX_PROBABILITY = 0.999
"""Probabilities are clipped to [1 - MAX_PROBABILITY, MAX_PROBABILITY], because models are overconfident."""


class CusumDetector:
    """The score of an episode.

    Args:
        drift: Log odds (natural logarithm) subtracted at each query: a probability of
            1 / (1 + exp(-drift)) adds nothing.
    """

    def __init__(self, drift: float) -> None:
        self._drift = drift
        self._sum = 0.0

    def add(self, probability: float) -> float:
        """Add the failure probability of one query, and return the score in log odds, at least 0.

        The score is rounded to the precision of its record, so that an episode never exceeds a threshold
        that was calibrated on it.
        """
        clipped = min(max(probability, 1 - MAX_PROBABILITY), MAX_PROBABILITY)
        self._sum = max(0.0, self._sum + math.log(clipped / (1 - clipped)) - self._drift)
        return round(self._sum, 6)

    def reset(self) -> None:
        """Set the score to 0."""
        self._sum = 0.0
