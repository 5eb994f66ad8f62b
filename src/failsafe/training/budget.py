"""What a training will take, before it is started: tokens, steps, parameters, memory. Needs the extra [vlm].

The memory of weights, gradients and optimizer is what their formats take, exactly. Activations are counted as
a transformer's layers keep them for the gradients; kernels and the allocator take more than is counted, so a
GPU should have a tenth more than what stands here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration
from transformers.models.llava_onevision.modeling_llava_onevision import (
    get_anyres_image_grid_shape,
    unpad_image,
)

from failsafe.errors import UnknownNameError, UserError
from failsafe.models.llava.architectures import LORA_TARGETS, config_of
from failsafe.models.llava.checkpoint import load_processor
from failsafe.training.examples import Example, SampleSource, make_examples
from failsafe.training.llava_config import LlavaTrainConfig

STRATEGIES = ("none", "fsdp", "zero3")
"""Every GPU holds everything; or each holds its part of weights, gradients and optimizer, two ways."""
_MEASURED = 16
"""Examples that are looked at; they differ by a few tokens."""
_PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_+|\n+")
_WORD = 8
"""Letters that Qwen2 spells with one token on average, rare words counted in."""


@dataclass(frozen=True)
class TokenBudget:
    """Tokens of an example, on average over those looked at.

    Attributes:
        pictures: Its pictures.
        per_picture: Tokens of one of them.
        text: Tokens of the question in words.
        answer: Tokens of the answer, which the loss is on.
        most: All tokens of the longest example.
        most_of_pictures: Tokens of pictures of the example that has most of them.
        exact: Whether the model's own tokenizer counted them; else words are estimated, pictures are not.
    """

    pictures: float
    per_picture: float
    text: float
    answer: float
    most: int
    most_of_pictures: int
    exact: bool

    @property
    def mean(self) -> float:
        """All tokens of an example, on average."""
        return self.pictures * self.per_picture + self.text + self.answer

    def describe(self) -> str:
        """In words, for a reader."""
        about = "" if self.exact else "about "
        return (
            f"{about}{self.mean:,.0f} tokens ({self.pictures:.3g} pictures of {self.per_picture:,.0f}, "
            f"{about}{self.text:,.0f} of text, {self.answer:,.0f} of answer), at most {self.most:,}"
        )


@dataclass(frozen=True)
class MemoryBudget:
    """What one GPU holds at the worst moment, bytes.

    Attributes:
        weights: Those that it keeps.
        gradients: Of what is trained.
        optimizer: AdamW's two moments, and weights in 32 bits where those kept have 16.
        gathered: Copies in 16 bits of weights that are at work: all of them where trained weights in 32 bits
            are kept whole, else embeddings, head and two layers.
        activations: What the gradients need of a batch.
    """

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    activations: float

    @property
    def total(self) -> float:
        """All together."""
        return self.weights + self.gradients + self.optimizer + self.gathered + self.activations


@dataclass(frozen=True)
class DryRun:
    """What a training would take.

    Attributes:
        model: What is fine-tuned.
        method: "lora" or "full".
        strategy: How it is spread over GPUs.
        gpus: How many.
        parameters: Numbers in the model.
        trainable: Those that are trained, adapters included.
        examples: Examples in an epoch.
        steps: Optimizer steps in all.
        tokens: Of one example.
        memory: Of one GPU.
    """

    model: str
    method: str
    strategy: str
    gpus: int
    parameters: int
    trainable: int
    examples: int
    steps: int
    tokens: TokenBudget
    memory: MemoryBudget

    def lines(self) -> list[str]:
        """For a reader."""
        m = self.memory
        parts = ("weights", "gradients", "optimizer", "gathered", "activations")
        sizes = ", ".join(f"{name} {getattr(m, name) / 1e9:.1f}" for name in parts)
        return [
            f"{self.model}: {self.parameters:,} parameters, of which {self.method} trains {self.trainable:,}",
            f"{self.examples:,} examples of {self.tokens.describe()}",
            f"{self.steps:,} steps; GPUs: {self.gpus}, strategy: {self.strategy}",
            f"memory of each GPU: {m.total / 1e9:.1f} GB ({sizes}); let it have a tenth more",
        ]


def dry_run(samples: SampleSource, config: LlavaTrainConfig, strategy: str = "none", gpus: int = 1) -> DryRun:
    """Plan a training without its weights: the model is built on the `meta` device, which takes no memory.

    Args:
        samples: What would be learned.
        config: How. The model is a folder, or a released checkpoint that need not be here.
        strategy: One of `STRATEGIES`.
        gpus: How many GPUs.

    Raises:
        UserError: If model, mixture, strategy or samples are not as they must be.
    """
    if strategy not in STRATEGIES:
        raise UnknownNameError("strategy", strategy, STRATEGIES)
    if gpus < 1:
        raise UserError(f"expected at least one GPU, got {gpus}")
    architecture = config_of(config.model)
    if Path(config.model).exists():
        processor = load_processor(config.model)
        made = make_examples(samples, config, processor, _ignore)
        tokens = measure_tokens(made, processor)
    else:
        made = make_examples(samples, config, _Plain(), _ignore)
        tokens = estimate_tokens(made, architecture)
    model = on_meta(architecture)
    trainable = lora_parameters(model, config.lora_rank) if config.lora else count_parameters(model)
    return DryRun(
        model=config.model,
        method="lora" if config.lora else "full",
        strategy=strategy,
        gpus=gpus,
        parameters=count_parameters(model),
        trainable=trainable,
        examples=len(made),
        steps=optimizer_steps(
            len(made), config.epochs, config.batch, config.accumulation, gpus, config.max_steps
        ),
        tokens=tokens,
        memory=memory(model, trainable, tokens, config, strategy, gpus),
    )


def measure_tokens(examples: Sequence[Example], processor: Any) -> TokenBudget:
    """Tokens of examples, as the model's own processor makes them.

    Args:
        examples: At least one; some of them, evenly spread, are looked at.
        processor: The model's.
    """
    chosen = _chosen(len(examples))
    pictures = image_tokens = text = answer = most = most_of_pictures = 0
    for index in chosen:
        example = examples[index]
        asked = processor(
            images=[example.images],
            text=[example.prompt],
            add_special_tokens=False,
        )["input_ids"][0]
        of_images = sum(token == processor.image_token_id for token in asked)
        told = len(processor.tokenizer(example.completion, add_special_tokens=False)["input_ids"])
        pictures += len(example.images)
        image_tokens += of_images
        text += len(asked) - of_images
        answer += told
        most = max(most, len(asked) + told)
        most_of_pictures = max(most_of_pictures, of_images)
    n = len(chosen)
    return TokenBudget(
        pictures=pictures / n,
        per_picture=image_tokens / max(pictures, 1),
        text=text / n,
        answer=answer / n,
        most=most,
        most_of_pictures=most_of_pictures,
        exact=True,
    )


def estimate_tokens(examples: Sequence[Example], config: LlavaOnevisionConfig) -> TokenBudget:
    """Tokens of examples where the tokenizer is not at hand: those of pictures exactly, those of words about.

    Args:
        examples: At least one, of words alone; some of them, evenly spread, are looked at.
        config: The model's.
    """
    chosen = [examples[index] for index in _chosen(len(examples))]
    shown = [[picture_tokens(config, len(e.images), i.height, i.width) for i in e.images] for e in chosen]
    asked = [_pieces(example.prompt) + 8 for example in chosen]  # 8: the chat's own
    told = [_pieces(example.completion) + 1 for example in chosen]
    n, pictures = len(chosen), sum(map(len, shown))
    return TokenBudget(
        pictures=pictures / n,
        per_picture=sum(map(sum, shown)) / max(pictures, 1),
        text=sum(asked) / n,
        answer=sum(told) / n,
        most=max(sum(a) + b + c for a, b, c in zip(shown, asked, told, strict=True)),
        most_of_pictures=max(map(sum, shown)),
        exact=False,
    )


def picture_tokens(config: LlavaOnevisionConfig, pictures: int, height: int, width: int) -> int:
    """Tokens of one of the pictures of an example.

    One of several takes its patches and a line's end: 27 x 27 + 1 = 730. A lone one is looked at twice, whole
    and cut into patches of the grid that fits it best, without what is empty of them: the side of a square
    one is one patch for up to 384 pixels.

    Args:
        config: The model's.
        pictures: How many there are in the example.
        height: Of this one, pixels.
        width: Likewise.
    """
    settings = cast(Any, config)
    side = settings.vision_config.image_size // settings.vision_config.patch_size
    if pictures > 1:
        return side * side + 1
    grid = get_anyres_image_grid_shape(
        (height, width), settings.image_grid_pinpoints, settings.vision_config.image_size
    )
    patches = torch.empty(1, grid[0] * side, grid[1] * side, device="meta")
    lines, columns = unpad_image(patches, (height, width)).shape[1:]
    most = int(settings.vision_aspect_ratio.removeprefix("anyres_max_"))
    shrunk = math.sqrt(lines * columns / (most * side * side))
    if shrunk > 1.1:
        lines, columns = int(lines // shrunk), int(columns // shrunk)
    return side * side + lines * (columns + 1)


def optimizer_steps(
    examples: int, epochs: float, batch: int, accumulation: int, gpus: int, max_steps: int = 0
) -> int:
    """Optimizer steps in all, counted as transformers counts them."""
    batches = math.ceil(examples / (batch * gpus))
    return max_steps or math.ceil(epochs * max(math.ceil(batches / accumulation), 1))


def on_meta(config: LlavaOnevisionConfig) -> LlavaOnevisionForConditionalGeneration:
    """The model without its numbers."""
    with torch.device("meta"):
        return LlavaOnevisionForConditionalGeneration(config)


def count_parameters(model: nn.Module) -> int:
    """Numbers in a model; weights that two layers share count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def lora_parameters(model: nn.Module, rank: int) -> int:
    """Numbers in the adapters of a model: two matrices for each layer that is adapted."""
    return sum(
        rank * (layer.in_features + layer.out_features)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and re.fullmatch(LORA_TARGETS, name)
    )


