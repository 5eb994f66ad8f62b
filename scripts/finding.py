"""How far off the compact model is about where things are, behind a learned policy: by their distance.

    python scripts/finding.py [--policy reference:weak] [--seeds 400200:400208] [--model compact]

A policy that misses stands where no expert ever did, which is where a model has to see well. The policy acts
alone; the model looks on as often as a monitor does, and is compared with the simulator's ground truth.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np

from failsafe.evaluation.episodes import EpisodeLimits, run_episode
from failsafe.evaluation.scenarios import scenario
from failsafe.experts.tasks import load_task
from failsafe.models.compact import CompactModel
from failsafe.models.loading import load_model
from failsafe.monitors.monitored import MonitoredPolicy
from failsafe.policies.loading import load_policy
from failsafe.records.assessment import Assessment, Window
from failsafe.records.episode import EpisodeKey
from failsafe.simulators.contract import Simulator

TASKS = ("PickCube-v1", "PushCube-v1", "StackCube-v1")
BOUNDS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)


class Compared:
    """A model beside the ground truth: how far objects are from the tool, and how far off they are seen."""

    def __init__(self, model: CompactModel) -> None:
        self._model = model
        self.name, self.window_spec = model.name, model.window_spec
        self.simulator: Simulator | None = None
        self.away: list[float] = []
        self.off: list[float] = []

    def assess(self, window: Window) -> Assessment:
        """The model's verdict; what it has seen is compared with what is there."""
        assert self.simulator is not None
        there = self.simulator.observe().objects[:, :3] - window.tcp_poses[-1, :3]
        found = self._model.locate(window)[: len(there)]
        self.away += np.linalg.norm(there, axis=1).tolist()
        self.off += np.linalg.norm(found - there, axis=1).tolist()
        return self._model.assess(window)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="reference:weak")
    parser.add_argument("--seeds", default="400200:400208", help="first and last (exclusive) of each task")
    parser.add_argument("--model", default="compact")
    words = parser.parse_args()
    model = load_model(words.model)
    assert isinstance(model, CompactModel)
    compared, policy = Compared(model), load_policy(words.policy)
    first, last = map(int, words.seeds.split(":"))
    for name in TASKS:
        task = load_task(name)
        compared.simulator = task.simulator
        for seed in range(first, last):
            key = EpisodeKey(name, "nominal", words.policy, "watch", seed)
            watched = MonitoredPolicy(policy, compared, np.inf)
            episode = run_episode(task, watched, key, scenario("nominal"), EpisodeLimits())
            print(f"{name} {seed}: {episode.ending.value} after {episode.steps} steps", flush=True)
    away, off = np.array(compared.away), 1000 * np.array(compared.off)
    print(
        "\n| from the tool | looks | median [mm] | mean [mm] | 90 % below [mm] |\n|---|---:|---:|---:|---:|"
    )
    for low, high in pairwise(BOUNDS):
        within = off[(away >= low) & (away < high)]
        if len(within):
            figures = f"{np.median(within):.1f} | {within.mean():.1f} | {np.percentile(within, 90):.1f}"
            print(f"| {100 * low:g} to {100 * high:g} cm | {len(within)} | {figures} |")


if __name__ == "__main__":
    main()
