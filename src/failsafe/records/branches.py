"""What proven corrections are worth: how many of them are needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from failsafe.records.case import Label


@dataclass(frozen=True)
class BranchCounts:
    """Numbers of proven corrections, by the branches of their proofs.

    Attributes:
        corrections: All proven corrections.
        cause_ended: Those without which it is enough that the cause ends.
        replanned: Those without which it is enough that the continuation plans anew.
        needed: Those without which neither is enough.
    """

    corrections: int
    cause_ended: int
    replanned: int
    needed: int

    @property
    def unknown(self) -> int:
        """Number of corrections whose branches were not all tried: proven before these branches existed."""
        return self.corrections - self.cause_ended - self.replanned - self.needed


def count_branches(labels: Iterable[Label]) -> BranchCounts:
    """Count proven corrections.

    Args:
        labels: Labels of any cases; those without a proven correction are left out.
    """
    proofs = [label.verification for label in labels if label.proven]
    return BranchCounts(
        corrections=len(proofs),
        cause_ended=sum(proof.cause_ended_succeeds is True for proof in proofs),
        replanned=sum(proof.replanned_succeeds is True for proof in proofs),
        needed=sum(proof.needed for proof in proofs),
    )
