"""`failsafe merge-lora`: one checkpoint out of a model and its LoRA adapters."""

from __future__ import annotations

from pathlib import Path

import tyro

from failsafe.cli.output import print_json


def merge_lora(run: tyro.conf.Positional[Path], /, out: Path, json: bool = False) -> int:
    """Merge LoRA adapters into the weights that they were trained on.

    Args:
        run: Folder of a run of `failsafe train --model ... --lora`, or one of its checkpoints.
        out: Folder for the merged checkpoint.
        json: Print the result as JSON.
    """
    from failsafe.training.llava import merge_lora as merge

    merge(run, out)
    print_json({"checkpoint": str(out)}) if json else print(f"checkpoint: {out}")
    return 0