def memory(
    model: LlavaOnevisionForConditionalGeneration,
    trainable: int,
    tokens: TokenBudget,
    config: LlavaTrainConfig,
    strategy: str,
    gpus: int,
) -> MemoryBudget:
    """What one GPU holds, with what is frozen in 16 bits and what is trained in 32, as `train_llava` has it.

    ZeRO-3 keeps 16 bits of what is trained at hand and the 32 with the optimizer; the sum is the same.
    """
    everything = count_parameters(model)
    frozen = everything if config.lora else 0
    share = 1 if strategy == "none" else gpus
    at_hand, master = (2, 4) if strategy == "zero3" else (4, 0)
    layers = cast(Any, model).model.language_model.layers
    per_layer = count_parameters(layers[0])
    around = everything - per_layer * len(layers)
    in_16_bits = 0 if config.lora else 2 * everything
    gathered = in_16_bits if strategy == "none" else 2 * (around + 2 * per_layer)
    return MemoryBudget(
        weights=(2.0 * frozen + at_hand * trainable) / share,
        gradients=1.0 * at_hand * trainable / share,
        optimizer=(8.0 + master) * trainable / share,
        gathered=float(gathered),
        activations=config.batch * _activations(cast(Any, model).config, tokens, config),
    )


def _activations(architecture: Any, tokens: TokenBudget, config: LlavaTrainConfig) -> float:
    """Bytes that the gradients of the longest example need; head and loss go in chunks and count nothing."""
    text, vision = architecture.text_config, architecture.vision_config
    narrow = text.num_key_value_heads * text.hidden_size // text.num_attention_heads
    # In 16 bits: both norms' results, q, attention's and both branches' results, k and v, the four of the
    # gated layer. In 32 bits: the inputs of the norms.
    of_text = 2 * (6 * text.hidden_size + 2 * narrow + 4 * text.intermediate_size) + 8 * text.hidden_size
    total = _stack(float(tokens.most), text.num_hidden_layers, text.hidden_size, of_text, config.recompute)
    if not config.lora:  # the vision tower is trained too
        of_vision = 2 * (8 * vision.hidden_size + 2 * vision.intermediate_size) + 8 * vision.hidden_size
        patches = float(tokens.most_of_pictures)
        total += _stack(patches, vision.num_hidden_layers, vision.hidden_size, of_vision, config.recompute)
    return total


def _stack(tokens: float, layers: int, width: int, of_layer: int, recompute: bool) -> float:
    # Computed again: the input of every layer, and all of the one that is at work.
    return tokens * (layers * 2 * width + of_layer if recompute else layers * of_layer)


def _pieces(text: str) -> int:
    return sum(math.ceil(len(piece) / _WORD) if piece.isalpha() else 1 for piece in _PIECES.findall(text))


def _chosen(count: int) -> list[int]:
    """Numbers of the examples that are looked at, evenly spread."""
    n = min(count, _MEASURED)
    return sorted({round(i * (count - 1) / max(n - 1, 1)) for i in range(n)})


class _Plain:
    """In the place of a processor that is not at hand: the words of a chat, to be counted."""

    tokenizer = SimpleNamespace(eos_token="")

    def apply_chat_template(self, chat: list[dict[str, Any]], **_: object) -> str:
        """All that is said, a line each."""
        return "\n".join(p["text"] for turn in chat for p in turn["content"] if p["type"] == "text")


def _ignore(_: str) -> None:
    """For what need not be told twice."""
