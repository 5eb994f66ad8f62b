"""`failsafe evaluate`: a policy with and without the monitor, from the same initial states."""

from __future__ import annotations

from pathlib import Path

from failsafe.cli.output import ProgressReporter
from failsafe.cli.parsing import parse_names, parse_seeds, parse_shard
from failsafe.cli.report import print_summary, publish
from failsafe.evaluation.conditions import CONTROLS, MONITOR, NEVER
from failsafe.evaluation.evaluate import evaluate as run_evaluation
from failsafe.execution.loading import load_executor
from failsafe.models.loading import COMPACT
from failsafe.monitors.budget import InterventionBudget
from failsafe.monitors.settings import MonitorSettings


def evaluate(
    policy: tuple[str, ...],
    out: Path,
    monitor: str = COMPACT,
    tasks: str = "PickCube-v1,PushCube-v1,StackCube-v1",
    seeds: str = "5000:5100",
    scenarios: str = "nominal",
    perturb: str = "",
    controls: bool = False,
    conditions: str = "",
    calibration: tuple[Path, ...] = (),
    threshold: float | None = None,
    budget: float = 0.25,
    takeovers: int = 6,
    max_steps: int = 400,
    asynchronous: bool = False,
    deadline: float = 5.0,
    workers: int | None = None,
    executor: str = "processes",
    shard: str = "0/1",
    videos: int = 3,
    json: bool = False,
) -> int:
    """Evaluate a policy with and without the monitor, from the same initial states.

    Interrupted at any time, the same command resumes. The exit status is 3 if the monitor asked for help in
    an episode.

    Args:
        policy: Base policies: reference:weak, openvla://HOST:PORT, openvla-oft://..., openpi://...,
            MODULE:CLASS.
        out: Folder of the results.
        monitor: Recovery model: "compact", a checkpoint, openai+http://HOST:PORT/v1?model=..., MODULE:CLASS.
        tasks: Names of tasks, or MODULE:FUNCTION that returns a failsafe.Task, separated by commas.
        seeds: FIRST:LAST seeds, the last not included.
        scenarios: What is unlike training, separated by commas; "nominal" is as in training.
        perturb: Run-time perturbations, MODE or MODE:MAGNITUDE separated by commas, for example
            slip,early_release:0.7: each is applied in each of the scenarios, in episodes of its own.
        controls: Also run every control.
        conditions: Conditions to run, separated by commas, in place of never,monitor.
        calibration: Thresholds made by `failsafe calibrate`; the shipped ones for reference policies. Some
            conditions, "never" among them, need none.
        threshold: Alarm threshold of all policies in accumulated log odds (5, for example), in place of a
            calibration.
        budget: Largest share of an episode's steps in which the monitor acts, 0 to 1; with 0 it only watches.
        takeovers: Largest number of takeovers in an episode.
        max_steps: Control steps after which an episode is over.
        asynchronous: Let the policy act while the model computes.
        deadline: Seconds after which an assessment is dropped.
        workers: Number of processes; one per core by default.
        executor: Where it runs: processes, serial (this process, for debugging), or MODULE:ATTRIBUTE.
        shard: I/N: run the I-th of N parts, from 0; `failsafe report` merges the parts.
        videos: Largest number of videos of each kind on the page, 0 for none; a shard has no videos.
        json: Print the summary as JSON.
    """
    part, run_on = parse_shard(shard), load_executor(executor, workers)
    with ProgressReporter("initial states", quiet=json) as reporter:
        results = run_evaluation(
            policy,
            monitor,
            out=out,
            tasks=parse_names(tasks),
            seeds=parse_seeds(seeds),
            scenarios=parse_names(scenarios),
            perturbations=parse_names(perturb),
            conditions=parse_names(conditions) or (NEVER, MONITOR, *(CONTROLS if controls else ())),
            calibration=calibration,
            threshold=threshold,
            settings=MonitorSettings(
                budget=InterventionBudget(share=budget, takeovers=takeovers),
                asynchronous=asynchronous,
                deadline=deadline,
            ),
            max_steps=max_steps,
            executor=run_on,
            shard=part,
            on_progress=reporter.update,
        )
    whole = part == (0, 1)
    summary, page = publish(results, out / "report.html", videos if whole else 0, run_on, json)
    print_summary(summary, page, json)
    return 3 if any(row.asked_for_help for row in summary.rows if row.condition == MONITOR) else 0
