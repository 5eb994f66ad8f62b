"""`failsafe imitate`: a reference policy from demonstrations."""

from __future__ import annotations

import time
from pathlib import Path

import tyro

from failsafe.cli.output import print_json
from failsafe.samples.demonstrations import DemonstrationSet


def imitate(
    data: tyro.conf.Positional[Path],
    /,
    out: Path,
    demonstrations: int = 0,
    steps: int = 3000,
    batch: int = 96,
    seed: int = 0,
    keyframes: bool = False,
    json: bool = False,
) -> int:
    """Train a reference policy on demonstrations.

    Args:
        data: Folder made by `failsafe demonstrate`.
        out: File of the checkpoint, with the ending .safetensors.
        demonstrations: Episodes of each task to train on; 0 for all. The fewer, the weaker the policy.
        steps: Gradient steps.
        batch: Samples in a batch.
        seed: Seed of all random draws.
        keyframes: Let the policy predict the pose of the next gripper change or end of episode, and move
            straight there.
        json: Print the result as JSON.
    """
    from failsafe.training.imitation import train_reference
    from failsafe.training.imitation_config import ImitationTraining

    begun = time.monotonic()

    def show(step: int, loss: float) -> None:
        if not json:
            print(f"step {step}/{steps} after {time.monotonic() - begun:.0f} s: loss {loss:.4f}", flush=True)

    settings = ImitationTraining(demonstrations, steps, batch, seed=seed, keyframes=keyframes)
    path = train_reference(DemonstrationSet(data, demonstrations), settings, out, show)
    print_json({"checkpoint": str(path)}) if json else print(f"checkpoint: {path}")
    return 0
