"""A tiny LLaVA-OneVision of the real classes, with random weights. Needs transformers.

It is for tests and for finding out what a setting does, before 8 billion parameters are at stake: the whole
path from samples to a served checkpoint runs on it in seconds. Its tokenizer is Qwen2's, with merges learned
from the prompts and answers that it will see, so that it spells them as the real one does: words whole,
digits one by one.
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
"""Pictures first, whatever the order of the parts, as in the template of the released checkpoints."""


@dataclass(frozen=True)
class TinySize:
    """How small.

    Attributes:
        picture: Height and width that pictures are brought to, pixels, a multiple of `patch`.
        patch: Height and width of a patch, pixels.
        width: Width of the language model, a multiple of 32.
        layers: Its layers.
        vision_width: Width of the vision tower, a multiple of 32.
        vision_layers: Its layers.
        words: Tokens, at most.
    """

    picture: int = 28
    patch: int = 14
    width: int = 96
    layers: int = 2
    vision_width: int = 64
    vision_layers: int = 2
    words: int = 512

    @property
    def pinpoints(self) -> list[list[int]]:
        """The sizes that a lone picture is cut into patches at."""
        one, two = self.picture, 2 * self.picture
        return [[one, one], [one, two], [two, one], [two, two]]


def make_tiny(folder: Path, texts: Iterable[str], size: TinySize | None = None, seed: int = 0) -> None:
    """Write a checkpoint of random weights, with processor and tokenizer, as `from_pretrained` reads it.

    Args:
        folder: Where to; made if need be.
        texts: Prompts and answers that the tokenizer learns its merges from.
        size: How small.
        seed: Of the weights.
    """
    size = size or TinySize()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(texts, size.words)
    config = _config(size, tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlavaOnevisionForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    images = LlavaOnevisionImageProcessorPil(
        size={"height": size.picture, "width": size.picture}, image_grid_pinpoints=size.pinpoints
    )
    PictureProcessor(
        images,
        tokenizer,
        num_image_tokens=(size.picture // size.patch) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    _name_real_processor(folder)


def _tokenizer(texts: Iterable[str], words: int) -> Any:
    untrained = Qwen2Tokenizer(eos_token="<|im_end|>", pad_token="<|endoftext|>")
    # The two words of the verdict stand alone whatever the texts, as they do in the real vocabulary.
    with redirect_stdout(io.StringIO()):
        return cast(Any, untrained).train_new_from_iterator(
            [*texts, *['"yes" "no" "none"'] * 50], words, new_special_tokens=_SPECIAL[1:], show_progress=False
        )


def _config(size: TinySize, tokenizer: Any) -> LlavaOnevisionConfig:
    image, video = (int(tokenizer.convert_tokens_to_ids(name)) for name in ("<image>", "<video>"))
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=size.vision_width,
            intermediate_size=2 * size.vision_width,
            num_hidden_layers=size.vision_layers,
            num_attention_heads=size.vision_width // 32,
            image_size=size.picture,
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
            initializer_range=size.width**-0.5,  # the default is for widths of thousands, and too small here
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
    """Let the file name the class of transformers, which other programs know."""
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    settings["processor_class"] = "LlavaOnevisionProcessor"
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
