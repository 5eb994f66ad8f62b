"""Fine-tune LLaVA-OneVision on samples, with TRL and PEFT. Needs the extra [vlm].

One process trains on one GPU or the CPU; `accelerate launch` with a file of `configs/` trains on several.
The loss is on answers only. An interrupted run resumes: its folder holds the settings and checkpoints with
weights as safetensors. PyTorch reads the rest of a checkpoint (optimizer, random generators) with
`weights_only`, so that nothing is unpickled.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling, SFTTrainer

from datasets import Dataset
from failsafe.datasets.files import write_atomically
from failsafe.errors import RecordError, UserError
from failsafe.models.llava import checkpoint
from failsafe.models.llava.architectures import LORA_TARGETS
from failsafe.models.llava.card import CARD, LlavaCard, read_card, write_card
from failsafe.models.llava.model import decision_tokens
from failsafe.records import codec
from failsafe.records.embodiment import MANISKILL_PANDA
from failsafe.training.budget import TokenBudget, measure_tokens, steps_of_a_pass
from failsafe.training.examples import Example, Examples, SampleSource, make_examples, to_learn
from failsafe.training.llava_config import LlavaTrainConfig

_RUN = "run.json"


def _from_version_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert a run whose settings stated epochs beside a largest number of steps."""
    config = dict(fields["config"])
    epochs, steps = config.pop("epochs", 1.0), config.pop("max_steps", 0)
    if not steps and epochs != 1.0:
        batch, accumulation = config.get("batch", 1), config.get("accumulation", 8)
        steps = math.ceil(epochs * steps_of_a_pass(fields["examples"], batch, accumulation, 1))
    return {**fields, "config": {**config, "steps": steps}}


@dataclass(frozen=True)
class LlavaRun:
    """Description of a run in its folder, so that no other run resumes in it by mistake.

    Attributes:
        config: Settings.
        card: Card of its checkpoints.
        examples: Number of examples.
    """

    FORMAT: ClassVar[int] = 2
    MIGRATIONS: ClassVar[Mapping[str, codec.Migration]] = {"LlavaRun/1": _from_version_1}

    config: LlavaTrainConfig
    card: LlavaCard
    examples: int


def train_llava(
    samples: SampleSource,
    config: LlavaTrainConfig,
    out: Path,
    callback: Callable[[str], None] = print,
    resume: str = "",
) -> None:
    """Fine-tune LLaVA-OneVision; resume from the last checkpoint in the folder if there is one.

    Args:
        samples: The samples; those of the split "train" are used.
        config: Settings.
        out: Folder of the run; afterwards it is a checkpoint itself.
        callback: Called with the token budget first, then with lines of progress.
        resume: Name of another checkpoint in the folder to resume from, "checkpoint-400".

    Raises:
        UserError: If model, mixture or folder cannot be used as they are.
    """
    # Before the model is loaded: with ZeRO-3 it is loaded in shards, which this decides.
    arguments = _arguments(config, out)
    first = arguments.process_index == 0
    inform = callback if first else _silent
    processor = checkpoint.load_processor(config.model)
    decision_tokens(cast(Any, processor).tokenizer)
    examples = make_examples(samples, config, processor, inform)
    _check_budget(measure_tokens(examples, processor), config, len(examples), inform)
    card = _card(samples, _lasting(config.model) if config.lora else "")
    start = _begin(out, LlavaRun(config, card, len(examples)), resume, first)
    if start:
        inform(f"going on from {start.name}")
    trainer = _trainer(config, arguments, processor, examples, start, inform)
    trainer.train(resume_from_checkpoint=str(start) if start else None)
    trainer.save_model(str(out))
    if first:
        (out / "training_args.bin").unlink(missing_ok=True)  # a pickle, which is not needed
        checkpoint.copy_processor(config.model, out)
        write_card(out, card)
        kind = (
            "LoRA adapter; next: failsafe merge-lora"
            if config.lora
            else "whole weights; next: failsafe score"
        )
        inform(f"{out} holds the {kind} {out}")


def merge_lora(run: Path, out: Path) -> None:
    """Merge a run's LoRA adapter into its base model, as servers require.

    Args:
        run: Folder of the run, or one of its checkpoints.
        out: Folder of the merged checkpoint; created if it does not exist.

    Raises:
        UserError: If there is no adapter, or the folder is not empty.
    """
    card = _card_of_run(run)
    if not card.base:
        raise UserError(f"expected a LoRA adapter in {run}, got whole weights: there is nothing to merge")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"expected {out} to be empty or not to exist; remove it, or choose another folder")
    config = checkpoint.load_config(card.base)
    kept = cast(Any, config).dtype
    model = checkpoint.load_trained(run, card, kept if isinstance(kept, torch.dtype) else torch.bfloat16)
    out.mkdir(parents=True, exist_ok=True)
    cast(Any, model).save_pretrained(out)
    checkpoint.copy_processor(card.base, out)
    # Last, so that a folder with a card is whole.
    write_card(out, replace(card, base=""))


def _card(samples: SampleSource, base: str) -> LlavaCard:
    learned = [samples.samples[i] for i in to_learn(samples)]
    seeds: dict[str, set[int]] = {}
    for sample in learned:
        seeds.setdefault(sample.task, set()).add(sample.seed)
    return LlavaCard(
        samples.spec,
        base,
        instructions=tuple(sorted({sample.instruction for sample in learned})),
        train_seeds={task: tuple(sorted(found)) for task, found in sorted(seeds.items())},
        modes=tuple(sorted({sample.mode for sample in learned if sample.failing})),
        embodiment=samples.embodiment or MANISKILL_PANDA,
    )


