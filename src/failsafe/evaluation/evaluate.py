"""Evaluate policies with and without the monitor: `failsafe.evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from failsafe.errors import UserError
from failsafe.evaluation.code import study_code
from failsafe.evaluation.conditions import CONDITIONS, MONITOR, NEVER, WATCH
from failsafe.evaluation.config import StudyConfig, study_items
from failsafe.evaluation.episodes import EpisodeLimits
from failsafe.evaluation.objects import StudyObjects, name_of
from failsafe.evaluation.results import Results
from failsafe.evaluation.scenarios import perturbed_scenarios
from failsafe.evaluation.study import counting, run_study
from failsafe.execution.contract import Executor
from failsafe.execution.loading import choose_executor
from failsafe.experts.tasks import Task, expand_tasks
from failsafe.models.contract import RecoveryModel
from failsafe.models.loading import COMPACT
from failsafe.monitors.calibration import Calibration
from failsafe.monitors.guard import find_calibration
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.contract import Policy
from failsafe.records.seeds import SeedRole, role_of, text_of

TASKS = ("PickCube-v1", "PushCube-v1", "StackCube-v1")
"""The tasks of the default model."""
SEEDS = range(5000, 5100)
"""Seeds of evaluations by default, of those for development (`failsafe.records.seeds`)."""
MAX_STEPS = 400
"""Control steps after which an episode is over (20 s at 20 Hz)."""


def evaluate(
    policy: str | Policy | Sequence[str | Policy],
    model: str | RecoveryModel = COMPACT,
    *,
    out: str | Path,
    tasks: str | Task | Sequence[str | Task] = TASKS,
    seeds: range = SEEDS,
    scenarios: Sequence[str] = ("nominal",),
    perturbations: Sequence[str] = (),
    conditions: Sequence[str] = (NEVER, MONITOR),
    calibration: str | Path | Calibration | Sequence[str | Path | Calibration] = (),
    threshold: float | None = None,
    settings: MonitorSettings | None = None,
    max_steps: int = MAX_STEPS,
    workers: int | None = None,
    executor: str | Executor | None = None,
    shard: tuple[int, int] = (0, 1),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Results:
    """Run policies with and without the monitor from the same initial states, and store every episode.

    Interrupted at any moment, the same call resumes. `Results.summary` computes success rates, intervals and
    paired tests.

    Args:
        policy: One base policy or several: names as for `load_policy`, or objects. An object is known by its
            name and the code of its class, not by the arguments it was made with: give objects with other
            arguments other names, or another `out`.
        model: Recovery model: a name as for `load_model`, or an object.
        out: Folder of the results.
        tasks: One task or several: names, or objects. The name of a suite stands for all of its tasks.
        seeds: Seeds of the initial states, in steps of 1, all of one role (`failsafe.records.seeds`). Proof
            seeds need a protocol (`failsafe.evaluation.protocol`).
        scenarios: What is unlike training: names of scenarios; several in one episode are joined by "+".
        perturbations: Modes that need no plan, such as "slip" or "early_release:0.7", each applied in each of
            the scenarios in episodes of its own.
        conditions: Who acts in an episode: "never" is the policy alone, "monitor" the policy with the
            monitor; the others are controls (`failsafe.evaluation.conditions.CONDITIONS`).
        calibration: Alarm thresholds of each policy, or the files that hold them. Default: the shipped
            thresholds, which exist for reference policies and the shipped model of their tasks, both given by
            name.
        threshold: Alarm threshold of all policies, in accumulated log odds, in place of calibrations.
        settings: When the monitor queries the model, acts and gives up.
        max_steps: Control steps after which an episode is over.
        workers: Number of workers. Default: one per core; for objects, none: episodes run in this process.
        executor: Where episodes run: a name, or an executor. Default: "processes"; "serial" for objects,
            unless `workers` asks for several.
        shard: Part (i, n) of the evaluation to run here, i from 0.
        on_progress: Called with the number of initial states done so far, and of all.

    Returns:
        The results in `out`.

    Raises:
        UserError: If a name is unknown, a number is out of range, thresholds are missing or of another model
            or code, the model does not know a task, seeds are of another role or were trained or calibrated
            on, or an object cannot be sent to another process.
        StoreError: If `out` holds the results of another evaluation.
        FailSafeError: If a policy, a model or a task cannot be loaded.
    """
    config, objects = plan_study(
        policy,
        model,
        tasks=tasks,
        seeds=seeds,
        scenarios=scenarios,
        perturbations=perturbations,
        conditions=conditions,
        calibration=calibration,
        threshold=threshold,
        settings=settings,
        max_steps=max_steps,
    )
    _check_role(seeds, config.conditions)
    count = counting(on_progress, len(study_items(config, shard)))
    run_on = choose_executor(executor, workers, objects if objects.any else None)
    return run_study(config, Path(out), run_on, count, shard, objects)


def plan_study(
    policy: str | Policy | Sequence[str | Policy],
    model: str | RecoveryModel = COMPACT,
    *,
    tasks: str | Task | Sequence[str | Task] = TASKS,
    seeds: range = SEEDS,
    scenarios: Sequence[str] = ("nominal",),
    perturbations: Sequence[str] = (),
    conditions: Sequence[str] = (NEVER, MONITOR),
    calibration: str | Path | Calibration | Sequence[str | Path | Calibration] = (),
    threshold: float | None = None,
    settings: MonitorSettings | None = None,
    max_steps: int = MAX_STEPS,
) -> tuple[StudyConfig, StudyObjects]:
    """Return the configuration of an evaluation without running it.

    The arguments and errors are those of `evaluate`: see `failsafe.evaluation.evaluate.evaluate`.

    Returns:
        The configuration, and what was given as objects.
    """
    if seeds.step != 1:
        raise UserError(f"expected seeds in steps of 1, got {seeds}: give range(first, last)")
    role_of(seeds)  # refuses seeds of two roles
    policies = [policy] if isinstance(policy, (str, Policy)) else list(policy)
    given_tasks = expand_tasks([tasks] if isinstance(tasks, (str, Task)) else tasks)
    objects = StudyObjects.of(policies, model, given_tasks)
    one = isinstance(calibration, (str, Path, Calibration))
    given = [calibration] if one else list(calibration)
    chosen = [CONDITIONS[condition] for condition in conditions]
    uses_threshold = any(condition.monitored and condition.threshold is None for condition in chosen)
    wanted = threshold is None and (uses_threshold or given)
    calibrations = _calibrations(policies, model, given) if wanted else {}
    if settings is None:
        drifts = {found.drift for found in calibrations.values()}
        settings = MonitorSettings(drift=drifts.pop()) if len(drifts) == 1 else MonitorSettings()
    both = perturbed_scenarios(tuple(scenarios), tuple(perturbations))
    config = StudyConfig(
        tasks=objects.task_names,
        policies=objects.policy_names,
        monitor=name_of(model),
        weights=objects.model_fingerprint,
        policy_weights=objects.policy_fingerprints,
        code=study_code(given_tasks, both, tuple(conditions)),
        first_seed=seeds.start,
        last_seed=seeds.stop,
        scenarios=both,
        conditions=tuple(conditions),
        threshold=5.0 if threshold is None else threshold,
        calibrations=calibrations,
        settings=settings,
        limits=EpisodeLimits(max_steps),
    )
    return config, objects


def _check_role(seeds: range, conditions: Sequence[str]) -> None:
    """Check that seeds may be evaluated without a protocol."""
    role = role_of(seeds)
    if role is SeedRole.PROOF:
        raise UserError(
            f"expected a protocol for proof seeds, got the proof seeds {text_of(seeds)} without one: freeze "
            f"a protocol and run it, or choose development seeds such as {text_of(SEEDS)}"
        )
    if role is SeedRole.CALIBRATE and set(conditions) != {WATCH}:
        raise UserError(
            f"expected seeds for an evaluation, got {text_of(seeds)}, which are kept for calibration: choose "
            f"development seeds such as {text_of(SEEDS)}"
        )


def _calibrations(
    policies: Iterable[str | Policy],
    model: str | RecoveryModel,
    given: Sequence[str | Path | Calibration],
) -> dict[str, Calibration]:
    """Return the calibration of each policy, by the policy's name."""
    read = [find_calibration("", model, one) for one in given]
    by_policy: Mapping[str, Calibration] = {found.policy: found for found in read}
    names = [name_of(policy) for policy in policies]
    if others := sorted(by_policy.keys() - set(names)):
        raise UserError(f"expected thresholds for {', '.join(names)}, got some for {', '.join(others)}")
    return {
        name_of(policy): by_policy.get(name_of(policy)) or find_calibration(policy, model, None)
        for policy in policies
    }
