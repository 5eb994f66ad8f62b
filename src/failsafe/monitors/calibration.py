"""When to believe: a threshold from successful rollouts, by split conformal prediction.

The score of an episode is the highest that the monitor has in any of its looks. If a successful episode to
come is exchangeable with the n successful ones that were recorded, the probability that its score exceeds
their ceil((n + 1)(1 - alpha))-th smallest is at most alpha (Vovk, Gammerman and Shafer, "Algorithmic learning
in a random world", 2005; as an alarm on rollouts: Xu et al., "Can we detect failures without failure data?",
2025).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from failsafe.datasets.files import write_atomically
from failsafe.errors import UserError
from failsafe.records import codec

THRESHOLDS = Path(__file__).parent / "thresholds"
"""The thresholds that come with the package, of the compact model on the reference policies."""
NEVER = math.inf
"""Threshold of a monitor that cannot promise as much as was asked."""


@dataclass(frozen=True)
class Threshold:
    """The threshold for one instruction.

    Attributes:
        value: Score above which the monitor raises an alarm; None if too few episodes can promise alpha.
        episodes: Successful episodes that it rests on.
        pooled: Whether those are of all instructions together, since this one alone has too few. What is
            promised then holds over the instructions taken together.
    """

    value: float | None
    episodes: int
    pooled: bool = False


@dataclass(frozen=True)
class Calibration:
    """Thresholds by instruction, and what they promise.

    Attributes:
        alpha: Share of successful episodes that may see an alarm.
        model: Name of the recovery model.
        policy: Name of the policy whose rollouts they rest on.
        drift: Log odds taken off at each look; a monitor must use the same.
        thresholds: By instruction.
        command: The command that made it.
        weights: SHA-256 of the model's weights.
    """

    FORMAT: ClassVar[int] = 3  # 1: thresholds of a mean of looks; 2: `drift` was called `allowance`

    alpha: float
    model: str
    policy: str
    drift: float
    thresholds: dict[str, Threshold]
    command: str = ""
    weights: str = ""

    def threshold(self, instruction: str) -> float:
        """Score above which an alarm is raised; infinite where nothing was promised."""
        found = self.thresholds.get(instruction)
        return NEVER if found is None or found.value is None else found.value


def conformal_threshold(scores: Sequence[float], alpha: float) -> float | None:
    """The smallest threshold that at most alpha of successful episodes exceed; None if there are too few.

    Args:
        scores: Highest score of each successful episode.
        alpha: Share of successful episodes that may see an alarm.
    """
    check_alpha(alpha)
    rank = math.ceil((len(scores) + 1) * (1 - alpha))
    return sorted(scores)[rank - 1] if 1 <= rank <= len(scores) else None


def check_alpha(alpha: float) -> None:
    """Make sure that it is a share.

    Raises:
        UserError: If it is not between 0 and 1.
    """
    if not 0 < alpha < 1:
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
    """Thresholds for every instruction, from its own episodes where they are enough, else from all together.

    Args:
        episodes: Instruction and highest score of each successful episode.
        alpha: Share of successful episodes that may see an alarm.
        model: Name of the recovery model.
        policy: Name of the policy.
        drift: Log odds taken off at each look.
        command: The command that makes it.
        weights: SHA-256 of the model's weights.
        instructions: Those that are to have a threshold without a single successful episode, too.
    """
    scores: dict[str, list[float]] = defaultdict(list, {instruction: [] for instruction in instructions})
    for instruction, score in episodes:
        scores[instruction].append(score)
    together = [score for found in scores.values() for score in found]
    pooled = _threshold(together, alpha, pooled=True)
    thresholds: dict[str, Threshold] = {}
    for instruction, found in sorted(scores.items()):
        own = _threshold(found, alpha)
        thresholds[instruction] = pooled if own.value is None else own
    return Calibration(alpha, model, policy, drift, thresholds, command, weights)


def _threshold(scores: Sequence[float], alpha: float, pooled: bool = False) -> Threshold:
    return Threshold(conformal_threshold(scores, alpha), len(scores), pooled)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Keep a calibration as JSON."""
    write_atomically(path, (codec.dumps(calibration) + "\n").encode())


def read_calibration(path: Path, model: str | None = None, weights: str = "") -> Calibration:
    """Read what `write_calibration` wrote.

    Args:
        path: The file.
        model: The recovery model that it must be of; any if None.
        weights: SHA-256 of the weights that it must be of; any if empty.

    Raises:
        UserError: If there is no such file, or it is of another model or of other weights.
        RecordError: If it is damaged or of another version.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"expected thresholds made by `failsafe calibrate`, got {path}, which cannot be read"
        ) from error
    found = codec.loads(Calibration, text, str(path))
    # A checkpoint may be written with one path and asked for with another.
    if model is not None and found.model != model and Path(found.model).resolve() != Path(model).resolve():
        raise UserError(f"{path}: expected thresholds of the monitor {model}, got {found.model}'s")
    if weights and found.weights != weights:
        raise UserError(
            f"{path}: expected thresholds of the weights that the monitor has now, got those of others: make "
            "them again with `failsafe calibrate`"
        )
    return found


def shipped_calibration(policy: str) -> Calibration | None:
    """The thresholds of the compact model for a reference policy, None for another policy."""
    kind, _, strength = policy.partition(":")
    path = THRESHOLDS / f"{strength}.json"
    return read_calibration(path) if kind == "reference" and path.is_file() else None
