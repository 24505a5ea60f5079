"""The families that the learner computes correctly; read before anything heavy is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from protocol.errors import ModelFolderError

MODEL_TYPES = {
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "llava": "LLaVA-1.5",
    "llava_next": "LLaVA-NeXT (1.6)",
}
"""`model_type` in a folder's `config.json` to the family's name."""


def read_model_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model folder, which names a `model_type`.

    Raises:
        ModelFolderError: `config.json` is unreadable or names none.
    """
    file = folder / "config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        settings["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(
            f"{file} names no model_type: {error!r}.", "save the model with save_pretrained"
        ) from error
    return settings


def check_model_type(folder: Path) -> None:
    """Refuse a family that nobody has compared with its own forward pass.

    A model of another family may well load, and then score with wrong positions or masks without a word.

    Raises:
        ModelFolderError: Names the family and those there are.
    """
    found = read_model_config(folder)["model_type"]
    if found not in MODEL_TYPES:
        raise ModelFolderError(
            f"The model folder {str(folder)!r} holds a {found!r} model, a family that the learner does not know.",
            f"use a model of one of the families {', '.join(MODEL_TYPES.values())} ({', '.join(MODEL_TYPES)})",
        )
