"""The released sizes of LLaVA-OneVision and the roles of their modules. Needs transformers.

The configurations are listed here, so that a training run can be planned offline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

from failsafe.errors import UnknownNameError
from failsafe.models.llava.checkpoint import load_config

LORA_TARGETS = (
    r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
    r"|.*multi_modal_projector\.linear_[12]"
)
"""Modules that LoRA adapts: the linear layers of the language model, and the image projector."""

_QWEN2: dict[str, dict[str, Any]] = {
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": {
        "vocab_size": 152128,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": {
        "vocab_size": 152000,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
}
RELEASED = tuple(_QWEN2)
"""Names of the checkpoints whose configuration is known here."""


def released_config(name: str) -> LlavaOnevisionConfig:
    """The configuration of a released checkpoint: SigLIP-SO400M at 384 pixels, a projector, Qwen2.

    Raises:
        UnknownNameError: If it is not one of `RELEASED`.
    """
    if name not in _QWEN2:
        raise UnknownNameError("model", name, RELEASED)
    sizes = _QWEN2[name]
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=26,
            num_attention_heads=16,
            image_size=384,
            patch_size=14,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            max_position_embeddings=32768,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            rms_norm_eps=1e-6,
            bos_token_id=151643,
            eos_token_id=151645,
            **sizes,
        ),
        image_token_index=151646,
        video_token_index=151647,
        tie_word_embeddings=sizes["tie_word_embeddings"],
    )


def config_of(model: str) -> LlavaOnevisionConfig:
    """The configuration of a model: from its folder, or as released.

    Raises:
        UserError: If the folder holds another architecture, or the name is not known.
    """
    return load_config(model) if Path(model).exists() else released_config(model)
