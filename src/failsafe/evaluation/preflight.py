"""Checks before the first step of an evaluation: what would make it fail or mean nothing is one sentence."""

from __future__ import annotations

from failsafe.errors import PolicyError, UserError
from failsafe.evaluation.conditions import CONDITIONS
from failsafe.evaluation.config import StudyConfig, StudyItem
from failsafe.experts.tasks import Task
from failsafe.models.contract import RecoveryModel, accepted_instructions, check_objects, trained_on
from failsafe.monitors.calibration import Calibration
from failsafe.policies.contract import Policy, check_fit, check_readings, reset_policy
from failsafe.records.seeds import text_of
from failsafe.simulators.contract import Simulator
from failsafe.simulators.instructed import InstructedSimulator
from failsafe.sources import OWN, is_own

LARGEST = 4096
"""Largest height and width of an image that a policy or a model may ask for, pixels."""
_MOST_SEEDS = 50
"""Seeds of which the instructions are looked at: a reset takes a few hundredths of a second."""


def check_calibrations(config: StudyConfig) -> None:
    """Check that thresholds were made by the policies, model and tasks of the study, on other seeds.

    Args:
        config: Configuration of the study.

    Raises:
        UserError: If they were made with other weights or other code, or on seeds of the study.
    """
    for policy, found in config.calibrations.items():
        now = config.policy_weights.get(policy, "")
        changed = [f"the code of the {name}" for name in sorted(_changed(found.code, config.code))]
        if found.policy_weights and now and found.policy_weights != now:
            changed.insert(0, f"the weights or code of the policy {policy}")
        if found.weights and _comparable(found.weights, config.weights) and found.weights != config.weights:
            changed.insert(0, f"the weights or code of the recovery model {config.monitor}")
        if changed:
            raise UserError(
                f"expected thresholds for {policy} of the code and weights of today, got some from before a "
                f"change of {', '.join(changed)}: calibrate again, or choose a threshold"
            )
        seeds = range(config.first_seed, config.last_seed)
        if found.seeds and (both := _common(range(*found.seeds), seeds)):
            raise UserError(
                f"expected seeds that no threshold was calibrated on, got {text_of(both)}, on which those of "
                f"{policy} were: choose other seeds"
            )
        for one in found.hand_back.seeds if found.hand_back else ():
            if both := _common(range(*one), seeds):
                raise UserError(
                    f"expected seeds from which no hand-back model was learned, got {text_of(both)}, from "
                    f"which that of {policy} was: choose other seeds"
                )


def check_start(
    config: StudyConfig, item: StudyItem, task: Task, policy: Policy, model: RecoveryModel | None
) -> None:
    """Check that a policy and a model can do a task, by the first initial states of a study.

    The policy is asked with the first of them. The model must know the instructions of the first 50 seeds.

    Args:
        config: Configuration of the study.
        item: The first item of the policy and the task.
        task: The task.
        policy: The base policy.
        model: The recovery model; None if no condition has a monitor.

    Raises:
        UserError: If the policy or the model was trained on a seed of the study, or the model or the
            thresholds do not know the instruction, or the model cannot locate as many objects.
        PolicyError: If the policy does not fit the robot, or cannot begin an episode.
    """
    simulator, seeds = task.simulator, range(config.first_seed, config.last_seed)
    name, policy_name = item.task, item.policy
    check_fresh(policy, policy_name, name, seeds)
    check_fit(policy, simulator.spec.embodiment.control_hz, simulator.spec.cameras)
    check_readings(policy, simulator.observe().readings)
    _check_sizes(policy.name, dict(policy.views))
    if model is not None:
        check_fresh(model, config.monitor, name, seeds)
        calibrated = any(
            CONDITIONS[one].monitored and CONDITIONS[one].threshold is None for one in config.conditions
        )
        for instruction in _instructions(simulator, seeds):
            _check_model(model, name, instruction, simulator)
            if calibrated:
                _check_threshold(config.calibrations.get(policy_name), policy_name, name, instruction)
    instruction = simulator.reset(seeds.start).instruction
    try:
        reset_policy(policy, instruction, seeds.start)
    except Exception as error:  # whatever it raises, it would raise in every episode
        said = str(error) if isinstance(error, PolicyError) else f"{type(error).__name__}: {error}"
        raise PolicyError(f"{policy_name} cannot begin an episode of {name}: {said}") from error


def check_fresh(learned: Policy | RecoveryModel, name: str, task: str, seeds: range) -> None:
    """Check that a policy or model was trained on none of the seeds of a study.

    Args:
        learned: The policy or model.
        name: Its name.
        task: Name of the task.
        seeds: The seeds.

    Raises:
        UserError: If it was trained on one.
    """
    if known := sorted(seed for seed in trained_on(learned, task) if seed in seeds):
        others = f" and {len(known) - 1} others" if len(known) > 1 else ""
        raise UserError(
            f"expected seeds that {name} was not trained on, got seed {known[0]} of {task}{others}: choose "
            "other seeds"
        )


def _instructions(simulator: Simulator, seeds: range) -> list[str]:
    """Return the different instructions of the first seeds; one seed is enough where all have the same."""
    same = isinstance(simulator, InstructedSimulator) or (is_own(simulator) and simulator.spec.checked)
    first = seeds[: 1 if same else _MOST_SEEDS]
    return list(dict.fromkeys(simulator.reset(seed).instruction for seed in first))


def _check_model(model: RecoveryModel, task: str, instruction: str, simulator: Simulator) -> None:
    spec, cameras = model.window_spec, simulator.spec.cameras
    if missing := [view for view in spec.views if view not in cameras]:
        raise UserError(
            f"expected a camera for each view of {model.name}, got none for {', '.join(missing)}; {task} has "
            f"the views {', '.join(cameras)}: train a model on these views"
        )
    _check_sizes(model.name, {view: spec.source or spec.size for view in spec.views})
    check_objects(model, task, len(simulator.episode.objects))
    known = accepted_instructions(model)
    if known and instruction not in known:
        names = ", ".join(f"'{one}'" for one in known)
        raise UserError(
            f"expected a task whose instruction {model.name} knows ({names}), got '{instruction}' of {task}: "
            "train a model on samples of this task, or give one that takes any instruction"
        )


def _check_threshold(calibration: Calibration | None, policy: str, task: str, instruction: str) -> None:
    if calibration is not None and instruction not in calibration.thresholds:
        known = "', '".join(calibration.thresholds)
        raise UserError(
            f"expected a threshold of {policy} for '{instruction}' of {task}, got some for '{known}' alone: "
            "the monitor would never raise an alarm; calibrate on this task, or choose a threshold"
        )


def _check_sizes(name: str, sizes: dict[str, int]) -> None:
    for view, size in sizes.items():
        if not 1 <= size <= LARGEST:
            raise PolicyError(
                f"expected images of 1 to {LARGEST} px for {name}, got {size} for the view {view}"
            )


def _changed(before: dict[str, str], now: dict[str, str]) -> set[str]:
    """Return the names of what both have, with other code; another version of FailSafe is a note."""
    return {name for name in before.keys() & now.keys() if name != OWN and before[name] != now[name]}


def _comparable(a: str, b: str) -> bool:
    """Whether two fingerprints are of the same kind: weights by their file, or an object by its class."""
    return bool(a and b) and a.startswith("python:") == b.startswith("python:")


def _common(a: range, b: range) -> range:
    return range(max(a.start, b.start), min(a.stop, b.stop))
