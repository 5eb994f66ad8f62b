"""Budget of a training before it starts: tokens, steps, parameters, memory. Needs the extra [vlm].

The memory of weights, gradients and optimizer follows exactly from their formats. Activations are counted as
the layers of a transformer keep them for the gradients. Kernels and the allocator need more, so a GPU should
have a tenth more than the budget.
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
"""Replicate everything on every GPU, or shard weights, gradients and optimizer in one of two ways."""
_MEASURED = 16
"""Examples whose tokens are counted; they differ by a few tokens."""
_PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_+|\n+")
_WORD = 8
"""Letters per token of Qwen2 on average, rare words included."""


@dataclass(frozen=True)
class TokenBudget:
    """Tokens of an example, averaged over some examples.

    Attributes:
        images: Images per example.
        tokens_per_image: Tokens per image.
        text: Tokens of the question's text.
        answer: Tokens of the answer, which the loss is on.
        most: Tokens of the longest example.
        most_image_tokens: Image tokens of the example with the most of them.
        exact: Whether the model's tokenizer counted the tokens; otherwise those of text are estimated.
    """

    images: float
    tokens_per_image: float
    text: float
    answer: float
    most: int
    most_image_tokens: int
    exact: bool

    @property
    def mean(self) -> float:
        """Tokens of an example, on average."""
        return self.images * self.tokens_per_image + self.text + self.answer

    def describe(self) -> str:
        """Describe the budget in one sentence."""
        about = "" if self.exact else "about "
        return (
            f"{about}{self.mean:,.0f} tokens ({self.images:.3g} images of {self.tokens_per_image:,.0f}, "
            f"{about}{self.text:,.0f} of text, {self.answer:,.0f} of answer), at most {self.most:,}"
        )


@dataclass(frozen=True)
class MemoryBudget:
    """Peak memory of one GPU, bytes.

    Attributes:
        weights: Weights that the GPU holds.
        gradients: Gradients of the trained weights.
        optimizer: First and second moments of AdamW, and weights in 32 bits where `weights` has 16.
        gathered: Copies of weights in use, in 16 bits: all weights where trained weights in 32 bits are not
            sharded, otherwise embeddings, head and two layers.
        activations: Activations of a batch that the gradients need.
    """

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    activations: float

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return self.weights + self.gradients + self.optimizer + self.gathered + self.activations


@dataclass(frozen=True)
class DryRun:
    """Budget of a training.

    Attributes:
        model: Model to fine-tune.
        method: "lora" or "full".
        strategy: How the training is spread over GPUs, see `STRATEGIES`.
        gpus: Number of GPUs.
        parameters: Parameters of the model.
        trainable: Trained parameters, adapters included.
        examples: Examples in an epoch.
        steps: Optimizer steps in total.
        tokens: Tokens of one example.
        memory: Memory of one GPU.
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
        """Describe the budget in lines of text."""
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
    """Compute the budget of a training without its weights, on PyTorch's `meta` device.

    Args:
        samples: The samples.
        config: Settings. The model is a folder, or the name of a released checkpoint (not downloaded).
        strategy: One of `STRATEGIES`.
        gpus: Number of GPUs.

    Raises:
        UserError: If there are no samples, or model or mixture cannot be read.
        UnknownNameError: If there is no such strategy.
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
        steps=config.steps or steps_of_a_pass(len(made), config.batch, config.accumulation, gpus),
        tokens=tokens,
        memory=memory(model, trainable, tokens, config, strategy, gpus),
    )


def measure_tokens(examples: Sequence[Example], processor: Any) -> TokenBudget:
    """Count the tokens of examples with the model's processor.

    Args:
        examples: At least one example; some of them, evenly spread, are counted.
        processor: The model's processor.
    """
    chosen = _chosen(len(examples))
    images = image_tokens = text = answer = most = most_image_tokens = 0
    for index in chosen:
        example = examples[index]
        asked = processor(
            images=[example.images],
            text=[example.prompt],
            add_special_tokens=False,
        )["input_ids"][0]
        of_images = sum(token == processor.image_token_id for token in asked)
        answered = len(processor.tokenizer(example.completion, add_special_tokens=False)["input_ids"])
        images += len(example.images)
        image_tokens += of_images
        text += len(asked) - of_images
        answer += answered
        most = max(most, len(asked) + answered)
        most_image_tokens = max(most_image_tokens, of_images)
    n = len(chosen)
    return TokenBudget(
        images=images / n,
        tokens_per_image=image_tokens / max(images, 1),
        text=text / n,
        answer=answer / n,
        most=most,
        most_image_tokens=most_image_tokens,
        exact=True,
    )


def estimate_tokens(examples: Sequence[Example], config: LlavaOnevisionConfig) -> TokenBudget:
    """Estimate the tokens of examples without the tokenizer: exact for images, approximate for text.

    Args:
        examples: At least one example; some of them, evenly spread, are counted.
        config: Configuration of the model.
    """
    chosen = [examples[index] for index in _chosen(len(examples))]
    shown = [[count_image_tokens(config, len(e.images), i.height, i.width) for i in e.images] for e in chosen]
    asked = [_pieces(example.prompt) + 8 for example in chosen]  # 8: the chat's own
    answered = [_pieces(example.completion) + 1 for example in chosen]
    n, images = len(chosen), sum(map(len, shown))
    return TokenBudget(
        images=images / n,
        tokens_per_image=sum(map(sum, shown)) / max(images, 1),
        text=sum(asked) / n,
        answer=sum(answered) / n,
        most=max(sum(a) + b + c for a, b, c in zip(shown, asked, answered, strict=True)),
        most_image_tokens=max(map(sum, shown)),
        exact=False,
    )


def count_image_tokens(config: LlavaOnevisionConfig, images: int, height: int, width: int) -> int:
    """Return the number of tokens of one image of an example.

    One of several images has its patches and a newline token: 27 x 27 + 1 = 730. A single image is encoded
    twice: as a whole, and as tiles of the grid that fits it best, without padding. A square image of up to
    384 pixels is one tile.

    Args:
        config: Configuration of the model.
        images: Number of images in the example.
        height: Height of this image, pixels.
        width: Width of this image, pixels.
    """
    settings = cast(Any, config)
    side = settings.vision_config.image_size // settings.vision_config.patch_size
    if images > 1:
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


def steps_of_a_pass(examples: int, batch: int, accumulation: int, gpus: int) -> int:
    """Return the number of optimizer steps of one pass over the examples, as the transformers library does.

    Args:
        examples: Examples in total.
        batch: Examples in a batch on one GPU.
        accumulation: Batches per optimizer step.
        gpus: Number of GPUs.
    """
    return max(math.ceil(math.ceil(examples / (batch * gpus)) / accumulation), 1)


def on_meta(config: LlavaOnevisionConfig) -> LlavaOnevisionForConditionalGeneration:
    """Return the model without memory for its weights."""
    with torch.device("meta"):
        return LlavaOnevisionForConditionalGeneration(config)


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters of a model; weights that layers share count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def lora_parameters(model: nn.Module, rank: int) -> int:
    """Return the number of parameters of LoRA adapters: two matrices per adapted layer.

    Args:
        model: The model.
        rank: Rank of the adapters.
    """
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
    """Return the memory of one GPU, with frozen weights in 16 bits and trained ones in 32.

    ZeRO-3 keeps trained weights in 16 bits, and in 32 bits with the optimizer; the sum is the same.

    Args:
        model: The model, on any device.
        trainable: Number of trained parameters.
        tokens: Tokens of an example.
        config: Settings.
        strategy: One of `STRATEGIES`.
        gpus: Number of GPUs.
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
    """Return the bytes that the gradients of the longest example need, without the chunked head and loss."""
    text, vision = architecture.text_config, architecture.vision_config
    narrow = text.num_key_value_heads * text.hidden_size // text.num_attention_heads
    # In 16 bits: outputs of both norms, q, outputs of attention and of both branches, k and v, the four
    # tensors of the gated layer. In 32 bits: inputs of the norms.
    of_text = 2 * (6 * text.hidden_size + 2 * narrow + 4 * text.intermediate_size) + 8 * text.hidden_size
    total = _stack(float(tokens.most), text.num_hidden_layers, text.hidden_size, of_text, config.recompute)
    if not config.lora:  # the vision tower is trained too
        of_vision = 2 * (8 * vision.hidden_size + 2 * vision.intermediate_size) + 8 * vision.hidden_size
        patches = float(tokens.most_image_tokens)
        total += _stack(patches, vision.num_hidden_layers, vision.hidden_size, of_vision, config.recompute)
    return total


def _stack(tokens: float, layers: int, width: int, of_layer: int, recompute: bool) -> float:
    # With recomputation: the input of every layer, and all activations of one layer.
    return tokens * (layers * 2 * width + of_layer if recompute else layers * of_layer)


def _pieces(text: str) -> int:
    return sum(math.ceil(len(piece) / _WORD) if piece.isalpha() else 1 for piece in _PIECES.findall(text))


def _chosen(count: int) -> list[int]:
    """Return the indices of the examples to count, evenly spread."""
    n = min(count, _MEASURED)
    return sorted({round(i * (count - 1) / max(n - 1, 1)) for i in range(n)})


class _Plain:
    """Stand-in for a processor that is not available: returns the text of a chat."""

    tokenizer = SimpleNamespace(eos_token="")

    def apply_chat_template(self, chat: list[dict[str, Any]], **_: object) -> str:
        """Return the text of all turns, one line each."""
        return "\n".join(p["text"] for turn in chat for p in turn["content"] if p["type"] == "text")


def _ignore(_: str) -> None:
    """Callback that does nothing."""
