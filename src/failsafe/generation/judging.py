"""Times of a failure (injection, onset, failure), by comparison with the nominal rollout."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from failsafe.generation.nominal import NominalRollout
from failsafe.generation.perturbed import PerturbedRollout
from failsafe.records import poses
from failsafe.records.case import Times
from failsafe.records.trace import Trace
from failsafe.simulators.contract import Role

ONSET_METRES = 1e-3
ONSET_RADIANS = 1e-2
"""Distance of tool, fingers or objects from the nominal rollout that counts as a physical effect."""
LOST_METRES = 0.02
LOST_RADIANS = 0.35
"""Distance of an object from its nominal place from which on the aim of the stage counts as missed."""


def judge_times(nominal: NominalRollout, rollout: PerturbedRollout) -> Times:
    """Return the times of a perturbed rollout; a harmless one has no failure step.

    Args:
        nominal: The nominal rollout of the same seed.
        rollout: The perturbed rollout.
    """
    onset = onset_step(nominal.trace, rollout.trace, rollout.injection_step or 0)
    failure = None
    if onset is not None and not rollout.success:
        failure = failure_step(nominal, rollout, onset)
    return Times(injection_step=rollout.injection_step, onset_step=onset, failure_step=failure)


def onset_step(nominal: Trace, trace: Trace, injection: int) -> int | None:
    """Return the first step after which tool, fingers or objects have left the nominal rollout.

    Until the injection both rollouts are the same bit for bit, so any difference is an effect.

    Args:
        nominal: The nominal rollout.
        trace: The perturbed rollout.
        injection: First control step on which a cause acts.
    """
    steps = len(trace) + 1
    at = np.minimum(np.arange(steps), len(nominal))
    tool_far = _apart(trace.tcp_poses, nominal.tcp_poses[at], ONSET_METRES, ONSET_RADIANS)
    fingers_far = np.abs(trace.gripper_widths - nominal.gripper_widths[at]) > ONSET_METRES
    far = tool_far | fingers_far
    for i in range(trace.objects.shape[1]):
        far |= _apart(trace.objects[:, i], nominal.objects[at][:, i], ONSET_METRES, ONSET_RADIANS)
    far[:injection] = False
    return int(np.argmax(far)) if far.any() else None


def failure_step(nominal: NominalRollout, rollout: PerturbedRollout, onset: int) -> int:
    """Return the first step from which on some object never again is where the plan brings it.

    The rollouts are compared stage by stage, at equal shares of each stage, because a perturbed stage may
    take longer. If no object ends up out of place (the robot still moves, the grip was not opened), the
    failure is at the end of the last stage.

    Args:
        nominal: The nominal rollout.
        rollout: The perturbed rollout.
        onset: Its onset step.
    """
    at = _aligned_steps(nominal, rollout)
    lost = np.zeros(len(rollout.trace) + 1, dtype=bool)
    for i, spec in enumerate(nominal.scene.episode.objects):
        if spec.role is Role.MOVABLE:
            perturbed, planned = rollout.trace.objects[:, i], nominal.trace.objects[at][:, i]
            lost |= _apart(perturbed, planned, LOST_METRES, LOST_RADIANS)
    if not lost[-1]:
        return max(rollout.spans[-1].stop if rollout.spans else len(rollout.trace), onset)
    kept = np.flatnonzero(~lost)
    return max(int(kept[-1]) + 1 if len(kept) else 0, onset)


def _aligned_steps(nominal: NominalRollout, rollout: PerturbedRollout) -> Int[np.ndarray, "T1"]:
    """Return, for every step of the perturbed rollout, the nominal step at the same share of the stage."""
    at = np.full(len(rollout.trace) + 1, len(nominal.trace), dtype=np.int64)
    spans = nominal.record.spans
    for i, span in enumerate(rollout.spans):
        planned = spans[min(i, len(spans) - 1)]
        share = np.arange(span.steps) / max(span.steps, 1)
        at[span.start : span.stop] = planned.start + np.floor(share * planned.steps).astype(np.int64)
    return np.minimum(at, len(nominal.trace))


def _apart(
    a: Float[np.ndarray, "T 7"], b: Float[np.ndarray, "T 7"], metres: float, radians: float
) -> Bool[np.ndarray, "T"]:
    far = np.linalg.norm(a[:, :3] - b[:, :3], axis=1) > metres
    return far | (poses.angles_between(a[:, 3:], b[:, 3:]) > radians)
