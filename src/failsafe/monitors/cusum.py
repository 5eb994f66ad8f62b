"""How looks add up to a score: Page's cumulative sum of the log odds of failure.

A single look may be wrong, and a mean of a few forgets: a tool that stands still beside the cube, with 0.95
in each of forty looks, must not stay below a threshold that three looks of 0.97 would pass. So log odds are
added up, as they would be of looks that know nothing of each other, less an allowance at each; below zero
there is nothing to remember, for an episode may begin to fail at any moment (Page, "Continuous inspection
schemes", Biometrika, 1954). What looks do know of each other the threshold makes up for: it comes of whole
episodes.
"""

from __future__ import annotations

import math

SUREST = 0.999
"""No look counts as more than this probability, or as less than one minus it: models are surer of themselves
than they should be."""


class CusumDetector:
    """What the looks of an episode say together.

    Args:
        drift: Log odds (natural logarithm) taken off at each look: a probability of
            1 / (1 + exp(-allowance)) adds nothing.
    """

    def __init__(self, drift: float) -> None:
        self._allowance = drift
        self._sum = 0.0

    def add(self, probability: float) -> float:
        """One more look, and the score with it: log odds that have added up, at least 0.

        Rounded as it is recorded: an episode that a threshold was taken from must not exceed it.
        """
        sure = min(max(probability, 1 - SUREST), SUREST)
        self._sum = max(0.0, self._sum + math.log(sure / (1 - sure)) - self._allowance)
        return round(self._sum, 6)

    def forget(self) -> None:
        """Nothing has been seen yet."""
        self._sum = 0.0
