"""When a failure began: injection, onset and failure step, by comparison with the nominal twin."""

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
"""How far tool, fingers or objects leave the twin's before that counts as a physical effect."""
LOST_METRES = 0.02
LOST_RADIANS = 0.35
"""How far an object may be from where the twin has it before the stage's aim counts as missed."""


def judge_times(nominal: NominalRollout, rollout: PerturbedRollout) -> Times:
    """The moments of a perturbed rollout; one that did no harm has no failure step."""
    onset = onset_step(nominal.trace, rollout.trace, rollout.injection_step or 0)
    failure = None
    if onset is not None and not rollout.success:
        failure = failure_step(nominal, rollout, onset)
    return Times(injection_step=rollout.injection_step, onset_step=onset, failure_step=failure)


def onset_step(nominal: Trace, trace: Trace, injection: int) -> int | None:
    """First step after which tool, fingers or objects are not where the twin has them.

    Until the injection both are the same bit for bit, so any difference is an effect.
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
    """First step from which on the objects never again are where the stage was to bring them.

    The rollouts are compared stage by stage, at equal shares of each stage, for a perturbed stage may take
    longer. Where no object ends up out of place (a robot that still moves, a grip that was not let go), the
    failure is at the end of the last stage.
    """
    at = _aligned_steps(nominal, rollout)
    lost = np.zeros(len(rollout.trace) + 1, dtype=bool)
    for i, spec in enumerate(nominal.scene.episode.objects):
        if spec.role is Role.MOVABLE:
            mine, theirs = rollout.trace.objects[:, i], nominal.trace.objects[at][:, i]
            lost |= _apart(mine, theirs, LOST_METRES, LOST_RADIANS)
    if not lost[-1]:
        return max(rollout.spans[-1].stop if rollout.spans else len(rollout.trace), onset)
    kept = np.flatnonzero(~lost)
    return max(int(kept[-1]) + 1 if len(kept) else 0, onset)


def _aligned_steps(nominal: NominalRollout, rollout: PerturbedRollout) -> Int[np.ndarray, "T1"]:
    """For every step of the perturbed rollout, the twin's step at the same share of the same stage."""
    at = np.full(len(rollout.trace) + 1, len(nominal.trace), dtype=np.int64)
    spans = nominal.record.spans
    for i, span in enumerate(rollout.spans):
        theirs = spans[min(i, len(spans) - 1)]
        share = np.arange(span.steps) / max(span.steps, 1)
        at[span.start : span.stop] = theirs.start + np.floor(share * theirs.steps).astype(np.int64)
    return np.minimum(at, len(nominal.trace))


def _apart(
    a: Float[np.ndarray, "T 7"], b: Float[np.ndarray, "T 7"], metres: float, radians: float
) -> Bool[np.ndarray, "T"]:
    far = np.linalg.norm(a[:, :3] - b[:, :3], axis=1) > metres
    return far | (poses.angles_between(a[:, 3:], b[:, 3:]) > radians)
