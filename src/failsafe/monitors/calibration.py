"""Alarm thresholds from successful episodes, by split conformal prediction.

The score of an episode is the monitor's highest over its queries. If a future successful episode is
exchangeable with the n recorded ones, its score exceeds their ceil((n + 1)(1 - alpha))-th smallest with a
probability of at most alpha (Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005; for
alarms on rollouts: Xu et al., "Can we detect failures without failure data?", 2025).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from failsafe.datasets.files import write_atomically
from failsafe.errors import RecordError, UserError
from failsafe.models.contract import RecoveryModel, accepted_instructions
from failsafe.monitors.hand_back import HandBackModel
from failsafe.records import codec
from failsafe.records.codec import Migration

THRESHOLDS = Path(__file__).parent / "thresholds"
"""Folder of the thresholds of the compact model on the reference policies, which ship with the package."""
NEVER = math.inf
"""Threshold of a monitor that never raises an alarm: too few episodes bound the false-alarm rate by alpha."""


_SMALLEST_ALPHA = 1e-6
"""Smallest bound: a million successful episodes can promise it."""


@dataclass(frozen=True)
class Threshold:
    """The threshold for one instruction.

    Attributes:
        value: Score above which the monitor raises an alarm; None if there are too few episodes for alpha.
        episodes: Number of successful episodes behind it.
        pooled: Whether these episodes are of all instructions, because this one has too few. The bound then
            holds over all instructions together.
        promise: What it promises, in words; empty in files of earlier versions.
    """

    value: float | None
    episodes: int
    pooled: bool = False
    promise: str = ""


@dataclass(frozen=True)
class Calibration:
    """Thresholds by instruction.

    Attributes:
        alpha: Bound on the share of successful episodes with an alarm.
        model: Name of the recovery model.
        policy: Name of the policy whose episodes were recorded.
        drift: Log odds subtracted at each query; a monitor must use the same drift.
        thresholds: Threshold by instruction.
        command: The command that made the calibration.
        weights: What identifies the model's weights or code (`failsafe.models.loading.fingerprint`).
        policy_weights: The same of the policy (`failsafe.policies.loading.policy_fingerprint`).
        code: Version of FailSafe, and fingerprints of the tasks that are not its own, by name.
        seeds: First seed of the initial states and one past the last; empty in files of earlier versions.
        hand_back: Where the policy succeeds after a hand-back; None if that was not learned.
    """

    # Earlier formats: 1 (thresholds of a mean of queries), 2 (`drift` had another name), 3 (neither code nor
    # seeds were recorded), 4 (without `hand_back`).
    FORMAT: ClassVar[int] = 5
    MIGRATIONS: ClassVar[Mapping[str, Migration]] = {
        "Calibration/3": lambda fields: fields,
        "Calibration/4": lambda fields: fields,
    }

    alpha: float
    model: str
    policy: str
    drift: float
    thresholds: dict[str, Threshold]
    command: str = ""
    weights: str = ""
    policy_weights: str = ""
    code: dict[str, str] = field(default_factory=dict[str, str])
    seeds: tuple[int, ...] = ()
    hand_back: HandBackModel | None = None

    def __post_init__(self) -> None:
        """Refuse an alpha that bounds nothing, and seeds that are no range.

        Raises:
            UserError: If alpha is not between 0 and 1.
            RecordError: If the seeds are neither empty nor a first seed and one past the last.
        """
        check_alpha(self.alpha)
        if self.seeds and not (len(self.seeds) == 2 and 0 <= self.seeds[0] < self.seeds[1]):
            raise RecordError(f"expected seeds as first and one past the last, got {list(self.seeds)!r:.80}")

    def threshold(self, instruction: str) -> float:
        """Return the score above which an alarm is raised; infinite if the instruction has no threshold."""
        found = self.thresholds.get(instruction)
        return NEVER if found is None or found.value is None else found.value


def conformal_threshold(scores: Sequence[float], alpha: float) -> float | None:
    """Return the smallest threshold that at most a share alpha of successful episodes exceed.

    Args:
        scores: Highest score of each successful episode.
        alpha: Bound on the share of successful episodes with an alarm.

    Returns:
        The threshold; None if there are too few episodes for alpha.

    Raises:
        UserError: If alpha is not between 0 and 1.
    """
    check_alpha(alpha)
    rank = math.ceil((len(scores) + 1) * (1 - alpha))
    return sorted(scores)[rank - 1] if 1 <= rank <= len(scores) else None


def successes_needed(alpha: float) -> int:
    """Return the smallest number of successful episodes that can promise alpha: 19 for 0.05.

    Args:
        alpha: Bound on the share of successful episodes with an alarm, between 0 and 1.
    """
    number = max(1, math.floor(1 / alpha) - 2)
    while math.ceil((number + 1) * (1 - alpha)) > number:
        number += 1
    return number


def smallest_alpha(successes: int) -> float:
    """Return the smallest alpha that a number of successful episodes can promise: 1 / (n + 1)."""
    return 1 / (successes + 1)


def check_usable(calibration: Calibration, where: str = "the calibration") -> None:
    """Check that a calibration lets the monitor raise an alarm at all.

    Args:
        calibration: The calibration.
        where: Its file, for the message.

    Raises:
        UserError: If it has no threshold, because too few successful episodes are behind it.
    """
    if any(threshold.value is not None for threshold in calibration.thresholds.values()):
        return
    number = max((threshold.episodes for threshold in calibration.thresholds.values()), default=0)
    raise UserError(
        f"{where}: expected at least {successes_needed(calibration.alpha)} successful episodes, which alpha "
        f"= {calibration.alpha:g} takes, got {number}, which can promise {smallest_alpha(number):.2g} at "
        "best: the monitor would never raise an alarm; calibrate with more seeds or a larger alpha, or "
        "choose a threshold"
    )


def check_known(calibration: Calibration, model: RecoveryModel) -> None:
    """Check that there is a threshold for an instruction that the model assesses.

    Args:
        calibration: The calibration.
        model: The recovery model.

    Raises:
        UserError: If there is none, so that the monitor would do nothing.
    """
    accepted = accepted_instructions(model)
    if accepted and not set(accepted) & set(calibration.thresholds):
        raise UserError(
            f"expected a threshold for an instruction that {model.name} knows ('{accepted[0]}', ...), got "
            f"some for '{next(iter(calibration.thresholds), '')}', ...: the monitor would do nothing; "
            "calibrate on a task that it knows, or choose a threshold"
        )


def check_alpha(alpha: float) -> None:
    """Check that alpha is between 0 and 1, and that some number of episodes can promise it.

    Raises:
        UserError: If it is not.
    """
    if not _SMALLEST_ALPHA <= alpha < 1:
        raise UserError(f"expected alpha between 0 and 1, got {alpha}")


def calibrate(
    episodes: Iterable[tuple[str, float]],
    alpha: float,
    model: str,
    policy: str,
    drift: float,
    command: str = "",
    weights: str = "",
    instructions: Iterable[str] = (),
) -> Calibration:
    """Return a threshold for every instruction: from its own episodes if there are enough, else from all.

    Args:
        episodes: Instruction and highest score of each successful episode.
        alpha: Bound on the share of successful episodes with an alarm.
        model: Name of the recovery model.
        policy: Name of the policy.
        drift: Log odds subtracted at each query.
        command: The command that makes the calibration.
        weights: SHA-256 of the model's weights.
        instructions: Instructions that get a threshold even without a successful episode.

    Raises:
        UserError: If alpha is not between 0 and 1.
    """
    scores: dict[str, list[float]] = defaultdict(list, {instruction: [] for instruction in instructions})
    for instruction, score in episodes:
        scores[instruction].append(score)
    every = [score for found in scores.values() for score in found]
    thresholds: dict[str, Threshold] = {}
    for instruction, found in sorted(scores.items()):
        own = conformal_threshold(found, alpha)
        pooled = conformal_threshold(every, alpha) if own is None else None
        promise = _promise(own, pooled, len(found), len(every), alpha)
        thresholds[instruction] = (
            Threshold(pooled, len(every), pooled=True, promise=promise)
            if own is None
            else Threshold(own, len(found), promise=promise)
        )
    return Calibration(alpha, model, policy, drift, thresholds, command, weights)


def _promise(own: float | None, pooled: float | None, successes: int, every: int, alpha: float) -> str:
    """Return what the threshold of an instruction promises.

    Args:
        own: Threshold of its own successful episodes, None if they are too few.
        pooled: Threshold of the successful episodes of all instructions, None if they are too few.
        successes: Number of its own successful episodes.
        every: Number of those of all instructions.
        alpha: The bound.
    """
    if own is not None:
        return f"an alarm in at most {100 * alpha:g} % of its successful episodes"
    if pooled is not None:
        return (
            f"an alarm in at most {100 * alpha:g} % of the successful episodes of all instructions together; "
            f"nothing for this one, which has {successes} of the {successes_needed(alpha)} successes it takes"
        )
    return (
        f"nothing, and no alarm: {every} successes are fewer than the {successes_needed(alpha)} that alpha = "
        f"{alpha:g} takes; the smallest alpha that they can promise is {smallest_alpha(every):.2g}"
    )


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as JSON.

    Args:
        path: The file.
        calibration: The calibration.
    """
    write_atomically(path, (codec.dumps(calibration) + "\n").encode())