class _Collator:
    """Make examples from their indices, and tokens and labels from the examples."""

    def __init__(self, processor: Any, examples: Sequence[Any]) -> None:
        self._examples = examples
        # No truncation: it would remove the tokens of images first.
        self._inner = DataCollatorForVisionLanguageModeling(
            processor, max_length=None, completion_only_loss=True
        )

    def __call__(self, rows: list[dict[str, int]]) -> Mapping[str, Any]:
        made: list[Example] = [self._examples[row["index"]] for row in rows]
        return self._inner(
            [{"prompt": e.prompt, "completion": e.completion, "images": e.images} for e in made]
        )


class _Progress(TrainerCallback):
    """Report progress in lines."""

    def __init__(self, callback: Callable[[str], None]) -> None:
        self._callback = callback

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            right = logs.get("mean_token_accuracy", math.nan)
            self._callback(
                f"step {state.global_step}/{state.max_steps}: loss {float(logs['loss']):.4f}, "
                f"{float(right):.1%} of the answers' tokens right"
            )


class _Trainer(SFTTrainer):
    """A trainer that does not load weights twice."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # For whole weights on one GPU, the inherited method searches for names that layers have in memory.
        # Those of LLaVA-OneVision have other names on disk: it finds none, warns, and keeps the old weights.
        if self.is_fsdp_enabled or hasattr(self.model, "peft_config"):
            cast(Any, super())._load_from_checkpoint(resume_from_checkpoint, model)


def _silent(_: str) -> None:
    """Callback of all processes but the first: do nothing."""


def _arguments(config: LlavaTrainConfig, out: Path) -> SFTConfig:
    gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(out),
        use_cpu=not gpu,
        bf16=gpu,
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.accumulation,
        num_train_epochs=1.0,
        max_steps=config.steps or -1,
        learning_rate=config.rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        max_grad_norm=1.0,
        activation_checkpointing=config.recompute,
        logging_steps=config.log_every,
        save_steps=config.save_every,
        save_total_limit=config.keep,
        dataloader_num_workers=config.workers,
        dataloader_pin_memory=gpu,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,
        completion_only_loss=True,
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
    )


def _trainer(
    config: LlavaTrainConfig,
    arguments: SFTConfig,
    processor: Any,
    examples: Examples,
    start: Path | None,
    callback: Callable[[str], None],
) -> SFTTrainer:
    # Trained weights have 32 bits: steps of AdamW are smaller than the resolution of 16 bits.
    frozen_in_16_bits = config.lora and torch.cuda.is_available()
    trained_before = start is not None and any(start.glob("model*.safetensors"))
    source = str(start) if trained_before else config.model
    model = checkpoint.load_model(source, torch.bfloat16 if frozen_in_16_bits else torch.float32)
    adapter = LoraConfig(
        r=config.lora_rank,
        lora_alpha=2 * config.lora_rank,
        lora_dropout=0.0,
        target_modules=LORA_TARGETS,
    )
    trainer = _Trainer(
        model=cast(Any, model),
        args=arguments,
        data_collator=cast(Any, _Collator(processor, examples)),
        train_dataset=Dataset.from_dict({"index": list(range(len(examples)))}),
        processing_class=processor,
        peft_config=adapter if config.lora else None,
        callbacks=[_Progress(callback)],
    )
    # The printer callback would print what `callback` receives.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _check_budget(
    tokens: TokenBudget, config: LlavaTrainConfig, examples: int, callback: Callable[[str], None]
) -> None:
    limit = cast(Any, checkpoint.load_config(config.model)).text_config.max_position_embeddings
    gpus = int(os.environ.get("WORLD_SIZE", "1"))
    steps = config.steps or steps_of_a_pass(examples, config.batch, config.accumulation, gpus)
    callback(f"{examples} examples of {tokens.describe()}; {steps} steps")
    if tokens.most > limit:
        raise UserError(
            f"expected examples of at most {limit} tokens, which is what {config.model} can take, got one of "
            f"{tokens.most}; make samples with fewer views or frames"
        )


def _begin(out: Path, run: LlavaRun, resume: str, first: bool) -> Path | None:
    """Claim the folder; return the checkpoint to resume from."""
    path = out / _RUN
    if path.exists():
        try:
            before = codec.read(LlavaRun, path)
        except RecordError as error:
            raise UserError(str(error)) from error
        if before != run:
            raise UserError(
                f"expected the run in {out} to have the same settings and samples, it has others; train to "
                "another folder, or remove this one"
            )
    elif out.exists() and any(out.glob("checkpoint-*")):
        raise UserError(f"expected {out} to be empty or a run of FailSafe, got checkpoints without {_RUN}")
    elif first:
        write_atomically(path, (codec.dumps(run) + "\n").encode())
    if resume:
        start = out / resume
        if not (start / "trainer_state.json").is_file():
            raise UserError(f"expected a checkpoint of the run at {start}, got none")
        return start
    last = get_last_checkpoint(str(out)) if out.exists() else None
    return Path(last) if last else None


def _card_of_run(run: Path) -> LlavaCard:
    """Return the card of a finished run, or of the run that a checkpoint belongs to."""
    if (run / CARD).exists():
        return read_card(run)
    path = run.parent / _RUN
    if not path.is_file():
        return read_card(run)  # raises an error that names what is missing
    try:
        return codec.read(LlavaRun, path).card
    except RecordError as error:
        raise UserError(str(error)) from error


def _lasting(model: str) -> str:
    """Return a folder as an absolute path: the adapter may be merged from another directory."""
    return str(Path(model).resolve()) if Path(model).exists() else model
