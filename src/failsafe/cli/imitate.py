"""`failsafe imitate`: a reference policy from demonstrations."""

from __future__ import annotations

import time
from dataclasses import replace
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
    base: str = "",
    json: bool = False,
) -> int:
    """Train a reference policy on demonstrations, or train one further.

    Args:
        data: Folder made by `failsafe demonstrate`.
        out: File of the checkpoint, with the ending .safetensors.
        demonstrations: Episodes of each task to train on; 0 for all. The fewer, the weaker the policy.
        steps: Gradient steps.
        batch: Samples in a batch.
        seed: Seed of all random draws.
        keyframes: Let the policy predict the pose of the next gripper change or end of episode, and move
            straight there. A policy that is trained further keeps what it is.
        base: Policy to train further: reference:weak, reference:medium, reference:strong, or
            reference:FILE.safetensors. Its learning rate is a fifth of that of a new policy.
        json: Print the result as JSON.
    """
    from failsafe.policies.reference import load_reference
    from failsafe.training.imitation import train_reference
    from failsafe.training.imitation_config import FURTHER_RATE, ImitationTraining

    begun = time.monotonic()

    def show(step: int, loss: float) -> None:
        if not json:
            print(f"step {step}/{steps} after {time.monotonic() - begun:.0f} s: loss {loss:.4f}", flush=True)

    settings = ImitationTraining(demonstrations, steps, batch, seed=seed, keyframes=keyframes)
    if not base:
        path = train_reference(DemonstrationSet(data, demonstrations), settings, out, show)
    else:
        policy = load_reference(base.removeprefix("reference:"))
        known = policy.meta.config
        found = DemonstrationSet(data, demonstrations, known.views, known.keyframes)
        path = train_reference(found, replace(settings, rate=FURTHER_RATE), out, show, policy)
    print_json({"checkpoint": str(path)}) if json else print(f"checkpoint: {path}")
    return 0
