"""Tiny Qwen2.5-VL: configuration, processor and tokens of that family."""

from pathlib import Path
from typing import Any

from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from learner.tiny.config import IMAGE_TOKEN_PX, TinyVLMConfig
from learner.tiny.tokenizer import token_id

PAD_TOKEN = "<|endoftext|>"
EOS_TOKEN = "<|im_end|>"
IMAGE_TOKENS = {
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
}
IMAGE_MARKUP = "<|vision_start|><|image_pad|><|vision_end|>"

_PATCH_PX = IMAGE_TOKEN_PX // 2
_ROPE_THETA = 10000.0


def build_model(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    """Randomly initialised float32 model; draws from torch's global generator."""
    ids: dict[str, Any] = {f"{name}_id": token_id(tokenizer, token) for name, token in IMAGE_TOKENS.items()}
    model_config = Qwen2_5_VLConfig(
        text_config=_text_config(config, tokenizer),
        vision_config=_vision_config(config),
        tie_word_embeddings=True,
        dtype="float32",
        **ids,
    )
    return Qwen2_5_VLForConditionalGeneration(model_config)


def build_processor(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLProcessor:
    """Processor that scales any image, its proportions kept, to an area of about `image_px` squared."""
    # Bounds on the area, despite their names. The slack keeps an edge that should come out as a whole number
    # of image tokens from being rounded to the next one, down or up.
    size = {
        "shortest_edge": config.image_px * (config.image_px - 1),
        "longest_edge": config.image_px * (config.image_px + 1),
    }
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, patch_size=_PATCH_PX, merge_size=2),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size, patch_size=_PATCH_PX, merge_size=2),
        chat_template=tokenizer.chat_template,
    )


def save_model(model: Qwen2_5_VLForConditionalGeneration, folder: Path) -> None:
    """Write configuration and weights; vLLM reads the key names of this family as they are."""
    model.save_pretrained(folder)


def _text_config(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    half = config.head_dim // 2
    time = half // 4
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "max_position_embeddings": config.max_position_embeddings,
        "max_window_layers": config.layers,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": _ROPE_THETA,
            "mrope_section": [time, (half - time) // 2, half - time - (half - time) // 2],
        },
        "bos_token_id": None,
        "eos_token_id": token_id(tokenizer, EOS_TOKEN),
        "pad_token_id": token_id(tokenizer, PAD_TOKEN),
    }


def _vision_config(config: TinyVLMConfig) -> dict[str, Any]:
    return {
        "depth": config.vision_layers,
        "hidden_size": config.vision_hidden_size,
        "intermediate_size": config.vision_intermediate_size,
        "num_heads": config.vision_heads,
        "out_hidden_size": config.hidden_size,
        "patch_size": _PATCH_PX,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "fullatt_block_indexes": list(range(config.vision_layers)),
        "initializer_range": config.initializer_range,
    }
