"""Where to hand back: the probability that the policy succeeds if it gets back control now.

A correction is worth what the base policy makes of it. Where that is little, the monitor goes on as the
expert and hands back later. `failsafe.evaluation.hand_backs` learns the probability from recorded episodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from failsafe.errors import RecordError

_LARGEST_ODDS = 7.0
"""Largest log odds of a failure: a recovery model is taken to be no surer than 1 in 1000."""


@dataclass(frozen=True)
class HandBackModel:
    """Predicts whether a policy succeeds after a hand-back, by a logistic regression.

    The log odds of a success are the sum of four terms. A stage that was not seen adds 0.

    Attributes:
        instructions: The term of each instruction.
        stages: By instruction, the term of each stage, as the recovery model names it at the hand-back.
        takeovers: Coefficient of the natural logarithm of the number of takeovers of the episode so far.
        failing: Coefficient of the log odds of a failure, as the recovery model sees it at the hand-back.
        hand_backs: Number of hand-backs that it was learned from.
        successes: Number of those after which the policy succeeded.
        auroc: Area under the ROC curve in cross-validation over initial states; None if all hand-backs ended
            alike.
        auroc_interval: Its 95 % bootstrap interval over initial states; None where undefined.
        brier: Brier score (mean squared error) of the predicted probabilities in the same cross-validation.
        brier_of_rate: Brier score of the rate of successes of all hand-backs, to compare with. It is not
            cross-validated.
        seeds: Seeds of the evaluations that it was learned from: first and one past the last of each.

    Raises:
        RecordError: If a term is not finite, or a count, a score or a range of seeds is impossible.
    """

    instructions: dict[str, float]
    stages: dict[str, dict[str, float]]
    takeovers: float
    failing: float
    hand_backs: int
    successes: int
    auroc: float | None = None
    auroc_interval: tuple[float, float] | None = None
    brier: float | None = None
    brier_of_rate: float | None = None
    seeds: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no regression gives."""
        of_stages = (term for terms in self.stages.values() for term in terms.values())
        if not all(
            map(math.isfinite, (*self.instructions.values(), *of_stages, self.takeovers, self.failing))
        ):
            raise RecordError("expected finite terms of a hand-back model, got others")
        if not 0 <= self.successes <= self.hand_backs:
            raise RecordError(
                f"expected at most as many successes as hand-backs, got {self.successes} of {self.hand_backs}"
            )
        scores = [one for one in (self.auroc, self.brier, self.brier_of_rate) if one is not None]
        low, high = self.auroc_interval or (0.0, 1.0)
        if not (all(0.0 <= one <= 1.0 for one in scores) and 0.0 <= low <= high <= 1.0):
            raise RecordError(
                f"expected scores of a hand-back model from 0 to 1, got auroc {self.auroc}, auroc_interval "
                f"{self.auroc_interval}, brier {self.brier}, brier_of_rate {self.brier_of_rate}"
            )
        for first, last in self.seeds:
            if not 0 <= first < last:
                raise RecordError(f"expected seeds as first and one past the last, got {first} and {last}")

    @property
    def origin(self) -> str:
        """What it was learned from and how well it predicts, in words."""
        learned = f"learned from {self.hand_backs} hand-backs, {self.successes} of them successes"
        area = "undefined, for all ended alike" if self.auroc is None else f"{self.auroc:.2f}"
        if self.auroc_interval is not None:
            area += " ({:.2f} to {:.2f})".format(*self.auroc_interval)
        return f"{learned}; area under the ROC curve in cross-validation {area}"

    def probability(
        self, instruction: str, stage: str, takeovers: int, failure_probability: float
    ) -> float | None:
        """Return the probability that the policy succeeds if it gets back control now.

        Args:
            instruction: The instruction of the episode.
            stage: Stage that the recovery model recognizes.
            takeovers: Takeovers of the episode so far, at least 1.
            failure_probability: The recovery model's probability of failure, 0 to 1.

        Returns:
            The probability; None for an instruction that it was not learned from.
        """
        if instruction not in self.instructions:
            return None
        odds = self.instructions[instruction] + self.stages.get(instruction, {}).get(stage, 0.0)
        odds += self.takeovers * math.log(takeovers) + self.failing * log_odds(failure_probability)
        return sigmoid(odds)


def log_odds(probability: float) -> float:
    """Return the log odds of a probability, at most 7 and at least -7."""
    bounded = min(max(probability, 1e-9), 1.0 - 1e-9)
    return min(max(math.log(bounded / (1.0 - bounded)), -_LARGEST_ODDS), _LARGEST_ODDS)


def sigmoid(odds: float) -> float:
    """Return the probability of some log odds."""
    return 1.0 / (1.0 + math.exp(-min(max(odds, -50.0), 50.0)))
