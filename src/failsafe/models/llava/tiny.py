"""A tiny LLaVA-OneVision of the real classes, with random weights. Needs transformers.

For tests and dry runs: the whole path from samples to a served checkpoint runs in seconds. The tokenizer is
Qwen2's, with merges learned from the given prompts and answers, so that it splits text like the real one:
whole words, single digits.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    Qwen2Config,
    Qwen2Tokenizer,
    SiglipVisionConfig,
)

from failsafe.models.llava.checkpoint import PictureProcessor

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% for part in message['content'] -%}
{%- if part['type'] == 'image' -%}<image>{%- endif -%}
{%- endfor -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""
"""Images first, in any order of the parts, as in the template of the released checkpoints."""


@dataclass(frozen=True)
class TinySize:
    """Sizes of a tiny model.

    Attributes:
        image: Height and width of resized images, pixels, a multiple of `patch`.
        patch: Height and width of a patch, pixels.
        width: Width of the language model, a multiple of 32.
        layers: Layers of the language model.
        vision_width: Width of the vision tower, a multiple of 32.
        vision_layers: Layers of the vision tower.
        vocabulary: Largest number of tokens.
    """

    image: int = 28
    patch: int = 14
    width: int = 96
    layers: int = 2
    vision_width: int = 64
    vision_layers: int = 2
    vocabulary: int = 512

    @property
    def pinpoints(self) -> list[list[int]]:
        """The image sizes of the any-resolution grid."""
        one, two = self.image, 2 * self.image
        return [[one, one], [one, two], [two, one], [two, two]]


def make_tiny(folder: Path, texts: Iterable[str], size: TinySize | None = None, seed: int = 0) -> None:
    """Write a checkpoint with random weights, processor and tokenizer for `from_pretrained`.

    Args:
        folder: Where to write it; created if missing.
        texts: Prompts and answers that the tokenizer learns its merges from.
        size: Sizes of the model.
        seed: Seed of the weights.
    """
    size = size or TinySize()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(texts, size.vocabulary)
    config = _config(size, tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlavaOnevisionForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    images = LlavaOnevisionImageProcessorPil(
        size={"height": size.image, "width": size.image}, image_grid_pinpoints=size.pinpoints
    )
    PictureProcessor(
        images,
        tokenizer,
        num_image_tokens=(size.image // size.patch) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    _name_real_processor(folder)


def _tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    untrained = Qwen2Tokenizer(eos_token="<|im_end|>", pad_token="<|endoftext|>")
    # "yes" and "no" must be tokens of their own, as in the real vocabulary.
    with redirect_stdout(io.StringIO()):
        return cast(Any, untrained).train_new_from_iterator(
            [*texts, *['"yes" "no" "none"'] * 50],
            vocabulary,
            new_special_tokens=_SPECIAL[1:],
            show_progress=False,
        )


def _config(size: TinySize, tokenizer: Any) -> LlavaOnevisionConfig:
    image, video = (int(tokenizer.convert_tokens_to_ids(name)) for name in ("<image>", "<video>"))
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=size.vision_width,
            intermediate_size=2 * size.vision_width,
            num_hidden_layers=size.vision_layers,
            num_attention_heads=size.vision_width // 32,
            image_size=size.image,
            patch_size=size.patch,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=size.width,
            intermediate_size=2 * size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=size.width // 32,
            num_key_value_heads=1,
            max_position_embeddings=8192,
            initializer_range=size.width**-0.5,  # the default suits larger widths
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=int(tokenizer.eos_token_id),
            pad_token_id=int(tokenizer.pad_token_id),
        ),
        image_token_index=image,
        video_token_index=video,
        image_grid_pinpoints=size.pinpoints,
        tie_word_embeddings=False,
    )


def _name_real_processor(folder: Path) -> None:
    """Name the class of transformers in the file, for other programs."""
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["processor_class"] = "LlavaOnevisionProcessor"
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
