"""Policies on the toy that cost nothing, and those that go wrong; by seed, where a study needs several."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.evaluation import toy_study

from failsafe.errors import DivergedError, PolicyError
from failsafe.evaluation.config import StudyConfig
from failsafe.evaluation.episodes import EpisodeLimits, run_episode
from failsafe.evaluation.scenarios import SCENARIOS
from failsafe.experts.tasks import Task
from failsafe.experts.toy import ToyPickExpert
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.policies.contract import ActionSpace
from failsafe.records.assessment import Assessment, WindowSpec
from failsafe.records.episode import Episode, EpisodeKey
from failsafe.simulators.contract import EpisodeSpec
from failsafe.simulators.toy import ToyPick

SPEC = WindowSpec(views=("front", "hand"), history=4, frames=2, size=16)
STEPS = 40
POLICY = "python:tests.evaluation.bench:Wanderer"
FAULTY = "python:tests.evaluation.bench:Faulty"
PICK = "tests.evaluation.bench:faulty_pick"
DIES, DIVERGES, FINE_SEEDS = 1, 8, (0, 11)
"""Seeds."""


class Wanderer:
    """Goes where the last pixel of its image sends it: one that is otherwise gives another rollout."""

    name = "wanderer"
    action_space = ActionSpace(chunk=4)
    views = {"front": 16}  # noqa: RUF012 -- never changed

    def reset(self, instruction: str) -> None:
        self.chunks = 0

    def act(self, observation: Any) -> np.ndarray:
        self.chunks += 1
        rng = np.random.default_rng([zlib.crc32(observation.images["front"].tobytes()), self.chunks])
        rows = rng.normal(size=(4, 7)) * 0.004
        rows[:, 6] = rng.choice([-1.0, 1.0])
        return rows

    def drop_queue(self) -> None:
        pass


def _raises() -> np.ndarray:
    raise ValueError("out of ideas")


def _exits() -> np.ndarray:
    raise SystemExit("no GPU")


def _says() -> np.ndarray:
    raise PolicyError("the server says: CUDA out of memory")


FAULTS: dict[int, tuple[Callable[[], Any], str]] = {
    2: (_raises, "faulty raised ValueError: out of ideas"),
    3: (_says, "the server says: CUDA out of memory"),
    4: (lambda: np.zeros((5, 7)), "faulty: expected 1 to 4 actions of 7 numbers, got (5, 7)"),
    5: (lambda: np.full((1, 7), np.nan), "faulty: expected finite actions, got NaN"),
    6: (lambda: "lift the arm", "faulty: expected a chunk of actions, got str"),
    7: (lambda: np.full((1, 7), 1e200), "faulty: expected finite actions"),
    9: (_exits, "faulty raised SystemExit: no GPU"),
    10: (lambda: [np.zeros(7), None], "faulty: expected a chunk of actions, got list, which cannot be read"),
}
"""By seed: what the policy does at its third chunk, and what is said of it."""


class Faulty(Wanderer):
    """Goes wrong at its third chunk, on some seeds."""

    name = "faulty"

    def act(self, observation: Any) -> np.ndarray:
        rows = super().act(observation)
        if self.chunks == 3 and toy_study.live[2] == DIES:
            os._exit(139)
        if self.chunks == 3 and toy_study.live[2] in FAULTS:
            return FAULTS[toy_study.live[2]][0]()
        return rows


def faulty_pick() -> Task:
    """A task whose physics diverges on one seed."""

    class Diverging(ToyPick):
        def reset(self, seed: int, objects: Any = None) -> EpisodeSpec:
            episode = super().reset(seed, objects)
            toy_study.live[:] = ["ToyPick-v0", None, seed]
            return episode

        def step(self, command: np.ndarray, disturbances: Any = ()) -> None:
            if toy_study.live[2] == DIVERGES:
                raise DivergedError("the box is nowhere")
            super().step(command, disturbances)

    return Task(Diverging(), ToyPickExpert())


class Glance:
    """A recovery model with a fixed answer; by default, no failure."""

    name = "glance"
    window_spec = SPEC

    def __init__(self, prediction: Any = None) -> None:
        self.prediction = prediction or Assessment(failure_probability=0.1)
        self.asked = 0

    def assess(self, window: Any) -> Assessment:
        self.asked += 1
        if isinstance(self.prediction, Exception):
            raise self.prediction
        return self.prediction


def config(
    last_seed: int = 4, conditions: tuple[str, ...] = ("never", "monitor"), **changes: Any
) -> StudyConfig:
    return StudyConfig(
        **{
            "tasks": (PICK,),
            "policies": (POLICY,),
            "monitor": "glance",
            "first_seed": 0,
            "last_seed": last_seed,
            "conditions": conditions,
            "limits": EpisodeLimits(20),
            **changes,
        }
    )


def play(
    policy: Any, simulator: Any = None, seed: int = 3, scenario: str = "nominal", steps: int = STEPS
) -> tuple[Episode, np.ndarray]:
    """Run an episode; return its record and the simulator's states."""
    states: list[np.ndarray] = []
    condition = "monitor" if isinstance(policy, MonitoredPolicy) else "never"
    episode = run_episode(
        Task(simulator or ToyPick(), ToyPickExpert(), "ToyPick-v0"),
        policy,
        EpisodeKey("ToyPick-v0", scenario, "wanderer", condition, seed),
        SCENARIOS[scenario],
        EpisodeLimits(steps),
        states=states,
    )
    return episode, np.array(states)


def without_times(folder: Path) -> dict[str, str]:
    """The records of a folder as text, with every number of seconds that was measured left out."""
    times = r'"(policy_seconds|monitor_seconds|latency)":[0-9.e-]+'
    return {
        str(file.relative_to(folder)): re.sub(times, "", file.read_text())
        for file in sorted(folder.glob("episodes/**/*.json"))
    }
