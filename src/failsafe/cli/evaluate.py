"""`failsafe evaluate`: a policy with and without the monitor, from the same initial states."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from failsafe.cli.execution import DEFAULT, Execution, ExecutionOptions
from failsafe.cli.output import ProgressReporter
from failsafe.cli.parsing import parse_names, parse_seeds, parse_shard
from failsafe.cli.report import print_summary, publish
from failsafe.errors import UserError
from failsafe.evaluation.conditions import CONTROLS, MONITOR, NEVER
from failsafe.evaluation.evaluate import evaluate as run_evaluation
from failsafe.evaluation.evaluate import plan_study
from failsafe.evaluation.notes import find_faults, notes
from failsafe.evaluation.protocol import freeze as make_protocol
from failsafe.evaluation.protocol import run_protocol, write_protocol
from failsafe.models.loading import COMPACT
from failsafe.monitors.budget import InterventionBudget
from failsafe.monitors.settings import MonitorSettings

_BESIDE_A_PROTOCOL = ("protocol", "out", "execution", "shard", "videos", "json")
"""Parameters that do not change what is run."""


def evaluate(
    policy: tuple[str, ...] = (),
    out: Path | None = None,
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
    execution: ExecutionOptions = DEFAULT,
    shard: str = "0/1",
    videos: int = 3,
    freeze: Path | None = None,
    end_point: str = "",
    hours: float = 0.0,
    protocol: Path | None = None,
    json: bool = False,
) -> int:
    """Evaluate a policy with and without the monitor, from the same initial states.

    Interrupted at any time, the same command resumes. The exit status is 4 if every query of the monitor
    failed in some cell of the table, and 3 if the monitor asked for help in an episode.

    Proof seeds (900000:1000000) are evaluated by a protocol: a first command, with --freeze FILE, writes what
    is to be run into a file; a second, with --protocol FILE, runs exactly that.

    Args:
        policy: Base policies: reference:weak, openvla://HOST:PORT, openvla-oft://..., openpi://...,
            MODULE:CLASS. A server of a policy for LIBERO: openpi://HOST:PORT?preset=libero.
        out: Folder of the results.
        monitor: Recovery model: "compact" (ManiSkill), "compact-metaworld", a checkpoint,
            openai+http://HOST:PORT/v1?model=..., MODULE:CLASS.
        tasks: Names of tasks, or MODULE:FUNCTION that returns a failsafe.Task, separated by commas.
        seeds: FIRST:LAST seeds, the last not included, all of one role; 5000:10000 are for development.
        scenarios: What is unlike training, separated by commas; "nominal" is as in training.
        perturb: Run-time perturbations, MODE or MODE:MAGNITUDE separated by commas, for example
            slip,early_release:0.7: each is applied in each of the scenarios, in episodes of its own.
        controls: Also run every control.
        conditions: Conditions to run, separated by commas, in place of never,monitor.
        calibration: Thresholds made by `failsafe calibrate`; the shipped ones for reference policies. Some
            conditions, "never" among them, need none.
        threshold: Alarm threshold of all policies in accumulated log odds (5, for example), in place of a
            calibration.
        budget: Largest share of the step limit in which the monitor acts, 0 to 1; with 0 it only watches.
        takeovers: Largest number of takeovers in an episode.
        max_steps: Control steps after which an episode is over.
        asynchronous: Let the policy act while the model computes.
        deadline: Seconds after which an assessment is dropped.
        execution: Where it runs.
        shard: I/N: run the I-th of N parts, from 0; `failsafe report` merges the parts.
        videos: Largest number of videos of each kind on the page, 0 for none; a shard has no videos.
        freeze: Write a protocol to this file, and run nothing.
        end_point: The primary end point of the protocol, in words.
        hours: Hours of computation that the run of the protocol may take.
        protocol: Run this protocol, in place of all options that say what to run.
        json: Print the summary as JSON.

    Raises:
        UserError: If an option is missing or contradicts a protocol.
    """
    given = dict(locals())
    part, run_on = parse_shard(shard), execution.load()
    study: dict[str, Any] = {
        "tasks": parse_names(tasks),
        "seeds": parse_seeds(seeds),
        "scenarios": parse_names(scenarios),
        "perturbations": parse_names(perturb),
        "conditions": parse_names(conditions) or (NEVER, MONITOR, *(CONTROLS if controls else ())),
        "calibration": calibration,
        "threshold": threshold,
        "settings": MonitorSettings(
            budget=InterventionBudget(share=budget, takeovers=takeovers),
            asynchronous=asynchronous,
            deadline=deadline,
        ),
        "max_steps": max_steps,
    }
    if protocol is not None:
        _check_alone(given)
    elif not policy:
        raise UserError("expected --policy, or a file to run with --protocol")
    if freeze is not None:
        config, _ = plan_study(policy, monitor, **study)
        write_protocol(freeze, make_protocol(config, end_point, hours))
        print(f"{freeze}: commit it, then run it once: failsafe evaluate --protocol {freeze} --out FOLDER")
        return 0
    if out is None:
        raise UserError("expected --out with the folder of the results")
    with ProgressReporter("initial states", quiet=json) as reporter:
        if protocol is not None:
            results = run_protocol(protocol, out, run_on, part, reporter.update)
        else:
            results = run_evaluation(
                policy, monitor, out=out, executor=run_on, shard=part, on_progress=reporter.update, **study
            )
    whole = part == (0, 1)
    summary, page = publish(results, out / "report.html", videos if whole else 0, run_on, json)
    faults = find_faults(results.episodes())
    print_summary(summary, page, json, notes(results.manifest, faults))
    if any(found.all_failed for found in faults):
        return 4
    return 3 if any(row.asked_for_help for row in summary.rows if row.condition == MONITOR) else 0


def _check_alone(given: Mapping[str, object]) -> None:
    """Check that no option contradicts a protocol, which says what to run.

    Raises:
        UserError: If one does.
    """
    defaults = inspect.signature(evaluate).parameters
    flags: list[str] = []
    for beside in _BESIDE_A_PROTOCOL[1:]:
        names = Execution.__dataclass_fields__ if beside == "execution" else (beside,)
        flags += [f"--{name.replace('_', '-')}" for name in names]
    for name, value in given.items():
        if name not in _BESIDE_A_PROTOCOL and value != defaults[name].default:
            raise UserError(
                f"expected --protocol without --{name.replace('_', '-')}: the file says what to run; with it "
                f"go {', '.join(flags)}"
            )
