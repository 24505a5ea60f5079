"""Which part of a vision-language model a weight belongs to, told from its name.

Every family keeps the text model in `language_model`. What leads into it is a `multi_modal_projector`, with the
`image_newline` that LLaVA-NeXT puts between rows of image tokens, or a `merger`, of which Qwen3-VL has one more for
each text layer that vision features enter.
"""

from __future__ import annotations

import re
from typing import Literal

Part = Literal["language", "projector", "vision"]

_LANGUAGE = re.compile(r"(^|\.)(language_model|lm_head)(\.|$)")
_PROJECTOR = re.compile(r"(^|\.)(multi_modal_projector|image_newline|merger|deepstack_merger_list)(\.|$)")


def part_of(name: str) -> Part:
    """Part that the module or parameter called `name` belongs to."""
    if _LANGUAGE.search(name):
        return "language"
    return "projector" if _PROJECTOR.search(name) else "vision"
