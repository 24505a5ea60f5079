"""Builds a tiny model's folder: weights, tokenizer, processor and generation defaults, as on a model hub."""

import os
import shutil
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from learner.tiny import llava, llava_next, qwen2_5_vl, qwen2_vl, qwen3_vl
from learner.tiny.config import Family, TinyVLMConfig
from learner.tiny.corpus import TinyCorpus
from learner.tiny.recipe import Recipe
from learner.tiny.template import chat_template
from learner.tiny.tokenizer import train_tokenizer

_RECIPES: dict[Family, Recipe] = {
    "qwen2_vl": qwen2_vl.RECIPE,
    "qwen2_5_vl": qwen2_5_vl.RECIPE,
    "qwen3_vl": qwen3_vl.RECIPE,
    "llava": llava.RECIPE,
    "llava_next": llava_next.RECIPE,
}


def build_tiny_vlm(config: TinyVLMConfig, corpus: TinyCorpus, seed: int, out_dir: Path | str) -> Path:
    """Write a randomly initialised vision-language model as a Hugging Face folder.

    The folder loads with `AutoProcessor`, `AutoTokenizer` and `AutoModelForImageTextToText`, and in vLLM. The
    same arguments give bit-equal weights and tokenizer. torch's global generator is left as it was.

    Args:
        config: family and sizes.
        corpus: texts the tokenizer is trained on.
        seed: seed of the initial weights.
        out_dir: folder to create; its parent is created as needed.

    Returns:
        `out_dir` as a path. It appears only when complete.

    Raises:
        FileExistsError: `out_dir` exists and is not an empty folder.
        ValueError: the vocabulary is too small for the corpus' isolated words.
    """
    out_dir = Path(out_dir)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise FileExistsError(f"{out_dir} exists and is no empty folder: choose another, or remove it first")
    staging = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.partial")
    staging.mkdir(parents=True)
    try:
        _write(config, corpus, seed, staging)
        staging.replace(out_dir)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return out_dir


def _write(config: TinyVLMConfig, corpus: TinyCorpus, seed: int, folder: Path) -> None:
    transformers_logging.disable_progress_bar()
    recipe = _RECIPES[config.family]
    markup = recipe.markup
    tokenizer = train_tokenizer(
        corpus,
        vocab_size=config.vocab_size,
        pad_token=markup.pad_token,
        eos_token=markup.eos_token,
        image_tokens=markup.image_tokens,
        template=chat_template(markup.image, markup.eos_token),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = recipe.model(config, tokenizer)
    model.generation_config = _generation_config(tokenizer)
    recipe.processor(config, tokenizer).save_pretrained(folder)
    recipe.save(model, folder)


def _generation_config(tokenizer: PreTrainedTokenizerFast) -> GenerationConfig:
    return GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False)
