"""The layers that a setting names: parts of a model, and the linear layers in them that get an adapter."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from torch import nn

from learner.config import Scope
from learner.families.parts import part_of
from protocol.errors import ConfigError

_LAYER_INDEX = re.compile(r"(?<=\.)\d+(?=\.)")
_SHOWN = 3


def in_scope(name: str, scope: Scope) -> bool:
    """Whether `scope` includes the module or parameter called `name`."""
    part = part_of(name)
    return part == "language" or scope == "all" or (part == "projector" and scope == "language+projector")


def lora_targets(model: nn.Module, scope: Scope, pattern: str | None = None) -> tuple[str, ...]:
    """Names of the linear layers that get an adapter; `*` stands for every layer index.

    Example: `model.language_model.layers.*.mlp.up_proj`. Sorted, each once. A layer whose like in other layers is left
    out stands with its own index.

    Args:
        model: the base model.
        scope: parts of it; the output layer belongs to none here.
        pattern: regular expression that the whole name of a layer must match as well. None takes all in `scope`.

    Raises:
        ConfigError: No layer is left; names the nearest ones.
    """
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and not n.endswith("lm_head")]
    in_reach = [name for name in names if in_scope(name, scope)]
    chosen = [name for name in in_reach if pattern is None or re.fullmatch(pattern, name)]
    if not chosen:
        raise ConfigError(*_explain_no_match(names, in_reach, scope, pattern or ""))
    left_out = {_kind(name) for name in set(names).difference(chosen)}
    return tuple(sorted({name if _kind(name) in left_out else _kind(name) for name in chosen}))


def targets_regex(targets: tuple[str, ...]) -> str:
    """Regular expression that matches exactly the layers of `targets`, as PEFT's `target_modules` takes it.

    Full names, because a bare suffix such as `q_proj` would also adapt the vision tower of a LLaVA model.
    """
    return "|".join(re.escape(target).replace(r"\*", r"\d+") for target in targets)


def _kind(name: str) -> str:
    return _LAYER_INDEX.sub("*", name)


def _explain_no_match(names: list[str], in_reach: list[str], scope: Scope, pattern: str) -> tuple[str, str]:
    """Message and cure for a pattern that matches no layer in reach."""
    message = f"learner.lora.pattern {pattern!r} matches none of the {len(in_reach)} linear layers in {scope!r}"
    beyond = [name for name in names if re.fullmatch(pattern, name)]
    if beyond:
        return f"{message}, but {len(beyond)} beyond, such as {beyond[0]}.", "set learner.lora.targets=all"
    inside = [name for name in in_reach if re.search(pattern, name)]
    if inside:
        return (
            f"{message}; it is found inside {len(inside)} names, such as {inside[0]}, and must match a whole one.",
            f"write .*({pattern}).*",
        )
    kinds = sorted({_kind(name) for name in in_reach}, key=lambda kind: -_likeness(pattern, kind))
    return f"{message}. Nearest are {', '.join(kinds[:_SHOWN])}.", "match the whole name of a layer, e.g. .*q_proj"


def _likeness(pattern: str, kind: str) -> float:
    """How near the last name of a kind of layer comes to any word of the pattern, 0 to 1."""
    last = kind.rsplit(".", 1)[-1]
    return max((SequenceMatcher(None, word, last).ratio() for word in re.findall(r"\w+", pattern)), default=0.0)
