"""One episode of a policy as a case: judged, dated, compared, and labelled with proven corrections."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from failsafe.datasets.mined import MiningConfig
from failsafe.evaluation.scenarios import scenario
from failsafe.experts.tasks import Task
from failsafe.generation.cases import CaseResult, label_steps
from failsafe.generation.continuations import ExpertContinuation
from failsafe.generation.corrections import MAX_SECONDS, Candidate
from failsafe.generation.nominal import NominalRollout
from failsafe.generation.perturbed import PerturbedRollout
from failsafe.generation.verification import Proof, Verifier
from failsafe.mining.nearest import find_nearest
from failsafe.mining.progress import measure_expert_steps
from failsafe.mining.rollout import PolicyContinuation, PolicyDriver, PolicyEpisode, run_policy
from failsafe.perturbations import MODES
from failsafe.records import codec, poses
from failsafe.records.case import (
    FAILING,
    FailureCase,
    Label,
    Outcome,
    PolicySource,
    RecoveryStrategy,
    Times,
)
from failsafe.records.embodiment import EmbodimentSpec
from failsafe.records.names import folder_name
from failsafe.records.trace import Trace
from failsafe.rollouts.branching import restores_closely

_PREFIX_SECONDS = (0.3, 0.6, 0.9, MAX_SECONDS)
"""Durations of the parts of an expert's rollout that are tried as corrections for a policy."""


def mined_case_id(config: MiningConfig, task: str, seed: int) -> str:
    """Return the name of the case of an episode, made from task, seed, policy and settings.

    Args:
        config: What is mined.
        task: Name of the task.
        seed: Seed of the initial state.
    """
    kept = {**codec.to_plain(config), "tasks": [], "episodes": 0, "first_seed": 0, "perturbations": []}
    text = f"{sorted(kept.items())} {config.scenario(seed)}"
    return f"{folder_name(task)}-{seed:06d}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def mine_episode(
    task: Task, nominal: NominalRollout, driver: PolicyDriver, config: MiningConfig, deterministic: bool
) -> CaseResult:
    """Run one episode of a policy, and find out where it failed and what corrects it.

    Args:
        task: The task.
        nominal: Its nominal rollout of the initial state, which ended in success.
        driver: The policy.
        config: What is mined.
        deterministic: Whether equal observations give equal actions.
    """
    seed = nominal.record.seed
    episode = run_policy(task, driver, seed, scenario(config.scenario(seed)), config.max_steps)
    case_id = mined_case_id(config, task.name, seed)
    case = FailureCase(
        case_id=case_id,
        task=task.name,
        seed=seed,
        instruction=nominal.record.plan.instruction,
        perturbations=tuple(injection.mode.perturbation for injection in episode.injections),
        outcome=_outcome(episode),
        reason=episode.error,
        times=Times(injection_step=_injected(episode)[0]),
        labels=(),
        stage_names=tuple(stage.name for stage in nominal.record.plan.stages),
        policy=PolicySource(config.policy, config.weights, deterministic),
    )
    if episode.error:
        return CaseResult(case, {})
    close = restores_closely(task.simulator, seed, nominal.trace)
    progress = measure_expert_steps(task, nominal, episode.trace, close)
    stages = progress.stages(nominal, len(episode.trace))
    episode = dataclasses.replace(episode, trace=dataclasses.replace(episode.trace, stages=stages))
    pairs = tuple(zip(progress.steps, progress.needed, strict=True))
    case, traces = dataclasses.replace(case, expert_steps=pairs), {FAILING: episode.trace}
    if episode.success:
        return CaseResult(case, traces)
    left = progress.left_step
    times = Times(case.times.injection_step, onset_step=left, failure_step=left)
    rng = np.random.default_rng(np.frombuffer(hashlib.sha256(case_id.encode()).digest()[:16], np.uint32))
    labels = list[Label]()
    for step in label_steps(_failing(nominal, episode, False), times, config.labels, rng):
        for label, recovered in _prove(task, nominal, driver, episode, step, config, deterministic, rng):
            if recovered is not None:
                label = dataclasses.replace(label, recovery=f"recovery_{len(labels)}")
                traces[label.recovery] = recovered
            labels.append(label)
    nearest = find_nearest(task, nominal, episode.trace, left, MODES.registered)
    return CaseResult(dataclasses.replace(case, times=times, labels=tuple(labels), nearest=nearest), traces)


