"""`failsafe train`: from samples to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from failsafe.cli.output import print_json
from failsafe.errors import UserError
from failsafe.models.loading import COMPACT
from failsafe.records import codec
from failsafe.training.train import plan_training, train_model, training_config


def train(
    data: tyro.conf.Positional[tuple[Path, ...]],
    /,
    out: Path | None = None,
    model: str = COMPACT,
    steps: int | None = None,
    batch: int | None = None,
    rate: float | None = None,
    seed: int = 0,
    patience: int | None = None,
    proprioception_only: bool = False,
    localizer: str | None = None,
    lora: bool = False,
    full: bool = False,
    mix: str | None = None,
    accumulation: int | None = None,
    resume: str = "",
    dry_run: bool = False,
    strategy: Literal["none", "fsdp", "zero3"] = "none",
    gpus: int = 1,
    json: bool = False,
) -> int:
    """Train a recovery model on samples.

    Interrupted at any time, the same command resumes: the compact model after its last validation,
    LLaVA-OneVision at its last checkpoint. For several GPUs use `accelerate launch`; see docs/vlm.md.

    Args:
        data: Folders of samples, made by `failsafe samples`.
        out: Folder of the run and its checkpoint. A dry run needs none.
        model: "compact", or the name or folder of a LLaVA-OneVision.
        steps: Largest number of training steps. Compact: 3000 by default, and training ends earlier if the
            validation loss stops improving. LLaVA: one pass over the samples by default.
        batch: Samples in a batch.
        rate: Peak learning rate.
        seed: Seed of all random draws.
        patience: Compact: validations (one every 50 steps) without improvement after which training ends, 8
            by default; 0 to take all steps.
        proprioception_only: Compact: use no images, to measure what the proprioception alone gives away.
        localizer: Compact: a checkpoint, or "compact", whose object localizer is kept frozen; only the
            classifier is trained, on image-free samples.
        lora: LLaVA: train LoRA adapters; the default.
        full: LLaVA: train all weights.
        mix: LLaVA: FILE:SHARE of visual questions, in LLaVA's conversation format, to mix in.
        accumulation: LLaVA: batches per optimizer step; 8 by default.
        resume: LLaVA: resume from this checkpoint of the run, "checkpoint-400", instead of the last.
        dry_run: LLaVA: only print the cost: parameters, tokens, memory, steps.
        strategy: LLaVA, with --dry-run: how training is spread over GPUs.
        gpus: LLaVA, with --dry-run: number of GPUs.
        json: Print the result as JSON.

    Raises:
        UserError: If options do not fit the model or each other, or a value is not valid.
    """
    if not data:
        raise UserError("expected at least one folder made by `failsafe samples`, got none")
    if lora and full:
        raise UserError("expected --lora or --full, got both")
    config = training_config(
        model,
        steps=steps,
        batch=batch,
        rate=rate,
        seed=seed,
        patience=patience,
        proprioception_only=proprioception_only or None,
        localizer=localizer,
        lora=not full if lora or full else None,
        mix=mix,
        accumulation=accumulation,
    )
    if dry_run and resume:
        raise UserError("expected --resume for a training, got it with --dry-run")
    if dry_run:
        plan = plan_training(data, config, strategy, gpus)
        print_json(codec.to_plain(plan)) if json else print(*plan.lines(), sep="\n")
        return 0
    if (strategy, gpus) != ("none", 1):
        raise UserError("expected --strategy and --gpus with --dry-run, got them for a training")
    if out is None:
        raise UserError("expected --out FOLDER to train into, got none")
    show = (lambda _: None) if json else (lambda line: print(line, flush=True))
    trained = train_model(data, out, config, show, resume)
    if json:
        print_json({"checkpoint": str(trained.checkpoint), "report": codec.to_plain(trained.report)})
    else:
        print(f"checkpoint: {trained.checkpoint}")
    return 0
