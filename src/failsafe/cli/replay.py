"""`failsafe replay`: one recorded episode, run again."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.output import print_json
from failsafe.datasets.manifest import explain_missing_plugins
from failsafe.datasets.store import Dataset
from failsafe.experts.tasks import load_task
from failsafe.records import codec
from failsafe.rollouts.replay import replay_traces


def replay(
    data: tyro.conf.Positional[Path], episode: tyro.conf.Positional[str], /, json: bool = False
) -> int:
    """Run one episode again from its record, and compare every state bit for bit.

    Args:
        data: Folder of the dataset.
        episode: Name of the case.
        json: Print the result as JSON.

    Returns:
        0 if every state of every rollout was the same, 1 if not.
    """
    dataset = Dataset(data)
    case = dataset.find(episode)
    with explain_missing_plugins(data):
        task = load_task(case.task)
    results = replay_traces(task.simulator, case.seed, dataset.rollouts(case))
    same = all(result.same for result in results)
    if json:
        print_json({"episode": episode, "same": same, "rollouts": codec.to_plain(results)})
        return 0 if same else 1
    print(f"{episode}: {', and '.join(p.description for p in case.perturbations)}; {case.category}")
    for result in results:
        says = "every state is the same, bit for bit"
        if not result.same:
            says = (
                f"differs from state {result.first_difference} on, by up to {result.largest_difference:.3g}"
            )
        print(f"  {result.rollout:<12} {result.steps:>4} steps: {says}")
    return 0 if same else 1
