"""Checkpoints on disk: the processor and the model. Needs transformers.

Weights are read from safetensors and nothing else, and no code that comes with a checkpoint is run: nothing
is ever unpickled.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
)
from transformers.utils.hub import cached_file

from failsafe.errors import UserError
from failsafe.models.llava.card import LlavaCard

ADAPTER = "adapter_model.safetensors"
_PROCESSOR_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
)


class PictureProcessor(LlavaOnevisionProcessor):
    """LLaVA-OneVision's processor without its part for videos, which cannot be made without torchvision.

    transformers derives from this signature which parts there are.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        num_image_tokens: int | None = None,
        vision_feature_select_strategy: str | None = None,
        chat_template: str | None = None,
        image_token: str = "<image>",
        video_token: str = "<video>",
        vision_aspect_ratio: str = "anyres_max_9",
        **_: Any,
    ) -> None:
        super().__init__(
            image_processor,
            tokenizer,
            None,
            num_image_tokens,
            vision_feature_select_strategy,
            chat_template,
            image_token,
            video_token,
            vision_aspect_ratio,
        )


def load_processor(source: str) -> PictureProcessor:
    """The processor of a checkpoint; Pillow and not torchvision works, so that pictures come out the same.

    Args:
        source: A folder, or a name on the hub.

    Raises:
        UserError: If there is none.
    """
    try:
        settings, _ = LlavaOnevisionProcessor.get_processor_dict(source)
        images = LlavaOnevisionImageProcessorPil.from_pretrained(source)
        words = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        template = settings.get("chat_template") or words.chat_template
        processor = PictureProcessor(
            images,
            words,
            num_image_tokens=settings["num_image_tokens"],
            vision_feature_select_strategy=settings["vision_feature_select_strategy"],
            chat_template=template,
            vision_aspect_ratio=settings.get("vision_aspect_ratio", "anyres_max_9"),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"expected the processor of LLaVA-OneVision in {source}, got: {_first_line(error)}"
        ) from error
    if template is None:
        raise UserError(
            f"expected the processor of LLaVA-OneVision in {source}, got one without a chat template"
        )
    return processor


def load_config(source: str) -> LlavaOnevisionConfig:
    """The configuration of a checkpoint.

    Raises:
        UserError: If it is of another architecture, or not to be had.
    """
    try:
        path = cached_file(source, "config.json")
        plain = json.loads(Path(cast(str, path)).read_text())
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"expected a checkpoint at {source}, got: {_first_line(error)}") from error
    kind = plain.get("model_type") if isinstance(plain, dict) else None
    if kind != "llava_onevision":
        raise UserError(f"expected a checkpoint of LLaVA-OneVision at {source}, got one of {kind}")
    return LlavaOnevisionConfig.from_dict(cast(dict[str, Any], plain))


def load_model(source: str, dtype: torch.dtype) -> LlavaOnevisionForConditionalGeneration:
    """The whole weights of a checkpoint, in main memory.

    Raises:
        UserError: If there are none in the format of safetensors, or they are of another architecture.
    """
    load_config(source)
    try:
        model, told = cast(Any, LlavaOnevisionForConditionalGeneration).from_pretrained(
            source, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"expected weights as safetensors at {source}, got: {_first_line(error)}") from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise UserError(
            f"expected all weights at {source}, got none for {len(missing)} of them, {missing[0]} among them"
        )
    return cast(LlavaOnevisionForConditionalGeneration, model)


def load_trained(folder: Path, card: LlavaCard, dtype: torch.dtype) -> LlavaOnevisionForConditionalGeneration:
    """The weights of a checkpoint of our own, with its LoRA adapter merged in where it has one.

    Raises:
        UserError: If they are not there.
    """
    if not card.base:
        return load_model(str(folder), dtype)
    from peft import PeftModel

    if not (folder / ADAPTER).is_file():
        raise UserError(f"expected a LoRA adapter as {ADAPTER} in {folder}, got none")
    base = load_model(card.base, dtype)
    try:
        adapted = PeftModel.from_pretrained(cast(Any, base), str(folder), is_trainable=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"expected the adapter in {folder} to fit {card.base}, it does not: {_first_line(error)}"
        ) from error
    return cast(Any, adapted).merge_and_unload()


def copy_processor(source: str, folder: Path) -> None:
    """Put the files of a checkpoint's processor elsewhere as they are, so that every server knows them."""
    for name in _PROCESSOR_FILES:
        found = cached_file(
            source,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is not None and Path(found).resolve() != (folder / name).resolve():
            shutil.copyfile(found, folder / name)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
