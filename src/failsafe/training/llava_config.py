"""How LLaVA-OneVision is fine-tuned."""

from __future__ import annotations

from dataclasses import dataclass

from failsafe.errors import UserError
from failsafe.training.mixture import parse_mix


@dataclass(frozen=True)
class LlavaTrainConfig:
    """How LLaVA-OneVision is fine-tuned.

    Attributes:
        model: Model to fine-tune, a folder or a name on the hub.
        lora: Train LoRA adapters only; otherwise all weights, those of the vision tower included.
        mix: File of visual questions and its share, `vqa.jsonl:0.3`; empty for none.
        steps: Optimizer steps; 0 for one pass over the samples.
        batch: Examples in a batch on one GPU.
        accumulation: Batches per optimizer step.
        learning_rate: Highest learning rate of AdamW; 0 for 1e-4 with LoRA and 1e-5 without.
        warmup: Share of the steps with a rising learning rate; a cosine decay follows.
        lora_rank: Rank of the adapters; their scale is twice that.
        save_every: Optimizer steps between checkpoints.
        keep: Number of checkpoints that are kept.
        log_every: Optimizer steps between lines of progress.
        workers: Processes that prepare images.
        recompute: Recompute activations for the gradients instead of keeping them.
        seed: Seed of adapters, order and mixture.

    Raises:
        UserError: If a number is out of range.
    """

    model: str
    lora: bool = True
    mix: str = ""
    steps: int = 0
    batch: int = 1
    accumulation: int = 8
    learning_rate: float = 0.0
    warmup: float = 0.03
    lora_rank: int = 64
    save_every: int = 200
    keep: int = 3
    log_every: int = 10
    workers: int = 2
    recompute: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "accumulation", "lora_rank", "save_every", "keep", "log_every"):
            if not getattr(self, name) > 0:
                raise UserError(f"expected {name} above 0, got {getattr(self, name)}")
        for name in ("steps", "learning_rate", "workers", "seed"):
            if not getattr(self, name) >= 0:
                raise UserError(f"expected {name} to be at least 0, got {getattr(self, name)}")
        if not 0.0 <= self.warmup < 1.0:
            raise UserError(f"expected warmup from 0 to below 1, got {self.warmup}")
        if self.mix:
            parse_mix(self.mix)

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or (1e-4 if self.lora else 1e-5)
