"""Tiny Qwen3-VL: features of several vision layers enter several text layers, and rotary sections are interleaved."""

from __future__ import annotations

from typing import Any

from transformers import (
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)

from learner.tiny.config import IMAGE_TOKEN_PX, TinyVLMConfig
from learner.tiny.qwen import MARKUP, MERGE, processor_parts, text_config, vision_config, whole_config
from learner.tiny.recipe import Recipe


def _model(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen3VLForConditionalGeneration:
    text: dict[str, Any] = text_config(config, tokenizer, _interleaved_sections(config))
    text["head_dim"] = config.head_dim
    text["rope_parameters"]["mrope_interleaved"] = True
    vision = vision_config(config) | {
        "hidden_size": config.vision_hidden_size,
        "intermediate_size": config.vision_intermediate_size,
        "out_hidden_size": config.hidden_size,
        "num_position_embeddings": (config.image_px // IMAGE_TOKEN_PX * MERGE) ** 2,
        # The n-th of these vision layers feeds the n-th text layer.
        "deepstack_visual_indexes": list(range(min(config.vision_layers, config.layers))),
    }
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(**whole_config(text, vision, tokenizer)))


def _processor(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen3VLProcessor:
    return Qwen3VLProcessor(**processor_parts(config, tokenizer))


def _interleaved_sections(config: TinyVLMConfig) -> tuple[int, int, int]:
    """Every third channel for rows, every third for columns, the rest for time."""
    half = config.head_dim // 2
    return half - 2 * (half // 3), half // 3, half // 3


RECIPE = Recipe(MARKUP, _model, _processor)
