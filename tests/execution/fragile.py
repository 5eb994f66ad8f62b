"""A toy whose process dies in `render` or in `step` for one seed, as a simulator's may."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from failsafe.experts.tasks import Task
from failsafe.experts.toy import ToyPickExpert
from failsafe.simulators.toy import ToyPick

TASK = "tests.execution.fragile:make"
DIES = "TEST_FRAGILE_DIES"
"""Environment variable: METHOD:SEED that kills the process."""


class Fragile(ToyPick):
    """Dies where the environment says so."""

    def reset(self, seed: int, objects: Any = None) -> Any:
        self._seed = seed
        return super().reset(seed, objects)

    def step(self, *given: Any) -> None:
        self._die("step")
        super().step(*given)

    def render(self, cameras: Sequence[Any], size: int, state: Any = None) -> Any:
        self._die("render")
        return super().render(cameras, size, state)

    def _die(self, method: str) -> None:
        if os.environ.get(DIES) == f"{method}:{self._seed}":
            os._exit(139)


def make() -> Task:
    """The task, for `MODULE:FUNCTION`."""
    return Task(Fragile(), ToyPickExpert())
