"""Tiny Qwen2.5-VL: windowed vision tower, positions of image tokens in consecutive rotary sections."""

from __future__ import annotations

from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from learner.tiny.config import TinyVLMConfig
from learner.tiny.qwen import (
    MARKUP,
    consecutive_sections,
    processor_parts,
    text_config,
    vision_config,
    whole_config,
)
from learner.tiny.recipe import Recipe


def _model(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    text = text_config(config, tokenizer, consecutive_sections(config)) | {"max_window_layers": config.layers}
    vision = vision_config(config) | {
        "hidden_size": config.vision_hidden_size,
        "intermediate_size": config.vision_intermediate_size,
        "out_hidden_size": config.hidden_size,
        "fullatt_block_indexes": list(range(config.vision_layers)),
    }
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**whole_config(text, vision, tokenizer)))


def _processor(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLProcessor:
    return Qwen2_5_VLProcessor(**processor_parts(config, tokenizer))


RECIPE = Recipe(MARKUP, _model, _processor)
