"""A study that runs in seconds: the toy, a policy that replays the expert beside the box, a tiny monitor.

By seed, modulo 4: 0 the policy misses, and once it is stopped begins anew, now without the error; 1 it misses
and always will; 2 it succeeds, unless it is stopped; 3 it succeeds.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from failsafe.evaluation.config import StudyConfig, StudyItem, study_items
from failsafe.evaluation.episodes import EpisodeLimits
from failsafe.evaluation.results import Results
from failsafe.evaluation.study import StudyJob
from failsafe.experts.tasks import Task
from failsafe.experts.toy import ToyPickExpert, ToyPushExpert
from failsafe.generation.nominal import run_nominal
from failsafe.monitors.budget import InterventionBudget
from failsafe.monitors.calibration import Calibration, Threshold
from failsafe.monitors.settings import MonitorSettings
from failsafe.policies.contract import ActionSpace
from failsafe.records.assessment import Assessment, WindowSpec
from failsafe.simulators import toy

POLICY = "python:tests.evaluation.toy_study:Replayer"
PICK, PUSH = "tests.evaluation.toy_study:pick", "tests.evaluation.toy_study:push"
LIMITS = EpisodeLimits(max_steps=140)
MISS = np.array([0.0, 0.06, 0.0])
"""How far beside the box the policy reaches, metres."""
live: list = []
"""The running task; a real policy would read the images."""


def pick() -> Task:
    return _seen("ToyPick-v0", ToyPickExpert())


def push() -> Task:
    return _seen("ToyPush-v0", ToyPushExpert())


def _seen(name, expert):
    simulator = toy.make(name)

    class Seen(type(simulator)):
        def reset(self, seed, objects=None):
            episode = super().reset(seed, objects)
            if not objects:
                live[:] = [name, expert, seed]
            return episode

    return Task(Seen(), expert)


@cache
def _plan(name, expert, seed):
    return run_nominal(Task(toy.make(name), expert), seed).trace


class Replayer:
    """Leads the tool along the expert's rollout, at times beside it."""

    name = "replayer"
    action_space = ActionSpace()
    views: ClassVar = {"front": 32}

    def reset(self, instruction: str) -> None:
        self._trace, self._kind, self._at = _plan(*live), live[2] % 4, 0
        self._offset = MISS if self._kind in (0, 1) else 0 * MISS

    def act(self, observation):
        row = min(self._at, len(self._trace) - 1)
        pose = self._trace.targets[row].astype(float)
        pose[:3] += self._offset
        self._at += 1
        gripper = float(self._trace.gripper_commands[row])
        space = self.action_space
        return space.from_pose(pose, gripper, observation.target_pose, observation.tcp_pose)[None]

    def drop_queue(self) -> None:
        if self._kind in (0, 2):
            self._at, self._offset = 0, MISS if self._kind == 2 else 0 * MISS


class TinyMonitor:
    """Takes a closed gripper that is low for a failure, and lifts the tool."""

    name = "tiny"
    window_spec = WindowSpec(views=("front",), history=4, frames=1, size=16)

    def assess(self, window):
        tool, width = window.tcp_poses[-1], window.gripper_widths[-1]
        sure = 0.9 if width < 0.03 else 0.7 if tool[1] > 0.05 and width < 0.06 else 0.1
        up = (0.0, 0.0, 0.025, 0.0, 0.0, 0.0, 1.0)
        mode = "translation_y" if sure > 0.8 else "slip"
        return Assessment(failure_probability=sure, stage="grasp", mode=mode, actions=(up,) * 4)


def config(
    last_seed: int = 8, tasks=(PICK,), conditions=("never", "monitor"), calibrated: bool = False
) -> StudyConfig:
    found = Calibration(
        0.05, "tiny", POLICY, 2.0, {"pick up the box": Threshold(0.5, 40)}, "failsafe calibrate tiny"
    )
    return StudyConfig(
        tasks=tasks,
        policies=(POLICY,),
        monitor="tiny",
        first_seed=0,
        last_seed=last_seed,
        conditions=conditions,
        limits=LIMITS,
        threshold=0.0,
        settings=MonitorSettings(
            max_corrections=1, budget=InterventionBudget(takeovers=3), cool_down_seconds=0.75
        ),
        calibrations={POLICY: found} if calibrated else {},
    )


def run(out: Path, monkeypatch, study: StudyConfig) -> Results:
    """All in this process, where the tiny monitor can take the place of a checkpoint."""
    monkeypatch.setattr("failsafe.evaluation.study.load_model", lambda _: TinyMonitor())
    results = Results(out)
    results.begin(study)
    job = StudyJob(study, out)
    for cell in study_items(study):
        job.run(cell)
    return results


def cell(seed: int, task: str = PICK) -> StudyItem:
    return StudyItem(task, "nominal", POLICY, seed)
