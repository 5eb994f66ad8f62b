"""`failsafe calibrate`: alarm thresholds from successful episodes of a policy."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.execution import DEFAULT, ExecutionOptions
from failsafe.cli.output import ProgressReporter, print_json
from failsafe.cli.parsing import parse_names, parse_seeds
from failsafe.evaluation.calibrate import calibrate as find_thresholds
from failsafe.records import codec


def calibrate(
    checkpoint: tyro.conf.Positional[str],
    /,
    policy: str,
    out: Path = Path("thresholds.json"),
    alpha: float = 0.05,
    tasks: str = "PickCube-v1,PushCube-v1,StackCube-v1",
    seeds: str = "800000:800100",
    max_steps: int = 400,
    hand_backs: tuple[Path, ...] = (),
    execution: ExecutionOptions = DEFAULT,
    json: bool = False,
) -> int:
    """Find alarm thresholds that at most a share alpha of successful episodes exceed.

    The policy runs with a monitor that only observes. Interrupted, the same command resumes: the episodes are
    kept in a folder beside the file.

    Args:
        checkpoint: Recovery model: "compact", "compact-metaworld", a checkpoint, openai+http://HOST:PORT/v1?model=...,
            MODULE:CLASS.
        policy: Base policy, as for `failsafe evaluate`.
        out: File of the thresholds, with the ending .json.
        alpha: Largest share of successful episodes with an alarm.
        tasks: Names of tasks, or MODULE:FUNCTION that returns a failsafe.Task, separated by commas.
        seeds: FIRST:LAST seeds that nothing else uses, the last not included; 800000:900000 are kept for it.
        max_steps: Control steps after which an episode is over.
        hand_backs: Folders of results of this policy and model, made by `failsafe evaluate` on development
            seeds with the conditions monitor,escalate,assist: learn from them where to hand back.
        execution: Where it runs.
        json: Print the thresholds as JSON.
    """
    with ProgressReporter("initial states", quiet=json) as reporter:
        found = find_thresholds(
            policy,
            checkpoint,
            out=out,
            alpha=alpha,
            tasks=parse_names(tasks),
            seeds=parse_seeds(seeds),
            max_steps=max_steps,
            hand_backs=hand_backs,
            executor=execution.load(),
            on_progress=reporter.update,
        )
    if json:
        print_json(codec.to_plain(found))
        return 0
    for instruction, threshold in found.thresholds.items():
        value = "none" if threshold.value is None else f"{threshold.value:.4f}"
        print(f"{instruction}: threshold {value}, from {threshold.episodes} successful episodes")
        print(f"  promises {threshold.promise}")
    if (learned := found.hand_back) is not None:
        print(f"hand-back model: {learned.origin}")
    if all(threshold.value is None for threshold in found.thresholds.values()):
        print(f"{out}: no threshold, so a monitor would never raise an alarm: calibrate with more seeds")
    else:
        print(f"{out}: the promises hold for episodes like the recorded ones, on average over calibrations")
    return 0
