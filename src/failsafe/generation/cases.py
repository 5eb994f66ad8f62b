"""One case: a task, a seed and a perturbation, from the nominal rollout to the proven corrections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.tasks import Task
from failsafe.generation.candidates import CandidateStatistics
from failsafe.generation.judging import judge_times
from failsafe.generation.nominal import NominalRollout
from failsafe.generation.perturbed import PerturbedRollout, run_perturbed
from failsafe.generation.verification import Verifier
from failsafe.records import codec
from failsafe.records.case import FAILING, FailureCase, Label, Outcome, Times
from failsafe.records.names import folder_name
from failsafe.records.perturbation import Perturbation
from failsafe.records.trace import Trace


@dataclass(frozen=True)
class CaseSpec:
    """Specification of a case.

    Attributes:
        task: Name of the task.
        seed: Seed of the initial state.
        perturbations: The causes: one, or two at once.
        partition: Number of the partition that draws the case.
        target: Number of the target, within the run, that the case is an attempt at.
    """

    task: str
    seed: int
    perturbations: tuple[Perturbation, ...]
    partition: int = 0
    target: int = 0

    @property
    def case_id(self) -> str:
        """Name of the case, made from task, seed and perturbations."""
        text = "".join(_identity(p) for p in self.perturbations)
        return f"{folder_name(self.task)}-{self.seed:06d}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _identity(perturbation: Perturbation) -> str:
    """Return the perturbation as text, without the fields that only run-time perturbations use."""
    plain = codec.to_plain(perturbation)
    kept = {k: v for k, v in plain.items() if k not in ("event", "delay", "duration", "pick")}
    return json.dumps({"format": "Perturbation/1", **kept}, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class CaseResult:
    """A case and its rollouts, ready to be stored.

    Attributes:
        case: The record.
        traces: The rollouts by name: the failing one and the recovered ones.
    """

    case: FailureCase
    traces: dict[str, Trace]


def build_case(
    task: Task,
    nominal: NominalRollout,
    spec: CaseSpec,
    labels: int,
    rollouts: int,
    statistics: CandidateStatistics | None = None,
) -> CaseResult:
    """Perturb a nominal rollout, judge the result, and find and verify corrections.

    Args:
        task: The task.
        nominal: Its nominal rollout for the case's seed, which ended in success.
        spec: The case.
        labels: Number of steps after the onset to find corrections for.
        rollouts: Rollouts with each correction: one exact, the others with noise.
        statistics: What earlier cases of the partition say about candidates; by default nothing.
    """
    try:
        rollout = run_perturbed(task, nominal, spec.perturbations)
    except PlanError as error:
        return make_unjudged_case(spec, nominal.record.plan.instruction, Outcome.PLAN_FAILED, str(error))
    except DivergedError as error:
        return make_unjudged_case(spec, nominal.record.plan.instruction, Outcome.DIVERGED, str(error))
    times = judge_times(nominal, rollout)
    outcome = Outcome.HARMLESS if rollout.success else Outcome.FAILURE
    traces = {FAILING: rollout.trace}
    found: list[Label] = []
    if outcome is Outcome.FAILURE:
        rng = _random_generator(spec)
        verifier = Verifier(task, nominal, rollout, statistics, spec.perturbations[0].mode)
        for i, step in enumerate(label_steps(rollout, times, labels, rng)):
            proof = verifier.prove(step, rollouts, rng)
            label = proof.label
            if proof.recovered is not None:
                name = f"recovery_{i}"
                traces[name] = proof.recovered
                label = Label(label.step, label.stage, label.correction, label.verification, name)
            found.append(label)
    case = FailureCase(
        case_id=spec.case_id,
        task=spec.task,
        seed=spec.seed,
        instruction=nominal.record.plan.instruction,
        perturbations=spec.perturbations,
        outcome=outcome,
        reason="",
        times=times,
        labels=tuple(found),
        stage_names=tuple(s.name for s in rollout.plan.stages),
        partition=spec.partition,
        target=spec.target,
    )
    return CaseResult(case, traces)


def make_unjudged_case(spec: CaseSpec, instruction: str, outcome: Outcome, reason: str) -> CaseResult:
    """Return the result of a case without a rollout that can be judged.

    Args:
        spec: The case.
        instruction: The task's instruction.
        outcome: Why there is no such rollout.
        reason: More about it.
    """
    case = FailureCase(
        case_id=spec.case_id,
        task=spec.task,
        seed=spec.seed,
        instruction=instruction,
        perturbations=spec.perturbations,
        outcome=outcome,
        reason=reason,
        times=Times(),
        labels=(),
        partition=spec.partition,
        target=spec.target,
    )
    return CaseResult(case, {})


def label_steps(
    rollout: PerturbedRollout, times: Times, count: int, rng: np.random.Generator
) -> Sequence[int]:
    """Draw the steps to find corrections for, one from each of `count` parts of the rest of the rollout.

    The parts grow with the square of the time, because a monitor queries its model often and meets a failure
    early.

    Args:
        rollout: The failing rollout.
        times: Its times.
        count: Number of parts.
        rng: Source of the draws.

    Returns:
        The distinct steps, ascending.
    """
    end = len(rollout.trace)
    # Every cause must have set in, and every disturbance must be over: before that there is no failure yet.
    disturbed = rollout.trace.disturbances[-1][0] if rollout.trace.disturbances else 0
    start = min(max(times.onset_step or 0, rollout.last_injection_step or 0, disturbed) + 1, end)
    shares = ((np.arange(count) + rng.random(count)) / count) ** 2
    return sorted({round(start + share * (end - start)) for share in shares})


def _random_generator(spec: CaseSpec) -> np.random.Generator:
    # The task's whole name, so that no numbers depend on how folders are named.
    text = spec.case_id.replace(folder_name(spec.task), spec.task, 1)
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))
