"""Random-exploration rollouts: the tool moves to and past objects at random.

They train the object localizer. In an expert's rollouts the robot's motion reveals where things are: the tool
comes to rest at the goal. A network trained on them alone reads the motion instead of the image, and fails
behind a policy that stops at another place (de Haan, Jayaraman and Levine 2019, "Causal confusion in
imitation learning"). Here most motions end near an object, where a grasp would be slightly off; the others
end anywhere. Orientation, speed and gripper are random.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from failsafe.errors import DivergedError, PlanError
from failsafe.execution.contract import SILENT, Executor, Reporter
from failsafe.experts.own_step import TaskLoader
from failsafe.experts.tasks import Task
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN, Stage
from failsafe.records.poses import Pose
from failsafe.records.trace import Trace
from failsafe.rollouts.runner import RolloutRunner

STEPS = 240
"""Control steps of a rollout."""
_ATTEMPTS = 5
_NEAR = 0.7
"""Share of the motions that end near an object; the others end near the initial tool pose."""
_SPREAD, _HEIGHT, _LOW = 0.04, 0.12, 0.6
"""Horizontal distance from the object (standard deviation, m), largest height above it (m), and share of the
motions that end at the object's own height."""
_REACH = 0.2
"""Largest distance from the initial tool pose along each axis, m, of motions that end at no object."""
_LOWEST = 0.01
"""Lowest height of the tool, m."""
_TILT, _YAW = 0.25, 0.6
"""Standard deviations of the tool's rotation, radians."""


@runtime_checkable
class ExplorationSink(Protocol):
    """Where random-exploration rollouts are stored.

    Attributes:
        path: The folder that all of them are in.
    """

    path: Path

    def has_exploration(self, task: str, seed: int) -> bool:
        """Whether the rollout of a task and seed is stored.

        Args:
            task: Name of the task.
            seed: Seed of the initial state.
        """
        ...

    def write_exploration(self, task: str, seed: int, trace: Trace) -> None:
        """Store the rollout of a task and seed.

        Args:
            task: Name of the task.
            seed: Seed of the initial state.
            trace: Commands and states of the rollout.
        """
        ...


class ExplorationJob:
    """Records random-exploration rollouts in one process, and keeps the simulators that it has made.

    Args:
        sink: Where to store them; sent to the workers.

    Attributes:
        lost: Task and seed of every initial state that was given up.
    """

    def __init__(self, sink: ExplorationSink) -> None:
        self._sink = sink
        self.folders = (sink.path,)
        self._tasks = TaskLoader()
        self.lost: list[tuple[str, int]] = []

    def run(self, item: tuple[str, int], reporter: Reporter = SILENT) -> None:
        """Record the rollout of a task and seed. See `Job.run`."""
        name, seed = item
        reporter.begin(f"{name}-{seed:06d}-exploration")
        self._sink.write_exploration(name, seed, explore(self._tasks.load(name, seed), seed))

    def give_up(self, item: tuple[str, int], part: str = "") -> bool:
        """Leave out an initial state that killed its worker twice. See `Job.give_up`."""
        self.lost.append(item)
        return False


def record_explorations(
    sink: ExplorationSink, states: Iterable[tuple[str, int]], executor: Executor
) -> list[tuple[str, int]]:
    """Record one random-exploration rollout for every initial state that has none.

    Args:
        sink: Where to store them.
        states: Task and seed of every initial state.
        executor: Runs them.

    Returns:
        Task and seed of every initial state that was given up because it killed its worker twice.

    Raises:
        DivergedError: If the physics of one diverges repeatedly.
    """
    job = ExplorationJob(sink)
    executor.run(job, [state for state in states if not sink.has_exploration(*state)])
    return job.lost


def explore(task: Task, seed: int) -> Trace:
    """Run `STEPS` control steps of random exploration; equal seeds give equal rollouts.

    Args:
        task: The task.
        seed: Seed of the initial state and of the motions.

    Raises:
        DivergedError: If the physics diverges in every attempt.
    """
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([seed, attempt, 23])
        task.simulator.reset(seed)
        runner = RolloutRunner(task.simulator, max_steps=STEPS)
        first = runner.observation.tcp_pose.copy()
        try:
            while runner.step_count < STEPS:
                runner.do(_random_stage(rng, runner, first))
        except PlanError:  # the rollout has reached its length
            return runner.trace()
        except DivergedError:
            continue
        return runner.trace()
    raise DivergedError(
        f"{task.name}, seed {seed}: the physics diverged in {_ATTEMPTS} attempts of random exploration"
    )


def _random_stage(rng: np.random.Generator, runner: RolloutRunner, first: Pose) -> Stage:
    objects = runner.observation.objects
    goal = first.copy()
    if len(objects) and rng.random() < _NEAR:
        above = rng.uniform(0.0, _HEIGHT) * (rng.random() > _LOW)
        goal[:3] = objects[rng.integers(len(objects)), :3] + [*rng.normal(0.0, _SPREAD, 2), above]
    else:
        goal[:3] += rng.uniform(-_REACH, _REACH, 3)
    goal[2] = max(goal[2], _LOWEST)
    turn = rng.normal(0.0, [_TILT, _TILT, _YAW]) * (rng.random(3) < 0.5)
    goal = poses.apply_delta(goal, np.concatenate([np.zeros(3), np.clip(turn, -math.pi / 2, math.pi / 2)]))
    return Stage(
        name="explore",
        target=tuple(map(float, goal)),
        gripper=OPEN if rng.random() < 0.5 else CLOSED,
        hold=int(rng.integers(0, 16)),
        speed=float(rng.uniform(0.3, 1.0)),
    )
