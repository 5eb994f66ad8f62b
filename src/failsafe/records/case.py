"""What one work item found: a cause, its outcome, and for each of its moments a proven way back."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from failsafe.records.codec import Migration
from failsafe.records.perturbation import Perturbation
from failsafe.records.plan import StagePlan, StageSpan

NOMINAL = "nominal"
"""Name of the nominal rollout."""
FAILING = "failing"
"""Name of the perturbed rollout among the traces of a case."""


class Outcome(str, enum.Enum):
    """How the perturbed rollout ended, judged at its end and after settling."""

    FAILURE = "failure"
    HARMLESS = "harmless"
    DIVERGED = "diverged"
    PLAN_FAILED = "plan_failed"
    CRASHED = "crashed"


class BranchMethod(str, enum.Enum):
    """How a rollout was brought into the state of a recorded one."""

    RESTORE = "restore"
    """The recorded state was put back."""
    REPLAY = "replay"
    """The recorded commands were repeated from the same initial state."""


class RecoveryStrategy(str, enum.Enum):
    """Which reference a correction leads to."""

    NOMINAL_PATH = "nominal_path"
    FRESH_PLAN = "fresh_plan"
    FRESH_PLAN_VIA_LIFT = "fresh_plan_via_lift"
    SET_DOWN_AND_RETRY = "set_down_and_retry"


@dataclass(frozen=True)
class Times:
    """Four moments of a failure, in control steps of the perturbed rollout; None where it never came.

    Attributes:
        injection_step: First step on which the cause acts.
        onset_step: First physical effect: the state leaves the nominal twin's.
        failure_step: From here on what the stage was to achieve stays out of reach.
        detection_step: When a monitor noticed; generation leaves it empty.
    """

    injection_step: int | None = None
    onset_step: int | None = None
    failure_step: int | None = None
    detection_step: int | None = None


@dataclass(frozen=True)
class Correction:
    """The smallest sequence of actions that leads back.

    Attributes:
        actions: K rows `[dx, dy, dz, rx, ry, rz, gripper]`: metres, rotation vector in radians, gripper -1
            closed to +1 open; one row a control step. The first moves on from the measured tool pose, each
            next one from the pose commanded before.
        frame: Frame of the deltas: "robot_base".
        strategy: Which reference it leads to.
        resume_stage: Name of the stage at which the plan goes on after the hand-back.
        resume_index: Index of that stage in the nominal plan, or -1 where a fresh plan goes on.
        plan_stages: Names of the stages that were carried out after the hand-back.
    """

    actions: tuple[tuple[float, ...], ...]
    frame: str
    strategy: RecoveryStrategy
    resume_stage: str
    resume_index: int
    plan_stages: tuple[str, ...]


@dataclass(frozen=True)
class Attempt:
    """One candidate that was tried.

    Attributes:
        strategy: Which reference it leads to.
        actions: Number of its actions.
        success: Whether the rollout with it ended in success.
        reason: Why not, empty where it did.
        screened: Whether it failed from an inexact branch already, and was not tried from an exact one.
    """

    strategy: RecoveryStrategy
    actions: int
    success: bool
    reason: str = ""
    screened: bool = False


@dataclass(frozen=True)
class Verification:
    """The evidence for a correction, or for there being none.

    Attributes:
        prefix_exact: Every branch of the proof began in the recorded state, bit for bit.
        without_succeeds: End of the arm without the correction (a proof needs False).
        with_succeeds: End of the exact arm with it (a proof needs True).
        rollouts: Rollouts with the correction, the exact one included.
        successes: How many of them ended in success.
        attempts: Every candidate that was tried, shortest first.
        noise: What the rollouts after the first had added, in words.
        branch: How the branches of the proof were brought into that state.
        noisy_branch: How the noisy rollouts were, None where there are none. RESTORE is inexact where the
            simulator is exact by REPLAY only.
        fault_ended_succeeds: End of a branch in which the cause ends as in the branch with the correction,
            but no action corrects anything and the nominal plan goes on at its present stage. Where it is
            True, an expert that knows the true target absorbs the error by itself; a policy that does not
            know it may not.
            None where it was not tried: it is tried only where a correction is proven.
    """

    prefix_exact: bool
    without_succeeds: bool
    with_succeeds: bool
    rollouts: int
    successes: int
    attempts: tuple[Attempt, ...]
    noise: str = ""
    fault_ended_succeeds: bool | None = None
    branch: BranchMethod = BranchMethod.REPLAY
    noisy_branch: BranchMethod | None = None

    @property
    def proven(self) -> bool:
        """Without it the rollout fails, with it it succeeds, from the same state."""
        return self.prefix_exact and self.with_succeeds and not self.without_succeeds

    @property
    def recoverability(self) -> float | None:
        """Share of the rollouts with the correction that succeeded; None where none was run."""
        return self.successes / self.rollouts if self.rollouts else None


@dataclass(frozen=True)
class Label:
    """One moment of a failure, and what to do there.

    Attributes:
        step: Control step of the perturbed rollout before which the correction would begin.
        stage: Name of the stage that is being executed there.
        correction: The shortest verified way back, or None where none verified: unrecoverable.
        verification: The evidence either way.
        recovery: Name of the recovered rollout's trace in the case's file, empty where there is none.
    """

    step: int
    stage: str
    correction: Correction | None
    verification: Verification
    recovery: str = ""


@dataclass(frozen=True)
class NominalRecord:
    """The unperturbed twin of every case of one task and seed.

    Attributes:
        task: Name of the task.
        seed: Seed of its initial state.
        success: Whether it ended in success.
        reason: Why it did not, empty where it did.
        plan: The stages that the expert went through.
        spans: What each stage did, measured.
        asset_licence: Licence of what pictures of it show, empty where nothing is owed.
    """

    RECORD_NAME: ClassVar[str] = "Nominal"

    task: str
    seed: int
    success: bool
    reason: str
    plan: StagePlan
    spans: tuple[StageSpan, ...]
    asset_licence: str = ""


@dataclass(frozen=True)
class FailureCase:
    """One work item: a task and seed, one perturbation or two at once, and everything that was found.

    Attributes:
        case_id: Name of the case, made from task, seed and perturbations.
        task: Name of the task.
        seed: Seed of the initial state, the nominal twin's.
        instruction: The task in words.
        perturbations: The causes.
        outcome: How the rollout ended.
        reason: More about the outcome, in words.
        times: Injection, onset, failure, detection.
        labels: Moments after the onset, each with its correction or without one.
        stage_names: Names of the stages that the perturbed rollout went through.
        partition: Lane of the run that asked for the case.
        target: Number of the wanted failure, within the run, that the case was an attempt at.
    """

    FORMAT: ClassVar[int] = 3
    MIGRATIONS: ClassVar[Mapping[str, Migration]] = {
        "FailureCase/1": lambda fields: _from_version_2(_from_version_1(fields)),
        "FailureCase/2": lambda fields: _from_version_2(fields),
    }

    case_id: str
    task: str
    seed: int
    instruction: str
    perturbations: tuple[Perturbation, ...]
    outcome: Outcome
    reason: str
    times: Times
    labels: tuple[Label, ...]
    stage_names: tuple[str, ...] = ()
    partition: int = 0
    target: int = 0

    @property
    def verified(self) -> bool:
        """A true failure for which at least one correction is proven."""
        return self.outcome is Outcome.FAILURE and any(
            label.correction is not None and label.verification.proven for label in self.labels
        )

    @property
    def verdict(self) -> str:
        """One word for tables and filters: the outcome, with failures told apart by their recovery."""
        if self.outcome is not Outcome.FAILURE or not self.labels:
            return self.outcome.value
        return "recoverable" if self.verified else "unrecoverable"


def _from_version_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Rename the fields that version 1 of the record named otherwise."""

    def renamed(plain: dict[str, Any]) -> dict[str, Any]:
        return {"strategy" if key == "way" else key: value for key, value in plain.items()}

    labels = [dict(label) for label in fields.get("labels", ())]
    for label in labels:
        if label.get("correction"):
            label["correction"] = renamed(label["correction"])
        evidence = dict(label["verification"])
        label["verification"] = {**evidence, "attempts": [renamed(a) for a in evidence["attempts"]]}
    fields = {**fields, "labels": labels, "partition": fields.get("lane", 0), "target": fields.get("slot", 0)}
    return {key: value for key, value in fields.items() if key not in ("lane", "slot")}


def _from_version_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Note how branches were made before this was recorded: always by replay."""

    def with_method(label: dict[str, Any]) -> dict[str, Any]:
        verification = dict(label["verification"])
        verification["branch"] = BranchMethod.REPLAY.value
        if verification["rollouts"] > 1:
            verification["noisy_branch"] = BranchMethod.REPLAY.value
        return {**label, "verification": verification}

    return {**fields, "labels": [with_method(label) for label in fields.get("labels", ())]}
