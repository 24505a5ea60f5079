"""Base weights in 4 bits for RL (QLoRA, arXiv 2305.14314), and the folder that servers need to match them.

The learner holds the linear layers of the text model in NF4 blocks of 64 and computes in bfloat16; adapter and value
head stay float32. Servers hold whole weights: vLLM 0.32 reads no such blocks. If they were the model's own, every
log-prob would be off by what the rounding did. `learner.rounding` therefore rounds the model once, to a folder of
ordinary bfloat16 weights that lie on the NF4 grid: the learner packs these into 4 bits without another loss, and what
servers read off is what the learner unpacks.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from learner.config import ComputeConfig
from protocol.errors import ConfigError

if TYPE_CHECKING:
    import torch

_NEEDED = ("bitsandbytes", "accelerate")

_KEPT_WHOLE = ("model.visual", "model.vision_tower", "model.multi_modal_projector", "lm_head")
"""Beginnings of names: vision features are computed once per frame, and the output layer decides every log-prob."""


def check_quantization(compute: ComputeConfig) -> None:
    """Refuse 4 bits where the library for them is missing; light, so that it can be asked before anything is loaded.

    Raises:
        ConfigError: Names the library.
    """
    if compute.quantization == "none":
        return
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"learner.compute.quantization is {compute.quantization!r}, which needs {' and '.join(missing)}, "
            "not installed here.",
            f"pip install {' '.join(missing)}, or set learner.compute.quantization=none",
        )


def loading_options(compute: ComputeConfig, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is told on top, so that frozen weights are held as `compute.quantization` says.

    Raises:
        ConfigError: As `check_quantization`.
    """
    if compute.quantization == "none":
        return {}
    check_quantization(compute)
    import torch
    from transformers import BitsAndBytesConfig

    # No second quantisation of the block scales: they would not come back as they were.
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=compute.quantization,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=False,
        llm_int8_skip_modules=list(_KEPT_WHOLE),
    )
    return {"quantization_config": settings, "device_map": {"": device}}


def keep_differentiable(model: Any) -> None:
    """Keep 4-bit layers on the CPU in the form that gradients pass.

    bitsandbytes (0.50) turns the layers of a model in eval mode, in their first pass without a gradient, into a form
    for inference that later passes stay in, and gradients end there without a word.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
