"""Which candidates are tried, in which order, and which are screened first.

What a partition has found so far says which strategies fail under a perturbation mode. A candidate of a
strategy that mostly fails is tried from an inexact branch first, which takes no replayed prefix. Only if it
succeeds there is it tried from an exact branch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from failsafe.generation.corrections import Candidate
from failsafe.records.case import FailureCase, RecoveryStrategy

MAX_ATTEMPTS = 4
"""Candidates of each strategy that are tried for one label, shortest first."""
_PRIOR_FAILURES, _PRIOR_TRIES = 1.0, 4.0
"""What a strategy is taken to have done before anything is known about it."""


class CandidateStatistics:
    """How often each recovery strategy failed, by perturbation mode.

    The numbers depend on the cases of one partition only, in their order. A partition that is resumed
    therefore goes on with the same numbers.
    """

    def __init__(self) -> None:
        self._tries: Counter[tuple[str, RecoveryStrategy]] = Counter()
        self._failures: Counter[tuple[str, RecoveryStrategy]] = Counter()

    def learn(self, case: FailureCase) -> None:
        """Take note of every candidate that was tried for a case."""
        mode = case.perturbations[0].mode
        for label in case.labels:
            for attempt in label.verification.attempts:
                self._tries[(mode, attempt.strategy)] += 1
                self._failures[(mode, attempt.strategy)] += not attempt.success

    def failure_rate(self, mode: str, strategy: RecoveryStrategy) -> float:
        """Return the expected share of candidates that fail, 0 to 1.

        Args:
            mode: Name of the perturbation mode.
            strategy: The recovery strategy of the candidate.
        """
        key = (mode, strategy)
        return (self._failures[key] + _PRIOR_FAILURES) / (self._tries[key] + _PRIOR_TRIES)

    def select(self, mode: str, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates to try, shortest first.

        Of equally short ones, the strategy that failed least often under this mode comes first.

        Args:
            mode: Name of the perturbation mode.
            candidates: All candidates, shortest first.
        """
        counts: Counter[RecoveryStrategy] = Counter()
        selected: list[Candidate] = []
        for candidate in candidates:
            counts[candidate.strategy] += 1
            if counts[candidate.strategy] <= MAX_ATTEMPTS:
                selected.append(candidate)
        return sorted(selected, key=lambda c: (len(c.actions), self.failure_rate(mode, c.strategy)))

    def screens(self, mode: str, candidate: Candidate, prefix: int, rest: int) -> bool:
        """Return whether screening a candidate is expected to save control steps.

        Screening costs `rest` steps, and saves `prefix + rest` steps if the candidate fails.

        Args:
            mode: Name of the perturbation mode.
            candidate: The candidate.
            prefix: Control steps of the replayed prefix of an exact branch.
            rest: Control steps expected from there to the end.
        """
        return self.failure_rate(mode, candidate.strategy) * (prefix + rest) > rest
