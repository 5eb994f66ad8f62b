"""One sample: a step of a rollout, and the ground truth there."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, cast

from failsafe.records import codec
from failsafe.records.names import check_actions, check_seed, check_steps


class Kind(str, enum.Enum):
    """What a sample shows: the kind of rollout, and the time since the failure."""

    NOMINAL = "nominal"
    HARMLESS = "harmless"
    BEFORE = "before"
    JUST_AFTER = "just_after"
    LATE = "late"
    LONG_AFTER = "long_after"
    RECOVERED = "recovered"
    EXPLORATION = "exploration"


@dataclass(frozen=True)
class Sample:
    """One step of a rollout, and the ground truth there.

    Attributes:
        name: Name of the sample, unique in its set.
        source: Index of the dataset that it was cut from.
        task: Name of the task.
        seed: Seed of the initial state.
        split: "train", "validation", "calibration" or "test".
        rollout: Name of the trace: "nominal", "failing", "recovery_0" and so on, or "exploration".
        case_id: Name of the case; empty for nominal and random-exploration rollouts.
        step: Control step of the rollout.
        kind: What the sample shows.
        instruction: Instruction of the episode.
        stage: Name of the stage that is executed at this step; empty for random exploration.
        failing: Whether the episode fails unless something is corrected; unknown, and False, for random
            exploration.
        mode: Perturbation mode that caused the failure, "compound" for two, "none" where it is unknown;
            empty where nothing fails.
        delay: Control steps since the failure became visible; None where nothing fails.
        actions: The proven correction, one 7-DoF action per control step; empty where there is none.
        recoverable: Whether a correction is proven; None where nothing fails or none was searched for.
    """

    name: str
    source: int
    task: str
    seed: int
    split: str
    rollout: str
    case_id: str
    step: int
    kind: Kind
    instruction: str
    stage: str
    failing: bool
    mode: str = ""
    delay: int | None = None
    actions: tuple[tuple[float, ...], ...] = ()
    recoverable: bool | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that no sample has.

        Raises:
            RecordError: On such a number.
        """
        check_seed(self.seed)
        check_steps(self.step)
        check_actions(self.actions)


def sample_from_plain(fields: object, where: str) -> Sample:
    """Return the sample that plain JSON types describe; version 1 named one kind otherwise.

    Args:
        fields: The fields by name.
        where: Path of the file, for the error message.

    Raises:
        RecordError: If a field is missing, unknown or of another type.
    """
    if isinstance(fields, dict) and cast(dict[str, Any], fields).get("kind") == "wandering":
        fields = {**cast(dict[str, Any], fields), "kind": Kind.EXPLORATION.value, "rollout": "exploration"}
    return codec.from_plain(Sample, fields, where)
