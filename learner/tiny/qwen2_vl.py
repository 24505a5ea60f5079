"""Tiny Qwen2-VL: a vision tower with full attention, positions of image tokens in consecutive rotary sections."""

from __future__ import annotations

from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
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


def _model(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen2VLForConditionalGeneration:
    text = text_config(config, tokenizer, consecutive_sections(config)) | {"max_window_layers": config.layers}
    vision = vision_config(config) | {
        "embed_dim": config.vision_hidden_size,
        # Of the MLP, in units of the tower's width; the configuration makes sure that it divides.
        "mlp_ratio": config.vision_intermediate_size // config.vision_hidden_size,
        # Of what leaves the tower: the text model's width, whatever the name says.
        "hidden_size": config.hidden_size,
    }
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(**whole_config(text, vision, tokenizer)))


def _processor(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen2VLProcessor:
    return Qwen2VLProcessor(**processor_parts(config, tokenizer))


RECIPE = Recipe(MARKUP, _model, _processor)
