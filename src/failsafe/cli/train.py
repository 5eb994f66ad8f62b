"""`failsafe train`: from samples to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import tyro

from failsafe.cli.output import print_json
from failsafe.errors import UserError
from failsafe.models.loading import COMPACT
from failsafe.records import codec
from failsafe.samples.sample_set import SampleSet


def train(
    data: tyro.conf.Positional[tuple[Path, ...]],
    /,
    out: Path | None = None,
    model: str = COMPACT,
    epochs: float | None = None,
    batch: int | None = None,
    rate: float | None = None,
    seed: int = 0,
    proprioception_only: bool = False,
    localizer: str = "",
    lora: bool = False,
    full: bool = False,
    mix: str = "",
    max_steps: int | None = None,
    accumulation: int | None = None,
    resume: str = "",
    dry_run: bool = False,
    strategy: Literal["none", "fsdp", "zero3"] | None = None,
    gpus: int | None = None,
    json: bool = False,
) -> int:
    """Train a recovery model on samples.

    Interrupted at any time, the same command resumes: the compact model after its last complete epoch,
    LLaVA-OneVision at its last checkpoint. For several GPUs use `accelerate launch`; see docs/vlm.md.

    Args:
        data: Folders of samples, made by `failsafe samples`.
        out: Folder of the run and its checkpoint. A dry run needs none.
        model: "compact", or the name or folder of a LLaVA-OneVision.
        epochs: Passes over the training samples.
        batch: Samples in a batch.
        rate: Peak learning rate.
        seed: Seed of all random draws.
        proprioception_only: Compact: use no images, to measure what the proprioception alone gives away.
        localizer: Compact: a checkpoint, or "compact", whose object localizer is kept frozen; only the
            classifier is trained, on image-free samples.
        lora: LLaVA: train LoRA adapters; the default.
        full: LLaVA: train all weights.
        mix: LLaVA: FILE:SHARE of visual questions, in LLaVA's conversation format, to mix in.
        max_steps: LLaVA: optimizer steps after which training stops; no limit by default.
        accumulation: LLaVA: batches per optimizer step; 8 by default.
        resume: LLaVA: resume from this checkpoint of the run, "checkpoint-400", instead of the last.
        dry_run: LLaVA: only print the cost: parameters, tokens, memory, steps.
        strategy: LLaVA, with --dry-run: how training is spread over GPUs; "none" by default.
        gpus: LLaVA, with --dry-run: number of GPUs; 1 by default.
        json: Print the result as JSON.

    Raises:
        UserError: If options do not fit the model, or a value is not valid.
    """
    if not data:
        raise UserError("expected at least one folder made by `failsafe samples`, got none")
    if lora and full:
        raise UserError("expected --lora or --full, got both")
    steps = _given(max_steps=max_steps, accumulation=accumulation)
    plan = _given(strategy=strategy, gpus=gpus)
    if model == COMPACT:
        others = _given(mix=mix, lora=lora, full=full, resume=resume, dry_run=dry_run)
        _refuse({**others, **steps, **plan}, "for LLaVA-OneVision: give it with --model")
    else:
        _refuse(_given(proprioception_only=proprioception_only, localizer=localizer), "for the compact model")
        if dry_run:
            _refuse(_given(resume=resume), "for a training, not for --dry-run")
        else:
            _refuse(plan, "for --dry-run")
    samples = SampleSet(*data)
    given = _given(epochs=epochs, batch=batch)
    if model == COMPACT:
        given |= {"seed": seed, "proprioception_only": proprioception_only, "localizer": localizer}
        return _train_compact(samples, _needed(out), given, rate, json)
    given |= {
        "model": model,
        "lora": not full,
        "mix": mix,
        "seed": seed,
        "learning_rate": rate or 0.0,
        **steps,
    }
    if dry_run:
        return _plan_llava(samples, given, plan, json)
    return _train_llava(samples, _needed(out), given, resume, json)


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; 0 is one."""
    return {name: value for name, value in options.items() if value not in (None, "") and value is not False}


def _refuse(given: dict[str, Any], because: str) -> None:
    """Refuse options that would do nothing.

    Raises:
        UserError: Naming them, if there are any.
    """
    if named := [f"--{name.replace('_', '-')}" for name in given]:
        raise UserError(f"{' and '.join(named)} {'is' if len(named) == 1 else 'are'} {because}")


def _needed(out: Path | None) -> Path:
    """The folder of a run.

    Raises:
        UserError: If none is given.
    """
    if out is None:
        raise UserError("expected --out FOLDER to train into, got none")
    return out


def _train_compact(
    samples: SampleSet, out: Path, given: dict[str, Any], rate: float | None, json: bool
) -> int:
    # Imported only now: whoever trains one kind of model need not have what the other kind needs.
    from failsafe.training.compact import train_compact
    from failsafe.training.compact_config import CompactTraining, EpochReport

    if "epochs" in given:
        if given["epochs"] != round(given["epochs"]):
            raise UserError(f"expected whole epochs for the compact model, got {given['epochs']}")
        given["epochs"] = round(given["epochs"])
    if given["localizer"] and "batch" in given:
        given["image_free_batch"] = given.pop("batch")
    if rate is not None:
        given["rate"] = rate
    last: list[EpochReport] = []

    def show(report: EpochReport) -> None:
        last[:] = [report]
        if not json:
            seen = ", ".join(f"{name} {value:.3f}" for name, value in report.validation.items())
            print(
                f"epoch {report.epoch}/{report.epochs} after {report.seconds:.0f} s: loss {report.loss:.3f}; "
                f"validation: {seen or 'no samples'}",
                flush=True,
            )

    checkpoint = train_compact(samples, CompactTraining(**given), out, show)
    if json:
        print_json({"checkpoint": str(checkpoint), "report": codec.to_plain(last[0]) if last else None})
    else:
        print(f"checkpoint: {checkpoint}")
    return 0


def _plan_llava(samples: SampleSet, given: dict[str, Any], plan: dict[str, Any], json: bool) -> int:
    from failsafe.training.budget import dry_run
    from failsafe.training.llava_config import LlavaTrainConfig

    found = dry_run(samples, LlavaTrainConfig(**given), **plan)
    print_json(codec.to_plain(found)) if json else print(*found.lines(), sep="\n")
    return 0


def _train_llava(samples: SampleSet, out: Path, given: dict[str, Any], resume: str, json: bool) -> int:
    from failsafe.training.llava import train_llava
    from failsafe.training.llava_config import LlavaTrainConfig

    config = LlavaTrainConfig(**given)
    show = (lambda _: None) if json else (lambda line: print(line, flush=True))
    train_llava(samples, config, out, show, resume)
    if json:
        print_json({"checkpoint": str(out)})
    else:
        print(
            f"checkpoint: {out}; for a server, merge its adapters first: failsafe merge-lora {out} --out ..."
        )
    return 0
