"""A toy whose process dies, as simulators' do: wherever a command is repeated for many steps."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from failsafe.experts.tasks import Task
from failsafe.experts.toy import EXPERTS
from failsafe.records.trace import Disturbance
from failsafe.simulators.toy import ToyPick


class Crashing(ToyPick):
    """Dies when the arm is told the same thing 22 times on end, as a long no-op does."""

    _last: np.ndarray | None = None
    _repeats = 0

    def step(self, command: np.ndarray, disturbances: Sequence[Disturbance] = ()) -> None:
        same = self._last is not None and np.array_equal(command, self._last)
        self._repeats = self._repeats + 1 if same else 0
        self._last = command.copy()
        if self._repeats >= 22:
            os._exit(139)
        super().step(command, disturbances)


def make() -> Task:
    """The task, for `MODULE:FUNCTION`."""
    return Task(Crashing(), EXPERTS["ToyPick-v0"]())
