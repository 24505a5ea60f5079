"""Pictures of several shapes, and prompts that show them, for every family."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from transformers import AutoProcessor

from tests.learner.world import World

SHAPES = ((300, 300), (150, 300), (300, 110), (84, 84), (61, 200))
"""Heights and widths in pixels. LLaVA-NeXT cuts them into 4, 2, 2, 2 and 2 tiles and throws away different edges."""


def picture(height: int, width: int, seed: int = 0) -> bytes:
    """PNG of random blocks, so that every part of it matters."""
    blocks = np.random.default_rng([height, width, seed]).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def processed_prompt(world: World, text: str, pngs: list[bytes]) -> np.ndarray:
    """Expanded prompt ids as the folder's own processor writes them, int32 [P]."""
    processor: Any = AutoProcessor.from_pretrained(world.folder)
    parts = [{"type": "image"} for _ in pngs] + [{"type": "text", "text": text}]
    rendered = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
    images = [Image.open(io.BytesIO(png)).convert("RGB") for png in pngs]
    return np.array(processor(text=[rendered], images=images or None)["input_ids"][0], dtype=np.int32)
