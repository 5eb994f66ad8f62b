"""What a reader of an evaluation must know beside its figures, in sentences that follow from its records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from failsafe.evaluation.conditions import CONDITIONS
from failsafe.evaluation.results import StudyManifest
from failsafe.records.episode import Episode
from failsafe.records.event import EventKind
from failsafe.records.seeds import SeedRole, text_of
from failsafe.sources import OWN

_ANSWERED = (EventKind.QUERY, EventKind.CHECK)
_FAILED = (EventKind.FAULT, EventKind.LATE, EventKind.UNREADABLE)
_ROLES = {
    SeedRole.TRAIN: "seeds of the training range: check that nothing here was trained on them",
    SeedRole.DEVELOP: "development seeds: they may have chosen something that is evaluated here",
    SeedRole.CALIBRATE: "calibration seeds",
    SeedRole.PROOF: "proof seeds",
}


@dataclass(frozen=True)
class Faults:
    """The queries of the monitor in one cell of an evaluation.

    Attributes:
        task: Name of the task.
        scenario: Name of the scenario.
        policy: The base policy.
        condition: The condition.
        queries: Number of queries.
        failed: Number of those that gave no assessment: faults, late and unreadable answers.
        reason: The most frequent reason.
    """

    task: str
    scenario: str
    policy: str
    condition: str
    queries: int
    failed: int
    reason: str

    @property
    def where(self) -> str:
        """The cell, in words."""
        return f"{self.task}, scenario {self.scenario}, with {self.policy} under '{self.condition}'"

    @property
    def all_failed(self) -> bool:
        """Whether the monitor never got an assessment, so that it did nothing."""
        return self.failed == self.queries


def find_faults(episodes: Iterable[Episode]) -> list[Faults]:
    """Return the cells in which a query of the monitor failed, in a fixed order.

    Args:
        episodes: Records of the evaluation.
    """
    queries: Counter[tuple[str, str, str, str]] = Counter()
    reasons: dict[tuple[str, str, str, str], Counter[str]] = defaultdict(Counter)
    for episode in episodes:
        key = episode.key
        cell = (key.task, key.scenario, key.policy, key.condition)
        for event in episode.events:
            queries[cell] += event.kind in _ANSWERED or event.kind in _FAILED
            if event.kind in _FAILED:
                reasons[cell][event.description or event.kind.value] += 1
    return [
        Faults(*cell, queries[cell], sum(found.values()), found.most_common(1)[0][0])
        for cell, found in sorted(reasons.items())
    ]


def notes(manifest: StudyManifest, faults: Iterable[Faults]) -> list[str]:
    """Return the sentences: first what makes figures meaningless, then seeds, thresholds and code.

    Args:
        manifest: Manifest of the evaluation.
        faults: What `find_faults` says of its episodes.
    """
    config, found = manifest.config, list(faults)
    said = [
        f"THE MONITOR DID NOTHING in {one.where}: every one of its {one.queries} queries failed "
        f"({one.reason}), so these figures say nothing about it."
        for one in found
        if one.all_failed
    ]
    said += [
        f"{one.failed} of {one.queries} queries failed in {one.where}; most often: {one.reason}."
        for one in found
        if not one.all_failed
    ]
    seeds = text_of(range(config.first_seed, config.last_seed))
    if manifest.seed_role is not None:
        said.append(f"The seeds {seeds} are {_ROLES[manifest.seed_role]}.")
    if frozen := manifest.frozen:
        said.append(
            f"This is the run of the protocol with the SHA-256 {frozen.protocol}, of at most "
            f"{frozen.budget_hours:g} hours of computation. Its primary end point: {frozen.end_point}"
        )
    for policy, calibration in config.calibrations.items():
        for instruction, threshold in calibration.thresholds.items():
            if threshold.pooled:
                promise = threshold.promise or "a bound over all instructions together alone"
                said.append(
                    f"The threshold of {policy} for '{instruction}' is pooled. It promises {promise}."
                )
        learned = calibration.hand_back
        if learned is not None and any(CONDITIONS[name].learned for name in config.conditions):
            said.append(f"The hand-back model of {policy} is {learned.origin}.")
        made_by = calibration.code.get(OWN, "")
        if made_by and made_by != config.code.get(OWN, made_by):
            said.append(f"The thresholds of {policy} were made by version {made_by} of FailSafe.")
    if manifest.continued:
        said.append(
            f"The run was continued {len(manifest.continued)} times after a change of FailSafe's own source "
            "within its version."
        )
    return said
