"""Tiny LLaVA-1.5 (CLIP tower, Llama text model), and what LLaVA-NeXT has in common with it."""

import re
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from learner.tiny.config import IMAGE_TOKEN_PX, TinyVLMConfig
from learner.tiny.recipe import Markup, Recipe
from learner.tiny.tokenizer import token_id

MARKUP = Markup(pad_token="<pad>", eos_token="</s>", image_tokens={"image_token": "<image>"}, image="<image>")
_WEIGHTS_FILE = "model.safetensors"
_TOWER_KEY = re.compile(r"^((?:model\.)?vision_tower\.)(?!vision_model\.)")
FEATURE_STRATEGY = "default"
"""Which rows of the tower are image tokens: all but the class token."""


def _model(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    model_config = LlavaConfig(
        text_config=text_config(config, tokenizer),
        vision_config=vision_config(config),
        image_token_index=token_id(tokenizer, MARKUP.image),
        image_seq_length=config.image_tokens,
        # The usual -2 skips the last layer, which is a waste in a tower of one.
        vision_feature_layer=-1,
        vision_feature_select_strategy=FEATURE_STRATEGY,
        tie_word_embeddings=True,
        dtype="float32",
    )
    return LlavaForConditionalGeneration(model_config)


def _processor(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Processor that resizes the short edge of an image to `image_px` and keeps the square in the middle."""
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": config.image_px},
            crop_size={"height": config.image_px, "width": config.image_px},
        ),
        tokenizer=tokenizer,
        patch_size=IMAGE_TOKEN_PX,
        vision_feature_select_strategy=FEATURE_STRATEGY,
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def save_under_hub_names(model: PreTrainedModel, folder: Path) -> None:
    """Write configuration and weights under the key names of the hub's LLaVA checkpoints.

    transformers 5 drops the `vision_model` level of a CLIP tower when it saves; vLLM still expects it.
    """
    model.save_pretrained(folder)
    weights = load_file(folder / _WEIGHTS_FILE)
    renamed = {_TOWER_KEY.sub(r"\1vision_model.", key): tensor for key, tensor in weights.items()}
    save_file(renamed, folder / _WEIGHTS_FILE, metadata={"format": "pt"})


def text_config(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """Llama of the given sizes."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=config.max_position_embeddings,
        initializer_range=config.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=token_id(tokenizer, MARKUP.eos_token),
        pad_token_id=token_id(tokenizer, MARKUP.pad_token),
    )


def vision_config(config: TinyVLMConfig) -> CLIPVisionConfig:
    """CLIP tower for squares of `image_px`, one token per patch."""
    return CLIPVisionConfig(
        hidden_size=config.vision_hidden_size,
        intermediate_size=config.vision_intermediate_size,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.vision_heads,
        image_size=config.image_px,
        patch_size=IMAGE_TOKEN_PX,
        projection_dim=config.hidden_size,
        initializer_range=config.initializer_range,
    )


RECIPE = Recipe(MARKUP, _model, _processor, save_under_hub_names)
