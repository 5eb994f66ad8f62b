"""Where the time of generation is spent: time in functions of the adapter that do not call one another."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from failsafe.datasets.store import Dataset

PHYSICS = "physics engine's step"
_WATCHED = {
    "reset": "ManiSkill's reset, fresh scene",
    "observe": "observe",
    "state": "read the state",
    "evaluate": "ManiSkill's evaluate",
    "held": "what is held",
}
"""Methods of the adapter, and their names in the table."""


@dataclass
class Stopwatches:
    """Time spent in a few functions that do not call one another.

    Attributes:
        seconds: Time by name.
        calls: Number of calls by name.
    """

    seconds: Counter[str] = field(default_factory=Counter[str])
    calls: Counter[str] = field(default_factory=Counter[str])

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, with its time added to a name.

        Args:
            name: The name.
            function: The function.
        """
        seconds, calls, now = self.seconds, self.calls, time.perf_counter

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = now()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] += now() - start  # pyright: ignore[reportArgumentType] a Counter of floats
                calls[name] += 1

        return timed

    @staticmethod
    def cost() -> float:
        """Return how much longer a call takes through a stopwatch, seconds."""

        def nothing() -> None:
            pass

        watched, rounds = Stopwatches().wrap("", nothing), 100_000
        costs: list[float] = []
        for _ in range(3):
            start = time.perf_counter()
            for _ in range(rounds):
                nothing()
            middle = time.perf_counter()
            for _ in range(rounds):
                watched()
            costs.append((time.perf_counter() - middle) - (middle - start))
        return min(costs) / rounds


class _TimedSystem:
    """A physics system whose `step` is timed; everything else is the system's own."""

    def __init__(self, system: Any, watches: Stopwatches) -> None:
        self._system = system
        self.step = watches.wrap(PHYSICS, system.step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._system, name)


@contextlib.contextmanager
def stopwatches() -> Generator[Stopwatches]:
    """Time the ManiSkill adapter, the slowest function of its solution scripts, and the store."""
    from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

    from failsafe.simulators.maniskill import simulator
    from failsafe.simulators.maniskill.arm import Arm

    watches = Stopwatches()
    fresh_scene = simulator.move_to_fresh_scene
    scripts = [s.__globals__ for s in MP_SOLUTIONS.values() if "get_actor_obb" in s.__globals__]
    with contextlib.ExitStack() as stack:

        def patch(owner: Any, name: str, value: Any) -> None:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        def timed_scene(*args: Any) -> Any:
            return _TimedSystem(fresh_scene(*args), watches)

        patch(simulator, "move_to_fresh_scene", timed_scene)
        patch(Arm, "solve", watches.wrap("inverse kinematics", Arm.solve))
        for method, name in _WATCHED.items():
            original = getattr(simulator.ManiSkillSimulator, method)
            patch(simulator.ManiSkillSimulator, method, watches.wrap(name, original))
        for method in ("write_case", "write_nominal"):
            patch(Dataset, method, watches.wrap("write the files", getattr(Dataset, method)))
        for names in scripts:
            stack.callback(names.__setitem__, "get_actor_obb", names["get_actor_obb"])
            names["get_actor_obb"] = watches.wrap("bounding box in the script", names["get_actor_obb"])
        yield watches
