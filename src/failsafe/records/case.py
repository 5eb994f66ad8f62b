"""Failure cases: a perturbation, its outcome, and a verified correction for each labelled step."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from failsafe.errors import RecordError
from failsafe.records.codec import Migration
from failsafe.records.names import check_actions, check_id, check_seed, check_steps
from failsafe.records.perturbation import VERSION_1_SCALES, Perturbation
from failsafe.records.plan import StagePlan, StageSpan

NOMINAL = "nominal"
"""Name of the nominal rollout."""
FAILING = "failing"
"""Name of the perturbed rollout among the traces of a case."""
EXPERT = "expert"
"""Name of the expert as the continuation of a proof."""
NEAR_METRES = 0.05
"""Distance up to which a generated failure counts as near a policy's failure."""


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
    """The recorded state was restored."""
    REPLAY = "replay"
    """The recorded commands were repeated from the same initial state."""


class RecoveryStrategy(str, enum.Enum):
    """The reference that a correction returns to."""

    NOMINAL_PATH = "nominal_path"
    FRESH_PLAN = "fresh_plan"
    FRESH_PLAN_VIA_LIFT = "fresh_plan_via_lift"
    SET_DOWN_AND_RETRY = "set_down_and_retry"
    EXPERT_ROLLOUT = "expert_rollout"
    """The correction of the expert and the beginning of what follows it, for a policy that needs more."""


@dataclass(frozen=True)
class Times:
    """The four times of a failure, in control steps of the perturbed rollout; None: did not occur.

    Attributes:
        injection_step: First step on which the cause acts.
        onset_step: First physical effect: the state differs from the nominal rollout's.
        failure_step: From this step on, the goal of the stage is no longer reached.
        detection_step: Step of a monitor's first alarm. Generation leaves it empty.
    """

    injection_step: int | None = None
    onset_step: int | None = None
    failure_step: int | None = None
    detection_step: int | None = None

    def __post_init__(self) -> None:
        """Refuse steps that no episode has.

        Raises:
            RecordError: On such a step.
        """
        check_steps(self.injection_step, self.onset_step, self.failure_step, self.detection_step)


