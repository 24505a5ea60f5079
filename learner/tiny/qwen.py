"""What the tiny Qwen-VL families share: tokens, the text model's sizes, and a processor that keeps proportions."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

from learner.tiny.config import IMAGE_TOKEN_PX, TinyVLMConfig
from learner.tiny.recipe import Markup
from learner.tiny.tokenizer import token_id

MARKUP = Markup(
    pad_token="<|endoftext|>",
    eos_token="<|im_end|>",
    image_tokens={
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
    },
    image="<|vision_start|><|image_pad|><|vision_end|>",
)

PATCH_PX = IMAGE_TOKEN_PX // 2
MERGE = 2
"""Patches along one edge of the square that is merged into one image token."""

_ROPE_THETA = 10000.0


def image_token_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Ids of the vision tokens, as the model's configuration names them."""
    return {f"{name}_id": token_id(tokenizer, token) for name, token in MARKUP.image_tokens.items()}


def whole_config(text: dict[str, Any], vision: dict[str, Any], tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Arguments of a family's configuration class, from its two parts."""
    parts = {"text_config": text, "vision_config": vision, **image_token_ids(tokenizer)}
    return {**parts, "tie_word_embeddings": True, "dtype": "float32"}


def text_config(
    config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast, rope_sections: tuple[int, int, int]
) -> dict[str, Any]:
    """Text model; `rope_sections` are the rotary channels for time, rows and columns, half a head in all."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "max_position_embeddings": config.max_position_embeddings,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": _ROPE_THETA,
            "mrope_section": list(rope_sections),
        },
        "bos_token_id": None,
        "eos_token_id": token_id(tokenizer, MARKUP.eos_token),
        "pad_token_id": token_id(tokenizer, MARKUP.pad_token),
    }


def consecutive_sections(config: TinyVLMConfig) -> tuple[int, int, int]:
    """A quarter of the channels for time and the rest for rows and columns, one block after another."""
    half = config.head_dim // 2
    time = half // 4
    return time, (half - time) // 2, half - time - (half - time) // 2


def vision_config(config: TinyVLMConfig) -> dict[str, Any]:
    """Keys of the vision tower that mean the same in every family."""
    return {
        "depth": config.vision_layers,
        "num_heads": config.vision_heads,
        "patch_size": PATCH_PX,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "initializer_range": config.initializer_range,
    }


def processor_parts(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Arguments of a processor that scales any image, its proportions kept, to an area of about `image_px` squared."""
    # Bounds on the area, despite their names. The slack keeps an edge that should come out as a whole number
    # of image tokens from being rounded to the next one, down or up.
    size = {
        "shortest_edge": config.image_px * (config.image_px - 1),
        "longest_edge": config.image_px * (config.image_px + 1),
    }
    return {
        "image_processor": Qwen2VLImageProcessor(size=size, patch_size=PATCH_PX, merge_size=MERGE),
        "tokenizer": tokenizer,
        "video_processor": Qwen2VLVideoProcessor(size=size, patch_size=PATCH_PX, merge_size=MERGE),
        "chat_template": tokenizer.chat_template,
    }
