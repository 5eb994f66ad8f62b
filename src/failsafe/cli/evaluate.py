"""`failsafe evaluate`: a policy with and without the monitor, from the same initial states."""

from __future__ import annotations

import re
from pathlib import Path

from failsafe.cli.output import ProgressReporter
from failsafe.cli.report import publish, say
from failsafe.errors import UserError
from failsafe.evaluation.conditions import CONTROLS, MONITOR, NEVER
from failsafe.evaluation.config import StudyConfig, study_items
from failsafe.evaluation.episodes import EpisodeLimits
from failsafe.evaluation.scenarios import perturbed_scenarios
from failsafe.evaluation.study import run_study
from failsafe.execution.loading import load_executor
from failsafe.models.loading import COMPACT, fingerprint
from failsafe.monitors.calibration import Calibration, read_calibration, shipped_calibration
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.loading import policy_fingerprint


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
    take_overs: int = 6,
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

    Interrupted at any moment, the same command goes on where it was. The exit status is 3 if the monitor
    asked for help in an episode.

    Args:
        policy: Base policies: reference:weak, openvla://HOST:PORT, openvla-oft://..., openpi://...,
            python:MODULE:CLASS.
        out: Folder of the results.
        monitor: Recovery model: "compact", or a checkpoint.
        tasks: Names of tasks, separated by commas.
        seeds: FIRST:LAST seeds, the last not included.
        scenarios: Axes of generalisation, separated by commas; "nominal" is as in training.
        perturb: Run-time perturbations, MODE or MODE:MAGNITUDE separated by commas, for example
            slip,early_release:0.7: each is applied in each of the scenarios, in episodes of its own.
        controls: Run every control beside the monitor.
        conditions: Conditions to run, separated by commas, in place of never,monitor.
        calibration: Thresholds made by `failsafe calibrate`; the shipped ones for reference policies.
        threshold: Alarm above this score (log odds that have added up, 5 say), for all policies, in place of
            a calibration.
        take_overs: The most take-overs of an episode.
        max_steps: Control steps after which an episode is over.
        asynchronous: The policy goes on while the model thinks.
        deadline: Seconds after which a verdict is dropped.
        workers: Processes; as many as there are cores by default.
        executor: Where it runs: processes, serial (this process, for debugging), or MODULE:ATTRIBUTE.
        shard: I/N: run the i-th of n parts, from 0; `failsafe report` takes the parts together.
        videos: Film at most so many episodes of each kind for the page, 0 for none; a shard has no films.
        json: Print the summary as JSON.
    """
    chosen = _names(conditions) or (NEVER, MONITOR, *(CONTROLS if controls else ()))
    weights = fingerprint(monitor)
    thresholds = {} if threshold is not None else _calibrations(policy, monitor, weights, calibration)
    config = StudyConfig(
        tasks=_names(tasks),
        policies=tuple(policy),
        monitor=monitor,
        weights=weights,
        policy_weights={name: policy_fingerprint(name) for name in policy},
        first_seed=parse_range(seeds)[0],
        last_seed=parse_range(seeds)[1],
        scenarios=perturbed_scenarios(_names(scenarios), _names(perturb)),
        conditions=chosen,
        threshold=5.0 if threshold is None else threshold,
        calibrations=thresholds,
        settings=MonitorSettings(max_takeovers=take_overs, asynchronous=asynchronous, deadline=deadline),
        limits=EpisodeLimits(max_steps),
    )
    part = parse_shard(shard)
    run_on = load_executor(executor, workers)
    with ProgressReporter("initial states", len(study_items(config, part)), quiet=json) as reporter:
        results = run_study(config, out, run_on, lambda cell: reporter.advance(1), part)
    whole = part == (0, 1)
    summary, page = publish(results, out / "report.html", videos if whole else 0, run_on, json)
    say(summary, page, json)
    asked = sum(row.asked_for_help for row in summary.rows if row.condition == MONITOR)
    return 3 if asked else 0


def parse_range(text: str) -> tuple[int, int]:
    """FIRST:LAST as two numbers.

    Raises:
        UserError: If it is something else.
    """
    found = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if not found or int(found[1]) >= int(found[2]):
        raise UserError(f"expected seeds FIRST:LAST such as 5000:5100, got '{text}'")
    return int(found[1]), int(found[2])


def parse_shard(text: str) -> tuple[int, int]:
    """I/N as two numbers.

    Raises:
        UserError: If it is something else.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not found or int(found[1]) >= int(found[2]):
        raise UserError(f"expected a shard I/N such as 0/4, got '{text}'")
    return int(found[1]), int(found[2])


def _calibrations(
    policies: tuple[str, ...], monitor: str, weights: str, files: tuple[Path, ...]
) -> dict[str, Calibration]:
    given = {found.policy: found for found in (read_calibration(file, monitor, weights) for file in files)}
    for other in sorted(given.keys() - set(policies)):
        raise UserError(f"expected thresholds for {', '.join(policies)}, got some for {other}")
    for policy in policies:
        if policy in given:
            continue
        shipped = shipped_calibration(policy) if monitor == COMPACT else None
        if shipped is None:
            raise UserError(
                f"there are no thresholds for {policy} with the monitor {monitor}: make some with `failsafe "
                f"calibrate {monitor} --policy {policy} --out FILE` and give them with --calibration, or "
                "choose one with --threshold"
            )
        given[policy] = shipped
    return {policy: given[policy] for policy in policies}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
