"""Check a task before a long run: `failsafe.check_task`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from failsafe.errors import MissingRendererError, UserError
from failsafe.experts.own_step import compare_own_step
from failsafe.experts.tasks import Task, load_task, task_name
from failsafe.generation.cases import build_case
from failsafe.generation.config import GenerationConfig
from failsafe.generation.nominal import NominalRollout, run_nominal
from failsafe.generation.sampling import PartitionSampler
from failsafe.records.case import FAILING, FailureCase
from failsafe.records.trace import Trace
from failsafe.simulators.contract import ObjectSpec, Simulator, StepComparison

SEEDS = range(10)
"""Initial states on which the expert is tried by default."""
_ATTEMPTS = 40
"""Perturbed rollouts after which the search for a failure with a proven correction is given up."""
_PICTURE = 224
"""Height and width of a picture, pixels."""
_LEAST_SOLVED = 0.5
"""Share of initial states below which the expert is too weak: every one that it fails on is skipped."""


@dataclass(frozen=True)
class TaskCheck:
    """What was found out about a task.

    Attributes:
        task: Name of the task.
        instruction: Instruction of the first episode.
        objects: Objects of the first episode.
        robot: Name of the robot.
        control_hz: Control rate, 1/s.
        seeds: The initial states that the expert was tried on.
        failed: Seeds that the expert did not solve, with the reason.
        comparison: Comparison with the simulator's own step; None where the adapter is the only one.
        pictures: A picture of the first initial state from each camera. [H, W, 3]
        no_pictures: Why there are none; empty if there are, or the task has no camera.
        attempts: Perturbed rollouts until the first failure with a proven correction.
        case: That failure; None if none was found.
        endings: Pictures of the end of the failure and of its recovery, from the first camera.
        problems: What must be put right before a long run; empty if nothing.
    """

    task: str
    instruction: str
    objects: tuple[ObjectSpec, ...]
    robot: str
    control_hz: float
    seeds: tuple[int, ...]
    failed: dict[int, str]
    comparison: StepComparison | None
    pictures: dict[str, UInt8[np.ndarray, "H W 3"]]
    no_pictures: str
    attempts: int
    case: FailureCase | None
    endings: dict[str, UInt8[np.ndarray, "H W 3"]]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing has to be put right."""
        return not self.problems


def check_task(task: str | Task, seeds: range = SEEDS) -> TaskCheck:
    """Try what a long run needs of a task, in less than a minute for most.

    The expert is tried on some initial states, one rollout is compared with the simulator's own step, every
    camera is asked for a picture, and one failure with a proven correction is generated.

    Args:
        task: The task, by name or as an object.
        seeds: Seeds of the initial states.

    Raises:
        UserError: If there is no such task, or it cannot be loaded, or there is no seed.
    """
    if not seeds:
        raise UserError("expected at least one seed, got none")
    loaded = load_task(task) if isinstance(task, str) else dataclasses.replace(task, name=task_name(task))
    simulator = loaded.simulator
    episode = simulator.reset(seeds[0])
    pictures, no_pictures = _pictures(simulator)
    comparison = compare_own_step(loaded, seeds[0])
    failed: dict[int, str] = {}
    solved: NominalRollout | None = None
    for seed in seeds:
        nominal = run_nominal(loaded, seed)
        if not nominal.record.success:
            failed[seed] = nominal.record.reason
        elif solved is None:
            solved = nominal
    attempts, case, traces = 0, None, dict[str, Trace]()
    if solved is not None and not (comparison and comparison.difference):
        attempts, case, traces = _find_failure(loaded, solved)
    found = TaskCheck(
        task=loaded.name,
        instruction=episode.instruction,
        objects=episode.objects,
        robot=simulator.spec.embodiment.robot,
        control_hz=simulator.spec.embodiment.control_hz,
        seeds=tuple(seeds),
        failed=failed,
        comparison=comparison,
        pictures=pictures,
        no_pictures=no_pictures,
        attempts=attempts,
        case=case,
        endings=_endings(simulator, case, traces) if pictures and case else {},
        problems=(),
    )
    return dataclasses.replace(found, problems=tuple(_problems(found)))


def _pictures(simulator: Simulator) -> tuple[dict[str, UInt8[np.ndarray, "H W 3"]], str]:
    cameras = simulator.spec.cameras
    try:
        return dict(zip(cameras, simulator.render(cameras, _PICTURE), strict=True)) if cameras else {}, ""
    except MissingRendererError as error:
        return {}, str(error)


def _find_failure(task: Task, nominal: NominalRollout) -> tuple[int, FailureCase | None, dict[str, Trace]]:
    """Return the number of attempts and the first failure with a proven correction, with its rollouts."""
    seed = nominal.record.seed
    config = GenerationConfig(
        (task.name,), 1, first_seed=seed, last_seed=seed + 1, labels=2, verify_rollouts=1, compound=0.0
    )
    sampler = PartitionSampler(config, 0)
    for attempt in range(_ATTEMPTS):
        drawn = sampler.draw(nominal, 0)
        if drawn is None:
            return attempt, None, {}
        result = build_case(task, nominal, drawn, config.labels, config.verify_rollouts)
        sampler.learn(result.case)
        if result.case.verified:
            return attempt + 1, result.case, result.traces
    return _ATTEMPTS, None, {}


def _endings(
    simulator: Simulator, case: FailureCase, traces: dict[str, Trace]
) -> dict[str, UInt8[np.ndarray, "H W 3"]]:
    """Return pictures of the end of the failure and of its recovery."""
    recovery = next(label.recovery for label in case.labels if label.recovery)
    simulator.reset(case.seed)
    camera, ends = simulator.spec.cameras[:1], {"failure": traces[FAILING], "recovery": traces[recovery]}
    return {name: simulator.render(camera, _PICTURE, trace.states[-1])[0] for name, trace in ends.items()}


def _problems(found: TaskCheck) -> list[str]:
    problems: list[str] = []
    solved = len(found.seeds) - len(found.failed)
    if solved < _LEAST_SOLVED * len(found.seeds):
        seed, reason = next(iter(found.failed.items()))
        problems.append(
            f"the expert solves {solved} of {len(found.seeds)} initial states (seed {seed}: {reason}): give "
            "the task a better expert"
        )
    if found.comparison is not None and found.comparison.difference:
        problems.append(f"over {found.comparison.steps} control steps, {found.comparison.difference}")
    elif solved and found.case is None:
        problems.append(
            f"no failure with a proven correction in {found.attempts} perturbed rollouts: see which modes "
            "apply and what fails with `failsafe generate` and `failsafe coverage`"
        )
    blank = [name for name, picture in found.pictures.items() if picture.min() == picture.max()]
    if blank:
        problems.append(f"the pictures of these cameras have a single colour: {', '.join(blank)}")
    if not found.objects:
        problems.append("the episode has no objects: no mode of the world applies, and no model sees any")
    return problems
