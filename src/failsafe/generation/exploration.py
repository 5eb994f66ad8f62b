"""Rollouts in which the tool wanders about: for eyes, which are to find objects whatever the robot does.

In an expert's rollouts the robot's motion says where things are: where the tool comes to rest, there is the
goal. A network that has seen nothing else takes the motion for the picture, and is lost behind a policy that
stops elsewhere (de Haan, Jayaraman and Levine 2019, "Causal confusion in imitation learning"). Here the tool
goes to objects and past them, most of all where a grasp would be a little beside, and anywhere else, turned
this way and that, and opens and closes as it pleases.
"""

from __future__ import annotations

import math

import numpy as np

from failsafe.errors import DivergedError, PlanError
from failsafe.experts.tasks import Task
from failsafe.records import poses
from failsafe.records.plan import CLOSED, OPEN, Stage
from failsafe.records.poses import Pose
from failsafe.records.trace import Trace
from failsafe.rollouts.runner import RolloutRunner

STEPS = 240
"""Control steps of a rollout."""
_TRIES = 5
_NEAR = 0.7
"""Share of the ways that lead to an object; the others lead anywhere within reach of where the tool began."""
_SPREAD, _HEIGHT, _LOW = 0.04, 0.12, 0.6
"""Metres by which the tool misses an object beside it (standard deviation), and is above it at most; share of
the ways on which it comes to it as low as to a grasp."""
_ANYWHERE = 0.2
_LOWEST = 0.01
_TILT, _YAW = 0.25, 0.6
"""Standard deviations of how the tool is turned, radians."""


def wander(task: Task, seed: int) -> Trace:
    """A rollout of `STEPS` control steps from a seed's initial state; the same seed gives the same.

    Raises:
        DivergedError: If the physics diverged again and again.
    """
    for attempt in range(_TRIES):
        rng = np.random.default_rng([seed, attempt, 23])
        task.simulator.reset(seed)
        runner = RolloutRunner(task.simulator, max_steps=STEPS)
        first = runner.observation.tcp_pose.copy()
        try:
            while runner.step_count < STEPS:
                runner.do(_way(rng, runner, first))
        except PlanError:  # the rollout is over
            return runner.trace()
        except DivergedError:
            continue
        return runner.trace()
    raise DivergedError(
        f"{task.name}, seed {seed}: the physics diverged {_TRIES} times under a wandering tool"
    )


def _way(rng: np.random.Generator, runner: RolloutRunner, first: Pose) -> Stage:
    objects = runner.observation.objects
    goal = first.copy()
    if len(objects) and rng.random() < _NEAR:
        above = rng.uniform(0.0, _HEIGHT) * (rng.random() > _LOW)
        goal[:3] = objects[rng.integers(len(objects)), :3] + [*rng.normal(0.0, _SPREAD, 2), above]
    else:
        goal[:3] += rng.uniform(-_ANYWHERE, _ANYWHERE, 3)
    goal[2] = max(goal[2], _LOWEST)
    turn = rng.normal(0.0, [_TILT, _TILT, _YAW]) * (rng.random(3) < 0.5)
    goal = poses.apply_delta(goal, np.concatenate([np.zeros(3), np.clip(turn, -math.pi / 2, math.pi / 2)]))
    return Stage(
        name="wander",
        target=tuple(map(float, goal)),
        gripper=OPEN if rng.random() < 0.5 else CLOSED,
        hold=int(rng.integers(0, 16)),
        speed=float(rng.uniform(0.3, 1.0)),
    )