def read_calibration(path: Path, model: str | None = None, weights: str = "") -> Calibration:
    """Read a calibration.

    Args:
        path: A file made by `write_calibration`.
        model: Expected name of the recovery model; any if None.
        weights: What identifies the model's weights or code; any if empty.

    Raises:
        UserError: If the file cannot be read, or is of another model or of other weights.
        RecordError: If the file is damaged or of another version.
    """
    absent = f"expected thresholds made by `failsafe calibrate`, got {path}, which does not exist"
    found = codec.read(Calibration, path, absent)
    # A checkpoint may be recorded with one path and loaded with another.
    if model is not None and found.model != model and Path(found.model).resolve() != Path(model).resolve():
        raise UserError(f"{path}: expected thresholds of the monitor {model}, got {found.model}'s")
    if weights and found.weights != weights:
        raise UserError(
            f"{path}: expected thresholds of the weights or code that the monitor has now, got those of "
            "others: make them again with `failsafe calibrate`"
        )
    return found


def shipped_calibration(policy: str) -> Calibration | None:
    """Return the shipped thresholds for a reference policy; None for another policy."""
    kind, _, strength = policy.partition(":")
    path = THRESHOLDS / f"{strength}.json"
    return read_calibration(path) if kind == "reference" and path.is_file() else None
