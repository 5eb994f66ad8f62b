"""A toy task with six objects: the box and the goal of ToyPick, and four more boxes at the side."""

from __future__ import annotations

import numpy as np

from failsafe.experts.tasks import Task
from failsafe.experts.toy import ToyPickExpert
from failsafe.records import poses
from failsafe.records.poses import Pose
from failsafe.simulators.contract import ObjectSpec, Role
from failsafe.simulators.toy.simulator import ToySimulator
from failsafe.simulators.toy.tasks import PickTask

TASK = "tests.training.crowded:crowded_pick"
_EXTRA = 4


class CrowdedTask(PickTask):
    """ToyPick with four more boxes out of the way."""

    name = "CrowdedPick-v0"
    objects = (
        *PickTask.objects,
        *(ObjectSpec(f"other_{i}", Role.MOVABLE, (0.015, 0.015, 0.015)) for i in range(_EXTRA)),
    )

    def layout(self, rng: np.random.Generator) -> dict[str, Pose]:
        found = super().layout(rng)
        for i in range(_EXTRA):
            found[f"other_{i}"] = poses.pose([0.3 + 0.1 * i, 0.35, 0.015])
        return found


class CrowdedPick(ToySimulator):
    """The simulator of `CrowdedTask`."""

    task = CrowdedTask


def crowded_pick() -> Task:
    """Return the task."""
    return Task(CrowdedPick(), ToyPickExpert())
