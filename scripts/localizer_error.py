"""Measure the compact model's object localization behind a learned policy, by the distance from the tool.

    python scripts/localizer_error.py [--policy reference:weak] [--seeds 400200:400208] [--model compact]

A policy that fails reaches states that no expert visits, and the model must localize objects there. The
policy acts alone; the model is queried as often as a monitor queries it, and compared with ground truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
"""Bounds of the table's rows: distances from the tool, metres."""


class ComparedModel:
    """A recovery model that compares its localizer with the ground truth at every query.

    Args:
        model: The model.

    Attributes:
        simulator: The simulator of the present episode.
        distances: Distance of each object from the tool, metres.
        errors: Localization error of each object, metres.
    """

    def __init__(self, model: CompactModel) -> None:
        self._model = model
        self.name, self.window_spec = model.name, model.window_spec
        self.simulator: Simulator | None = None
        self.distances: list[float] = []
        self.errors: list[float] = []

    def assess(self, window: Window) -> Assessment:
        """Return the model's assessment, and record the localization error."""
        assert self.simulator is not None
        truth = self.simulator.observe().objects[:, :3] - window.tcp_poses[-1, :3]
        found = self._model.locate(window)[: len(truth)]
        self.distances += np.linalg.norm(truth, axis=1).tolist()
        self.errors += np.linalg.norm(found - truth, axis=1).tolist()
        return self._model.assess(window)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: The command line; None for that of this process.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="reference:weak")
    parser.add_argument("--seeds", default="400200:400208", help="first and last (exclusive) of each task")
    parser.add_argument("--model", default="compact")
    parser.add_argument("--tasks", default=",".join(TASKS), help="names of the tasks, with commas between")
    parser.add_argument("--max-steps", type=int, default=EpisodeLimits().max_steps, help="of an episode")
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    assert isinstance(model, CompactModel)
    compared, policy = ComparedModel(model), load_policy(options.policy)
    first, last = map(int, options.seeds.split(":"))
    limits = EpisodeLimits(max_steps=options.max_steps)
    for name in options.tasks.split(","):
        task = load_task(name)
        compared.simulator = task.simulator
        for seed in range(first, last):
            key = EpisodeKey(name, "nominal", options.policy, "watch", seed)
            embodiment = task.simulator.spec.embodiment
            watched = MonitoredPolicy(policy, compared, np.inf, embodiment=embodiment)
            episode = run_episode(task, watched, key, scenario("nominal"), limits)
            print(f"{name} {seed}: {episode.ending.value} after {episode.steps} steps", flush=True)
    print("\n" + table(np.array(compared.distances), 1000 * np.array(compared.errors)))


def table(distances: np.ndarray, errors: np.ndarray) -> str:
    """Return the localization errors by distance as a Markdown table.

    Args:
        distances: Distances from the tool, metres. [N]
        errors: Localization errors, millimetres. [N]
    """
    rows = ["| from the tool | queries | median [mm] | mean [mm] | 90 % below [mm] |"]
    rows.append("|---|---:|---:|---:|---:|")
    for low, high in pairwise(BOUNDS):
        within = errors[(distances >= low) & (distances < high)]
        if len(within):
            figures = f"{np.median(within):.1f} | {within.mean():.1f} | {np.percentile(within, 90):.1f}"
            rows.append(f"| {100 * low:g} to {100 * high:g} cm | {len(within)} | {figures} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
