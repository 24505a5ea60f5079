"""Which part of a vision-language model a weight belongs to, told from its name.

Both supported families keep the text model in `language_model`, and call the layers that lead into it a
`projector` (LLaVA) or a `merger` (Qwen2.5-VL).
"""

from __future__ import annotations

import re
from typing import Literal

from torch import nn

from learner.config import Scope

_LANGUAGE = re.compile(r"(^|\.)(language_model|lm_head)(\.|$)")
_PROJECTOR = re.compile(r"(^|\.)(multi_modal_projector|merger)(\.|$)")
_LAYER_INDEX = re.compile(r"(?<=\.)\d+(?=\.)")


def part_of(name: str) -> Literal["language", "projector", "vision"]:
    """Part that the module or parameter called `name` belongs to."""
    if _LANGUAGE.search(name):
        return "language"
    return "projector" if _PROJECTOR.search(name) else "vision"


def in_scope(name: str, scope: Scope) -> bool:
    """Whether `scope` includes the module or parameter called `name`."""
    part = part_of(name)
    return part == "language" or scope == "all" or (part == "projector" and scope == "language+projector")


def lora_targets(model: nn.Module, scope: Scope) -> tuple[str, ...]:
    """Names of the linear layers in `scope`, but for the output layer; `*` stands for every layer index.

    Example: `model.language_model.layers.*.mlp.up_proj`. Sorted, each once.
    """
    names = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
    chosen = (name for name in names if in_scope(name, scope) and not name.endswith("lm_head"))
    return tuple(sorted({_LAYER_INDEX.sub("*", name) for name in chosen}))


def targets_regex(targets: tuple[str, ...]) -> str:
    """Regular expression that matches exactly the layers of `targets`, as PEFT's `target_modules` takes it.

    Full names, because a bare suffix such as `q_proj` would also adapt the vision tower of a LLaVA model.
    """
    return "|".join(re.escape(target).replace(r"\*", r"\d+") for target in targets)
