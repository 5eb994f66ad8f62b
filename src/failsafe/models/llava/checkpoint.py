"""Checkpoints on disk: the processor and the model. Needs transformers.

Only safetensors are read, and no code of a checkpoint is run, so nothing is unpickled.
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
    """LLaVA-OneVision's processor without the video processor, which needs torchvision.

    transformers derives the parts from this signature.

    Args:
        image_processor: Resizes and normalizes images.
        tokenizer: Tokenizer of the language model.
        num_image_tokens: Tokens of one image tile.
        vision_feature_select_strategy: Whether the class token of the image encoder is kept ("full") or not
            ("default").
        chat_template: Jinja template of a chat.
        image_token: Placeholder of an image in a prompt.
        video_token: Placeholder of a video in a prompt.
        vision_aspect_ratio: How an image is divided into tiles.
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
    """Load the processor of a checkpoint. Images are resized with Pillow, so results are the same everywhere.

    Args:
        source: A folder, or a name on the hub.

    Raises:
        UserError: If there is no processor of LLaVA-OneVision.
    """
    try:
        settings, _ = LlavaOnevisionProcessor.get_processor_dict(source)
        images = LlavaOnevisionImageProcessorPil.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        template = settings.get("chat_template") or tokenizer.chat_template
        processor = PictureProcessor(
            images,
            tokenizer,
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
    """Load the configuration of a checkpoint.

    Raises:
        UserError: If it is missing or of another architecture.
    """
    try:
        path = cached_file(source, "config.json")
        plain = json.loads(Path(cast(str, path)).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"expected a checkpoint at {source}, got: {_first_line(error)}") from error
    kind = plain.get("model_type") if isinstance(plain, dict) else None
    if kind != "llava_onevision":
        raise UserError(f"expected a checkpoint of LLaVA-OneVision at {source}, got one of {kind}")
    return LlavaOnevisionConfig.from_dict(cast(dict[str, Any], plain))


def load_model(source: str, dtype: torch.dtype) -> LlavaOnevisionForConditionalGeneration:
    """Load the full weights of a checkpoint into main memory.

    Args:
        source: A folder, or a name on the hub.
        dtype: Type of the weights.

    Raises:
        UserError: If there are no safetensors, or they are of another architecture.
    """
    load_config(source)
    try:
        model, info = cast(Any, LlavaOnevisionForConditionalGeneration).from_pretrained(
            source, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"expected weights as safetensors at {source}, got: {_first_line(error)}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise UserError(
            f"expected all weights at {source}, got none for {len(missing)} of them, {missing[0]} among them"
        )
    return cast(LlavaOnevisionForConditionalGeneration, model)


def load_trained(folder: Path, card: LlavaCard, dtype: torch.dtype) -> LlavaOnevisionForConditionalGeneration:
    """Load the weights of a trained checkpoint, with its LoRA adapter merged, if there is one.

    Args:
        folder: The checkpoint.
        card: Its card.
        dtype: Type of the weights.

    Raises:
        UserError: If the weights or the adapter are missing or do not fit.
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
            f"expected an adapter for {card.base} in {folder}, got one that does not fit: "
            f"{_first_line(error)}"
        ) from error
    return cast(Any, adapted).merge_and_unload()


def copy_processor(source: str, folder: Path) -> None:
    """Copy the processor files of a checkpoint unchanged, for other servers.

    Args:
        source: A folder, or a name on the hub.
        folder: Where to copy them.
    """
    for name in _PROCESSOR_FILES:
        found = cached_file(
            source,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if found is not None and Path(found).resolve() != (folder / name).resolve():
            (folder / name).unlink(missing_ok=True)  # `copyfile` would follow a link
            shutil.copyfile(found, folder / name)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
