"""Prompt text to token ids, under the model's own chat template, without torch.

The rollout worker uses it; it reads only the tokenizer files of a Hugging Face model folder. The tokens it makes hold
one placeholder per image, which is what servers take; `expand` gives the form the model sees, one placeholder per
image patch, which is what rows carry.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from protocol.errors import ModelFolderError, RequestRefused

ImageSize = tuple[int, int]
"""Height and width in pixels."""


class PromptEncoder:
    """Turn the text and the number of images of one state into prompt token ids.

    Args:
        model_folder: A Hugging Face folder with `tokenizer.json`, `config.json` and a chat template.
        image_tokens: Patches per image by image size, where known beforehand. Sizes that are missing are learnt from
            the servers' replies (`learn_expansion`): the count depends on nothing but the size.

    Raises:
        ModelFolderError: A file is missing; the message names it.
    """

    def __init__(self, model_folder: str | Path, image_tokens: dict[ImageSize, int] | None = None) -> None:
        folder = Path(model_folder)
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(_existing(folder / "tokenizer.json")))
        config = json.loads(_existing(folder / "config.json").read_text())
        self.image_token_id = int(config.get("image_token_id", config.get("image_token_index", -1)))
        self._special_tokens = _special_tokens(folder)
        self._render = _chat_template(folder)
        self._image_tokens = dict(image_tokens or {})
        self._encode_cached = lru_cache(maxsize=4096)(self._encode)

    def encode(self, text: str, num_images: int) -> tuple[int, ...]:
        """Token ids of the whole prompt, one placeholder per image, ending where the response begins.

        Raises:
            RequestRefused: The chat template did not place exactly one placeholder per image.
        """
        return self._encode_cached(text, num_images)

    def _encode(self, text: str, num_images: int) -> tuple[int, ...]:
        content: list[dict[str, str]] = [{"type": "image"} for _ in range(num_images)]
        content.append({"type": "text", "text": text})
        rendered = self._render.render(
            messages=[{"role": "user", "content": content}], add_generation_prompt=True, **self._special_tokens
        )
        ids = tuple(self.tokenizer.encode(rendered, add_special_tokens=False).ids)
        placeholders = ids.count(self.image_token_id)
        if placeholders != num_images:
            raise RequestRefused(
                f"The chat template made {placeholders} image placeholder(s) (id {self.image_token_id}) "
                f"for {num_images} image(s).",
                "use a model folder whose chat template writes one image token per image",
            )
        return ids

    def decode(self, token_ids: np.ndarray) -> str:
        """Text of sampled tokens, special tokens left out."""
        return self.tokenizer.decode(token_ids.tolist(), skip_special_tokens=True)

    def learn_expansion(self, unexpanded: tuple[int, ...], expanded: np.ndarray, sizes: list[ImageSize]) -> None:
        """Remember how many tokens an image of this size takes, from a prompt that a server expanded."""
        if len(set(sizes)) == 1 and sizes[0] not in self._image_tokens:
            grown = len(expanded) - len(unexpanded)
            self._image_tokens[sizes[0]] = grown // len(sizes) + 1

    def expand(self, token_ids: tuple[int, ...], sizes: list[ImageSize]) -> np.ndarray:
        """The prompt as the model sees it, int32 [P]: every placeholder repeated once per image patch.

        Raises:
            RequestRefused: No image of one of these sizes has been seen yet.
        """
        unknown = [s for s in sizes if s not in self._image_tokens]
        if unknown:
            raise RequestRefused(
                f"How many tokens an image of {unknown[0][0]}x{unknown[0][1]} pixels takes is not known yet.",
                "sample one state with a frame of that size first, or pass image_tokens to the PromptEncoder",
            )
        ids = np.asarray(token_ids, dtype=np.int32)
        repeats = np.ones(len(ids), dtype=np.int64)
        repeats[ids == self.image_token_id] = [self._image_tokens[s] for s in sizes]
        return np.repeat(ids, repeats)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ModelFolderError(
            f"Model folder {path.parent} lacks {path.name}.",
            "point model.path at a complete Hugging Face folder (croupier saves one under RUN/model)",
        )
    return path


def _special_tokens(folder: Path) -> dict[str, str]:
    """Tokens such as bos and eos that chat templates refer to by name."""
    config: dict[str, Any] = json.loads(_existing(folder / "tokenizer_config.json").read_text())
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    values = {name: config.get(name) for name in names}
    return {k: v["content"] if isinstance(v, dict) else v for k, v in values.items() if v}


def _chat_template(folder: Path) -> Any:
    """Compile the folder's chat template, as transformers does: sandboxed, blocks trimmed."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        source = path.read_text()
    else:
        legacy = folder / "chat_template.json"
        holder = legacy if legacy.is_file() else _existing(folder / "tokenizer_config.json")
        source = json.loads(holder.read_text()).get("chat_template")
        if not source:
            raise ModelFolderError(
                f"Model folder {folder} has no chat template.",
                "add chat_template.jinja; a template that prints the image token and the text is enough",
            )
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _raise_template_error
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment.from_string(source)


def _raise_template_error(message: str) -> None:
    raise RequestRefused(f"The chat template refused the conversation: {message}")
