"""How one family's tiny model is made; every family's file ends in one of these, and the builder reads nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

from learner.tiny.config import TinyVLMConfig


@dataclass(frozen=True)
class Markup:
    """Special tokens of a family."""

    pad_token: str
    eos_token: str
    image_tokens: dict[str, str]
    """Attribute of the tokenizer to token, such as `{"image_token": "<image>"}`."""
    image: str
    """What the chat template writes for one image."""


def save_as_is(model: PreTrainedModel, folder: Path) -> None:
    """Write configuration and weights under transformers' own key names."""
    model.save_pretrained(folder)


@dataclass(frozen=True)
class Recipe:
    """Functions that make the parts of a model folder."""

    markup: Markup
    model: Callable[[TinyVLMConfig, PreTrainedTokenizerFast], PreTrainedModel]
    """Randomly initialised float32 model; draws from torch's global generator."""
    processor: Callable[[TinyVLMConfig, PreTrainedTokenizerFast], ProcessorMixin]
    save: Callable[[PreTrainedModel, Path], None] = save_as_is
    """Write configuration and weights under key names that vLLM reads."""
