"""How much a run of the benchmarks measures."""

from __future__ import annotations

from dataclasses import dataclass

TASKS = ("PickCube-v1", "PushCube-v1", "StackCube-v1")


@dataclass(frozen=True)
class Sizes:
    """The amount of work behind each figure.

    Attributes:
        tasks: Tasks of the nominal rollouts and of a worker's memory; generation is measured on the first.
        nominal_seconds: CPU time of nominal rollouts per task, seconds.
        one_label_failures: Verified failures to generate with one label and the exact check alone.
        four_label_failures: Verified failures to generate with four labels and four noisy rollouts each.
        worker_failures: Verified failures that each of the two workers generates in a round.
        worker_rounds: Rounds of one worker against two.
        loop: Iterations of the bare loop that shows what the machine allows.
        views: Steps of a rollout that are rendered from every camera.
        queries: Queries of the compact recovery model.
        planner_episodes: Episodes per task with ManiSkill's own planner.
    """

    tasks: tuple[str, ...] = TASKS
    nominal_seconds: float = 8.0
    one_label_failures: int = 64
    four_label_failures: int = 24
    worker_failures: int = 16
    worker_rounds: int = 3
    loop: int = 40_000_000
    views: int = 12
    queries: int = 100
    planner_episodes: int = 15


FULL = Sizes()
QUICK = Sizes(
    tasks=TASKS[:1],
    nominal_seconds=0.2,
    one_label_failures=2,
    four_label_failures=1,
    worker_failures=1,
    worker_rounds=1,
    loop=1_000_000,
    views=2,
    queries=3,
    planner_episodes=1,
)
"""Runs every benchmark once, to see that it works. The figures mean nothing."""