def _prove(
    task: Task,
    nominal: NominalRollout,
    driver: PolicyDriver,
    episode: PolicyEpisode,
    step: int,
    config: MiningConfig,
    deterministic: bool,
    rng: np.random.Generator,
) -> list[tuple[Label, Trace | None]]:
    """Return the label of a step with the expert going on, and with the policy going on."""
    seed, rollouts = nominal.record.seed, config.verify_rollouts
    by_expert = Verifier(
        task,
        nominal,
        _failing(nominal, episode, False),
        continuation=ExpertContinuation(task, nominal, episode.trace),
    ).prove(step, rollouts, rng)
    by_policy = Verifier(
        task,
        nominal,
        _failing(nominal, episode, True),
        continuation=PolicyContinuation(
            config.policy, driver, seed, episode, 1 if deterministic else config.samples
        ),
    ).prove(step, rollouts, rng, expert_prefixes(by_expert, task.simulator.spec.embodiment))
    return [(proof.label, proof.recovered) for proof in (by_expert, by_policy)]


def expert_prefixes(proof: Proof, embodiment: EmbodimentSpec) -> list[Candidate]:
    """Return candidates for a policy: the correction of the expert, and ever longer parts of what follows it.

    Args:
        proof: A proof with the expert going on.
        embodiment: The robot.

    Returns:
        The candidates, shortest first; none if the expert has no proven correction.
    """
    correction, trace = proof.label.correction, proof.recovered
    if correction is None or trace is None:
        return []
    step, shortest = proof.label.step, len(correction.actions)
    found = [Candidate(correction.strategy, correction.actions, -1, correction.resume_stage)]
    actions = list(correction.actions)
    at = trace.targets[step + shortest - 1].astype(np.float64)
    for target, gripper in zip(
        trace.targets[step + shortest :].astype(np.float64),
        trace.gripper_commands[step + shortest :],
        strict=True,
    ):
        actions.append((*poses.delta_between(at, target).tolist(), float(gripper)))
        at = target
    for seconds in _PREFIX_SECONDS:
        length = embodiment.steps(seconds)
        if shortest < length <= len(actions):
            found.append(Candidate(RecoveryStrategy.EXPERT_ROLLOUT, tuple(actions[:length]), -1, ""))
    return found


def _outcome(episode: PolicyEpisode) -> Outcome:
    if episode.error:
        return Outcome.DIVERGED if episode.error.startswith("physics") else Outcome.PLAN_FAILED
    return Outcome.HARMLESS if episode.success else Outcome.FAILURE


def _injected(episode: PolicyEpisode) -> tuple[int | None, int | None]:
    """Return the first and the last control step on which a perturbation acted."""
    steps = [i.step for i in episode.injections if i.step is not None]
    last = [i.last_step for i in episode.injections if i.last_step is not None]
    return min(steps, default=None), max(last, default=None)


def _failing(nominal: NominalRollout, episode: PolicyEpisode, by_policy: bool) -> PerturbedRollout:
    """Return a failed episode as what a proof starts from.

    Args:
        nominal: The nominal rollout of the same initial state.
        episode: The episode.
        by_policy: Whether the policy goes on. Then its perturbation is the cause, which may be over; if the
            expert goes on, the policy itself is the cause.
    """
    first, last = _injected(episode)
    over = -1 if last is None else last
    return PerturbedRollout(
        trace=episode.trace,
        success=episode.success,
        plan=nominal.record.plan,
        spans=nominal.record.spans,
        injection_step=first,
        last_injection_step=first,
        last_cause_step=over if by_policy else None,
    )
