"""Calibrate the monitor's alarm thresholds on successful episodes of a policy: `failsafe.calibrate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from failsafe.errors import UserError
from failsafe.evaluation.conditions import WATCH
from failsafe.evaluation.evaluate import MAX_STEPS, TASKS, evaluate
from failsafe.evaluation.hand_backs import learn_from_results
from failsafe.evaluation.objects import name_of
from failsafe.execution.contract import Executor
from failsafe.experts.tasks import Task
from failsafe.models.contract import RecoveryModel
from failsafe.models.loading import COMPACT, fingerprint
from failsafe.monitors.calibration import Calibration, check_alpha, write_calibration
from failsafe.monitors.calibration import calibrate as calibrate_scores
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.contract import Policy
from failsafe.policies.loading import policy_fingerprint
from failsafe.records.provenance import command_line
from failsafe.records.seeds import RANGES, SeedRole, role_of, text_of

SEEDS = range(800_000, 800_100)
"""Seeds of calibrations by default, of the range that is kept for them (`failsafe.records.seeds`)."""


def calibrate(
    policy: str | Policy,
    model: str | RecoveryModel = COMPACT,
    *,
    out: str | Path = "thresholds.json",
    alpha: float = 0.05,
    tasks: str | Task | Sequence[str | Task] = TASKS,
    seeds: range = SEEDS,
    max_steps: int = MAX_STEPS,
    hand_backs: str | Path | Sequence[str | Path] = (),
    workers: int | None = None,
    executor: str | Executor | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Find alarm thresholds that at most a share alpha of successful episodes exceed, and store them.

    The policy runs with a monitor that only observes. Interrupted, the same call resumes: the episodes are
    kept in a folder beside the file.

    Args:
        policy: Base policy: a name as for `load_policy`, or an object.
        model: Recovery model: a name as for `load_model`, or an object.
        out: JSON file of the thresholds.
        alpha: Largest share of successful episodes with an alarm, above 0 and below 1.
        tasks: One task or several: names, or objects.
        seeds: Seeds of the initial states, in steps of 1, that nothing else uses. Proof seeds are refused.
        max_steps: Control steps after which an episode is over.
        hand_backs: Folders of results of the policy with the model, on other seeds that may choose something,
            under conditions that hand back at different moments (monitor, escalate, assist). Where to hand
            back is learned from them, see `failsafe.evaluation.hand_backs`.
        workers: Number of workers, as for `evaluate`.
        executor: Where episodes run, as for `evaluate`.
        on_progress: Called with the number of initial states done so far, and of all.

    Returns:
        The thresholds by instruction, each with what it promises; None where successful episodes are too few
        to promise alpha.

    Raises:
        UserError: If alpha, a name, a number or the seeds are not allowed, or a folder of `hand_backs` holds
            other results or too few hand-backs.
        StoreError: If the episodes beside the file are of another calibration.
        FailSafeError: If the policy, the model or a task cannot be loaded.
    """
    check_alpha(alpha)
    if role_of(seeds) is SeedRole.PROOF:
        raise UserError(
            f"expected seeds that may choose a threshold, got the proof seeds {text_of(seeds)}: choose some "
            f"of {text_of(RANGES[SeedRole.CALIBRATE][0])}"
        )
    folders = [Path(hand_backs)] if isinstance(hand_backs, (str, Path)) else list(map(Path, hand_backs))
    # Before the episodes, which take hours: a folder may be of another policy.
    learned = (
        learn_from_results(folders, name_of(policy), fingerprint(model), policy_fingerprint(policy))
        if folders
        else None
    )
    settings = MonitorSettings()
    results = evaluate(
        policy,
        model,
        out=Path(out).with_suffix(".episodes"),
        tasks=tasks,
        seeds=seeds,
        conditions=(WATCH,),
        threshold=5.0,  # a monitor that only observes has none; the settings of a study name one
        settings=settings,
        max_steps=max_steps,
        workers=workers,
        executor=executor,
        on_progress=on_progress,
    )
    observed = [episode for episode in results.episodes() if episode.key.condition == WATCH]
    scores = [(e.instruction, e.top_score or 0.0) for e in observed if e.success]
    # An episode that never began has no instruction.
    instructions = sorted({e.instruction for e in observed if e.instruction})
    config = results.manifest.config
    found = calibrate_scores(
        scores,
        alpha,
        name_of(model),
        name_of(policy),
        settings.drift,
        command_line(),
        config.weights,
        instructions,
    )
    found = replace(
        found,
        policy_weights=config.policy_weights.get(name_of(policy), ""),
        code=config.code,
        seeds=(seeds.start, seeds.stop),
        hand_back=learned,
    )
    write_calibration(Path(out), found)
    return found