@dataclass(frozen=True)
class Correction:
    """The shortest action sequence after which the task succeeds again.

    Attributes:
        actions: K rows `[dx, dy, dz, rx, ry, rz, gripper]`: metres, rotation vector in radians, gripper -1
            closed to +1 open; one row per control step. The first delta starts from the measured tool pose,
            each next one from the previously commanded pose. [K, 7]
        frame: Frame of the deltas: "robot_base".
        strategy: The reference that the correction returns to.
        resume_stage: Name of the stage that follows the hand-back.
        resume_index: Index of that stage in the nominal plan; -1 for a fresh plan.
        plan_stages: Names of the stages executed after the hand-back.
    """

    actions: tuple[tuple[float, ...], ...]
    frame: str
    strategy: RecoveryStrategy
    resume_stage: str
    resume_index: int
    plan_stages: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse rows that are no actions.

        Raises:
            RecordError: On such a row.
        """
        check_actions(self.actions)


@dataclass(frozen=True)
class Attempt:
    """One tested candidate for a correction.

    Attributes:
        strategy: The reference that the candidate returns to.
        actions: Number of actions.
        success: Whether the rollout with the candidate succeeded.
        reason: Why the rollout did not succeed; empty after a success.
        screened: Whether the candidate already failed from an inexact branch and was not tested from an
            exact one.
    """

    strategy: RecoveryStrategy
    actions: int
    success: bool
    reason: str = ""
    screened: bool = False


@dataclass(frozen=True)
class Verification:
    """The proof of a correction, or of the absence of one: four branches from the same state.

    1. The cause goes on.
    2. The cause ends, and the continuation goes on.
    3. The cause ends, and the continuation plans anew from here.
    4. The cause ends, and after the correction the continuation goes on.

    Attributes:
        prefix_exact: Whether every branch of the proof began in the recorded state, bit for bit.
        without_succeeds: Result of branch 1 (a proof needs False).
        with_succeeds: Result of branch 4 (a proof needs True).
        rollouts: Number of rollouts with the correction, the exact one included.
        successes: Number of these that succeeded.
        attempts: Every tested candidate, shortest first.
        noise: Description of the noise added to the rollouts after the first.
        cause_ended_succeeds: Result of branch 2. True: an expert that knows the true target absorbs the error
            without a correction; a policy that does not know the target may still fail. Where only the world
            was disturbed, and that is over, it is the result of the recorded rollout. None: not run, because
            no correction is proven.
        replanned_succeeds: Result of branch 3. None: not run, because no correction is proven, or because
            branch 2 succeeds already, so that the correction is not needed; or unknown, in records made
            before this branch existed.
        branch: How the branches of the proof reached the recorded state.
        noisy_branch: How the noisy rollouts reached the recorded state; None without noisy rollouts.
            RESTORE is inexact where the simulator is exact by REPLAY only.
        continuation: Name of what goes on: `EXPERT`, or the name of a policy.
        without_samples: Rollouts of each of branches 2 and 3: 1 for a deterministic continuation. The result
            is a success if any of them succeeds.
    """

    prefix_exact: bool
    without_succeeds: bool
    with_succeeds: bool
    rollouts: int
    successes: int
    attempts: tuple[Attempt, ...]
    noise: str = ""
    cause_ended_succeeds: bool | None = None
    replanned_succeeds: bool | None = None
    branch: BranchMethod = BranchMethod.REPLAY
    noisy_branch: BranchMethod | None = None
    continuation: str = EXPERT
    without_samples: int = 1

    @property
    def proven(self) -> bool:
        """Whether, from the same state, the rollout fails without the correction and succeeds with it."""
        return self.prefix_exact and self.with_succeeds and not self.without_succeeds

    @property
    def needed(self) -> bool:
        """Whether the correction is proven, and all three branches without it are known to fail."""
        return self.proven and self.cause_ended_succeeds is False and self.replanned_succeeds is False

    @property
    def recoverability(self) -> float | None:
        """Share of successful rollouts with the correction; None if none was run."""
        return self.successes / self.rollouts if self.rollouts else None


@dataclass(frozen=True)
class Label:
    """One labelled step of a failure, with the correction that applies there.

    Attributes:
        step: Control step of the perturbed rollout before which the correction begins.
        stage: Name of the stage executed at that step.
        correction: The shortest verified correction; None if none was verified (unrecoverable).
        verification: The proof.
        recovery: Name of the recovered rollout's trace in the case's file; empty if there is none.
    """

    step: int
    stage: str
    correction: Correction | None
    verification: Verification
    recovery: str = ""

    def __post_init__(self) -> None:
        """Refuse a step that no episode has, and a name of a trace that could not be that of a folder.

        Raises:
            RecordError: On such a step or name.
        """
        check_steps(self.step)
        if self.recovery:
            check_id("a name of a rollout", self.recovery)

    @property
    def proven(self) -> bool:
        """Whether there is a correction, and it is proven."""
        return self.correction is not None and self.verification.proven

    @property
    def needed(self) -> bool:
        """Whether there is a correction, and all branches of its proof without it fail."""
        return self.correction is not None and self.verification.needed


@dataclass(frozen=True)
class NominalRecord:
    """The nominal (unperturbed) rollout that all cases of one task and seed share.

    Attributes:
        task: Name of the task.
        seed: Seed of the initial state.
        success: Whether the rollout succeeded.
        reason: Why the rollout did not succeed; empty after a success.
        plan: The stages that the expert executed.
        spans: Measured facts about each stage.
        asset_licence: Licence of the assets visible in rendered images; empty if none applies.
    """

    RECORD_NAME: ClassVar[str] = "Nominal"

    task: str
    seed: int
    success: bool
    reason: str
    plan: StagePlan
    spans: tuple[StageSpan, ...]
    asset_licence: str = ""

    def __post_init__(self) -> None:
        """Refuse a seed that no record has.

        Raises:
            RecordError: On such a seed.
        """
        check_seed(self.seed)


@dataclass(frozen=True)
class PolicySource:
    """The policy whose episode a case is.

    Attributes:
        name: Name of the policy.
        weights: Identifies its weights or code; empty where nothing is known, as for a served policy.
        deterministic: Whether equal observations gave equal actions.
    """

    name: str
    weights: str
    deterministic: bool = True


@dataclass(frozen=True)
class NearestFailure:
    """The generated failure of the same initial state that a policy's failure resembles most.

    It names the mode of the policy's failure only if it is near: up to `NEAR_METRES`.

    Attributes:
        mode: Name of its perturbation mode.
        stage: Name of the stage in which the mode acts.
        step: Control step of that rollout at which the states are nearest.
        distance: Distance of tool, fingers and objects, root of the sum of squares, metres.
    """

    mode: str
    stage: str
    step: int
    distance: float

    @property
    def near(self) -> bool:
        """Whether the two failures are alike."""
        return self.distance <= NEAR_METRES


@dataclass(frozen=True)
class FailureCase:
    """One task and seed, what went wrong (perturbations of a plan, or a policy), and the outcome.

    Attributes:
        case_id: Name of the case, made from task, seed and perturbations.
        task: Name of the task.
        seed: Seed of the initial state, shared with the nominal rollout.
        instruction: What the robot was told to do, in natural language.
        perturbations: The causes; none for an undisturbed episode of a policy.
        outcome: How the rollout ended.
        reason: Explanation of the outcome.
        times: Steps of injection, onset, failure and detection.
        labels: Labelled steps after the onset.
        stage_names: Names of the stages that the perturbed rollout executed.
        partition: Index of the run's partition that requested the case.
        target: Index, within the run, of the requested failure that the case was built for.
        policy: The policy whose episode this is; None for the perturbed plan of an expert.
        nearest: The generated failure that a policy's failure resembles most; None where there is none.
        expert_steps: Rows (control step, control steps that the expert needs from there to succeed, or -1 if
            it fails), every half a second of a policy's episode.
    """

    FORMAT: ClassVar[int] = 4
    MIGRATIONS: ClassVar[Mapping[str, Migration]] = {
        "FailureCase/1": lambda fields: _from_version_3(_from_version_2(_from_version_1(fields))),
        "FailureCase/2": lambda fields: _from_version_3(_from_version_2(fields)),
        "FailureCase/3": lambda fields: _from_version_3(fields),
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
    policy: PolicySource | None = None
    nearest: NearestFailure | None = None
    expert_steps: tuple[tuple[int, ...], ...] = ()

    @property
    def mode(self) -> str:
        """Name of the mode: of the perturbation, "compound" for two, of `nearest` if near, or "none"."""
        if self.perturbations:
            return self.perturbations[0].mode if len(self.perturbations) == 1 else "compound"
        return self.nearest.mode if self.nearest and self.nearest.near else "none"

    @property
    def best_labels(self) -> tuple[Label, ...]:
        """One label for each labelled step: proven with the policy, else with the expert, else any."""
        best: dict[int, Label] = {}
        for label in sorted(
            self.labels, key=lambda x: (x.step, not x.proven, x.verification.continuation == EXPERT)
        ):
            best.setdefault(label.step, label)
        return tuple(best.values())

    def __post_init__(self) -> None:
        """Refuse a case without a cause, and an id that could not be the name of a file.

        Raises:
            RecordError: On such a record.
        """
        check_id("an id of a case", self.case_id)
        check_seed(self.seed)
        if any(len(row) != 2 for row in self.expert_steps):
            raise RecordError(f"{self.case_id}: expected pairs of steps of the expert, got others")
        if not self.perturbations and self.policy is None:
            raise RecordError(f"{self.case_id}: expected one or two perturbations, got none")

    @property
    def verified(self) -> bool:
        """Whether the case is a failure with at least one proven correction."""
        return self.outcome is Outcome.FAILURE and any(label.proven for label in self.labels)

    @property
    def needed(self) -> bool:
        """Whether the case is a failure with at least one needed correction."""
        return self.outcome is Outcome.FAILURE and any(label.needed for label in self.labels)

    @property
    def category(self) -> str:
        """The outcome in one word; failures are split into recoverable and unrecoverable."""
        if self.outcome is not Outcome.FAILURE or not self.labels:
            return self.outcome.value
        return "recoverable" if self.verified else "unrecoverable"


def _from_version_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Rename the fields that version 1 named otherwise, and convert magnitudes that it counted in steps."""

    def renamed(plain: dict[str, Any]) -> dict[str, Any]:
        return {"strategy" if key == "way" else key: value for key, value in plain.items()}

    labels = [dict(label) for label in fields.get("labels", ())]
    for label in labels:
        if label.get("correction"):
            label["correction"] = renamed(label["correction"])
        proof = dict(label["verification"])
        label["verification"] = {**proof, "attempts": [renamed(a) for a in proof["attempts"]]}
    causes = [dict(cause) for cause in fields["perturbations"]]
    for cause in causes:
        if cause["mode"] in VERSION_1_SCALES:
            unit, factor = VERSION_1_SCALES[cause["mode"]]
            cause |= {"unit": unit, "magnitude": cause["magnitude"] * factor}
    fields = {**fields, "perturbations": causes}
    fields = {**fields, "labels": labels, "partition": fields.get("lane", 0), "target": fields.get("slot", 0)}
    return {key: value for key, value in fields.items() if key not in ("lane", "slot")}


def _from_version_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Fill in the branch method, which version 2 did not record: always replay."""

    def with_method(label: dict[str, Any]) -> dict[str, Any]:
        verification = dict(label["verification"])
        verification["branch"] = BranchMethod.REPLAY.value
        if verification["rollouts"] > 1:
            verification["noisy_branch"] = BranchMethod.REPLAY.value
        return {**label, "verification": verification}

    return {**fields, "labels": [with_method(label) for label in fields.get("labels", ())]}


def _from_version_3(fields: dict[str, Any]) -> dict[str, Any]:
    """Rename the result of branch 2. Version 3 did not try branch 3, whose result stays unknown."""

    def renamed(label: dict[str, Any]) -> dict[str, Any]:
        verification = dict(label["verification"])
        verification["cause_ended_succeeds"] = verification.pop("fault_ended_succeeds", None)
        return {**label, "verification": verification}

    return {**fields, "labels": [renamed(label) for label in fields.get("labels", ())]}
