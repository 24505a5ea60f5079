"""Tiny LLaVA-NeXT (LLaVA-1.6): a picture is seen whole and in tiles, with a newline after each row of tile tokens."""

from __future__ import annotations

from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
)

from learner.tiny.config import IMAGE_TOKEN_PX, TinyVLMConfig
from learner.tiny.llava import FEATURE_STRATEGY, MARKUP, save_under_hub_names, text_config, vision_config
from learner.tiny.recipe import Recipe
from learner.tiny.tokenizer import token_id


def _model(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> LlavaNextForConditionalGeneration:
    model_config = LlavaNextConfig(
        text_config=text_config(config, tokenizer),
        vision_config=vision_config(config),
        image_token_index=token_id(tokenizer, MARKUP.image),
        image_seq_length=(config.image_px // IMAGE_TOKEN_PX) ** 2,
        image_grid_pinpoints=_layouts(config),
        # The usual -2 skips the last layer, which is a waste in a tower of one.
        vision_feature_layer=-1,
        vision_feature_select_strategy=FEATURE_STRATEGY,
        tie_word_embeddings=True,
        dtype="float32",
    )
    return LlavaNextForConditionalGeneration(model_config)


def _processor(config: TinyVLMConfig, tokenizer: PreTrainedTokenizerFast) -> LlavaNextProcessor:
    """Processor that fits an image, its proportions kept, into the layout of tiles that wastes least of it."""
    return LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": config.image_px},
            crop_size={"height": config.image_px, "width": config.image_px},
            image_grid_pinpoints=_layouts(config),
        ),
        tokenizer=tokenizer,
        patch_size=IMAGE_TOKEN_PX,
        vision_feature_select_strategy=FEATURE_STRATEGY,
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def _layouts(config: TinyVLMConfig) -> list[list[int]]:
    """Heights and widths in pixels: two tiles side by side, one above the other, and two by two."""
    one, two = config.image_px, 2 * config.image_px
    return [[one, two], [two, one], [two, two]]


RECIPE = Recipe(MARKUP, _model, _processor, save_under_hub_names)
