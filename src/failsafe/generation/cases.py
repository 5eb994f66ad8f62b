"""One work item: a task, a seed and a perturbation, from the nominal twin to the proven corrections."""

from __future__ import annotations

import hashlib
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
from failsafe.records.perturbation import Perturbation
from failsafe.records.trace import Trace


@dataclass(frozen=True)
class CaseSpec:
    """What is to be done: the key of a case, and who asked for it."""

    task: str
    seed: int
    perturbations: tuple[Perturbation, ...]
    partition: int = 0
    target: int = 0

    @property
    def case_id(self) -> str:
        """Name of the case: equal items have equal names."""
        text = "".join(codec.dumps(p) for p in self.perturbations)
        return f"{self.task}-{self.seed:06d}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


@dataclass(frozen=True)
class CaseResult:
    """A case and its rollouts, ready to be stored."""

    case: FailureCase
    traces: dict[str, Trace]


def build_case(
    task: Task,
    nominal: NominalRollout,
    item: CaseSpec,
    labels: int,
    rollouts: int,
    statistics: CandidateStatistics | None = None,
) -> CaseResult:
    """Perturb, judge, correct, verify.

    Args:
        task: The task.
        nominal: Its nominal twin for the item's seed, which ended in success.
        item: What is to be done.
        labels: Moments after the onset to find corrections for.
        rollouts: Rollouts with each correction: one exact, the others with noise.
        statistics: What earlier cases of the partition say about candidates; by default nothing.
    """
    try:
        rollout = run_perturbed(task, nominal, item.perturbations)
    except PlanError as error:
        return unbuilt_case(item, nominal.record.plan.instruction, Outcome.PLAN_FAILED, str(error))
    except DivergedError as error:
        return unbuilt_case(item, nominal.record.plan.instruction, Outcome.DIVERGED, str(error))
    times = judge_times(nominal, rollout)
    outcome = Outcome.HARMLESS if rollout.success else Outcome.FAILURE
    traces = {FAILING: rollout.trace}
    found: list[Label] = []
    if outcome is Outcome.FAILURE:
        rng = _stream(item)
        verifier = Verifier(task, nominal, rollout, statistics, item.perturbations[0].mode)
        for i, step in enumerate(label_steps(rollout, times, labels, rng)):
            proof = verifier.prove(step, rollouts, rng)
            label = proof.label
            if proof.recovered is not None:
                name = f"recovery_{i}"
                traces[name] = proof.recovered
                label = Label(label.step, label.stage, label.correction, label.verification, name)
            found.append(label)
    case = FailureCase(
        case_id=item.case_id,
        task=item.task,
        seed=item.seed,
        instruction=nominal.record.plan.instruction,
        perturbations=item.perturbations,
        outcome=outcome,
        reason="",
        times=times,
        labels=tuple(found),
        stage_names=tuple(s.name for s in rollout.plan.stages),
        partition=item.partition,
        target=item.target,
    )
    return CaseResult(case, traces)


def unbuilt_case(item: CaseSpec, instruction: str, outcome: Outcome, reason: str) -> CaseResult:
    """A case that came to no rollout that could be judged."""
    case = FailureCase(
        case_id=item.case_id,
        task=item.task,
        seed=item.seed,
        instruction=instruction,
        perturbations=item.perturbations,
        outcome=outcome,
        reason=reason,
        times=Times(),
        labels=(),
        partition=item.partition,
        target=item.target,
    )
    return CaseResult(case, {})


def label_steps(
    rollout: PerturbedRollout, times: Times, count: int, rng: np.random.Generator
) -> Sequence[int]:
    """Moments after the onset, one drawn from each of `count` parts of what is left of the rollout.

    The parts grow with the square of the time: a monitor looks again and again, and meets a failure soon.
    """
    end = len(rollout.trace)
    # Not before every cause has set in and the world is left alone: what has yet to happen is no failure yet.
    disturbed = rollout.trace.disturbances[-1][0] if rollout.trace.disturbances else 0
    start = min(max(times.onset_step or 0, rollout.last_injection_step or 0, disturbed) + 1, end)
    shares = ((np.arange(count) + rng.random(count)) / count) ** 2
    return sorted({round(start + share * (end - start)) for share in shares})


def _stream(item: CaseSpec) -> np.random.Generator:
    digest = hashlib.sha256(item.case_id.encode()).digest()
    return np.random.default_rng(np.frombuffer(digest[:16], dtype=np.uint32))
