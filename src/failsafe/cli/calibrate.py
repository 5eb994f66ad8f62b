"""`failsafe calibrate`: thresholds from successful rollouts of a policy."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.evaluate import parse_range
from failsafe.cli.output import ProgressReporter, print_json
from failsafe.evaluation.conditions import WATCH
from failsafe.evaluation.config import StudyConfig, study_items
from failsafe.evaluation.episodes import EpisodeLimits
from failsafe.evaluation.study import run_study
from failsafe.execution.loading import load_executor
from failsafe.models.loading import fingerprint
from failsafe.monitors.calibration import calibrate as calibrate_scores
from failsafe.monitors.calibration import check_alpha, write_calibration
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.loading import policy_fingerprint
from failsafe.records import codec
from failsafe.records.provenance import command_line


def calibrate(
    checkpoint: tyro.conf.Positional[str],
    /,
    policy: str,
    out: Path = Path("thresholds.json"),
    alpha: float = 0.05,
    tasks: str = "PickCube-v1,PushCube-v1,StackCube-v1",
    seeds: str = "400000:400100",
    max_steps: int = 400,
    workers: int | None = None,
    executor: str = "processes",
    json: bool = False,
) -> int:
    """Find alarm thresholds that at most a share alpha of successful episodes exceed.

    The policy runs with a monitor that only looks. Interrupted, the same command goes on where it was: the
    episodes are kept in a folder beside the file.

    Args:
        checkpoint: Recovery model: "compact", or a checkpoint.
        policy: Base policy, as for `failsafe evaluate`.
        out: File of the thresholds, with the ending .json.
        alpha: Share of successful episodes that may see an alarm.
        tasks: Names of tasks, separated by commas.
        seeds: FIRST:LAST seeds that nothing else uses.
        max_steps: Control steps after which an episode is over.
        workers: Processes; as many as there are cores by default.
        executor: Where it runs: processes, serial (this process, for debugging), or MODULE:ATTRIBUTE.
        json: Print the thresholds as JSON.
    """
    check_alpha(alpha)
    first, last = parse_range(seeds)
    settings = MonitorSettings()
    config = StudyConfig(
        tasks=tuple(name.strip() for name in tasks.split(",") if name.strip()),
        policies=(policy,),
        monitor=checkpoint,
        weights=fingerprint(checkpoint),
        policy_weights={policy: policy_fingerprint(policy)},
        first_seed=first,
        last_seed=last,
        conditions=(WATCH,),
        settings=settings,
        limits=EpisodeLimits(max_steps),
    )
    with ProgressReporter("initial states", len(study_items(config)), quiet=json) as reporter:
        results = run_study(
            config,
            out.with_suffix(".episodes"),
            load_executor(executor, workers),
            lambda cell: reporter.advance(1),
        )
    watched = [e for e in results.episodes() if e.key.condition == WATCH]
    scores = [(e.instruction, e.top_score or 0.0) for e in watched if e.success]
    # An episode that never began has no instruction.
    tried = sorted({e.instruction for e in watched if e.instruction})
    found = calibrate_scores(
        scores, alpha, checkpoint, policy, settings.drift, command_line(), config.weights, tried
    )
    write_calibration(out, found)
    if json:
        print_json(codec.to_plain(found))
        return 0
    for instruction, threshold in found.thresholds.items():
        value = "none: too few successes" if threshold.value is None else f"{threshold.value:.4f}"
        whose = " of all tasks, for it has too few" if threshold.pooled else ""
        print(f"{instruction}: threshold {value}, from {threshold.episodes} successful episodes{whose}")
    print(f"{out}: at most {alpha:.0%} of successful episodes to come will see an alarm")
    return 0
