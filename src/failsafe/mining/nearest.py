"""Which generated failure of the same initial state a policy's failure resembles most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.tasks import Task
from failsafe.generation.judging import onset_step
from failsafe.generation.nominal import NominalRollout
from failsafe.generation.perturbed import run_perturbed
from failsafe.perturbations import MODES
from failsafe.records.case import NearestFailure
from failsafe.records.perturbation import Perturbation
from failsafe.records.trace import Trace

AFTER_SECONDS = 1.0
"""Time after the episode left the way to success at which its state is compared."""
_DIRECTIONS = (0.0, np.pi)
"""Directions in which directed modes act, radians."""


def find_nearest(
    task: Task, nominal: NominalRollout, trace: Trace, left_step: int, modes: Sequence[str]
) -> NearestFailure | None:
    """Return the generated failure that comes nearest to a state of a policy's episode.

    Each mode acts once in every stage to which it applies, in the middle of the stage and with its median
    magnitude, in either direction. Tool, fingers and movable objects are compared by their positions.

    Args:
        task: The task.
        nominal: The nominal rollout of the same initial state.
        trace: The failed episode.
        left_step: Control step at which it left the way to success.
        modes: Names of the modes.

    Returns:
        The nearest failure, None if no mode leads to one.
    """
    at = min(left_step + task.simulator.spec.embodiment.steps(AFTER_SECONDS), len(trace))
    wanted = _places(trace)[at]
    best: NearestFailure | None = None
    for perturbation in _perturbations(nominal, modes):
        try:
            rollout = run_perturbed(task, nominal, (perturbation,))
        except (PlanError, DivergedError):
            continue
        onset = onset_step(nominal.trace, rollout.trace, rollout.injection_step or 0)
        if rollout.success or onset is None:
            continue
        distances = np.linalg.norm(_places(rollout.trace)[onset:] - wanted, axis=1)
        nearest = int(np.argmin(distances))
        distance = round(float(distances[nearest]), 4)
        if best is None or distance < best.distance:
            best = NearestFailure(perturbation.mode, perturbation.stage_name, onset + nearest, distance)
    return best


def _perturbations(nominal: NominalRollout, modes: Sequence[str]) -> list[Perturbation]:
    scene, found = nominal.scene, list[Perturbation]()
    for name in modes:
        mode = MODES[name]
        for stage, span in enumerate(scene.spans):
            if not mode.applies(scene, stage):
                continue
            size = mode.magnitude.quantile(0.5)
            signs = (1.0, -1.0) if mode.signed else (1.0,)
            directions = _DIRECTIONS if mode.directed else (0.0,)
            found += [
                Perturbation(
                    mode=name,
                    stage=stage,
                    stage_name=span.name,
                    moment=0.5 if mode.timed else 0.0,
                    magnitude=sign * size,
                    unit=mode.unit,
                    direction=direction,
                    object=mode.candidates(scene, stage)[0],
                )
                for sign in signs
                for direction in directions
            ]
    return found


def _places(trace: Trace) -> Float[np.ndarray, "T1 D"]:
    """Return where tool, fingers and objects are at every step, metres."""
    objects = trace.objects[:, :, :3].reshape(len(trace.objects), -1)
    return np.concatenate([trace.tcp_poses[:, :3], trace.gripper_widths[:, None], objects], axis=1)
