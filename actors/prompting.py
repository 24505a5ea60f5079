"""Prompt text to token ids, under the model's own chat template, without torch.

The rollout worker uses it; it reads only the configuration and tokenizer files of a Hugging Face model folder.
The tokens it makes hold one placeholder per image, which is what servers take; `expand` gives the form the model
sees, one placeholder per image patch, which is what rows carry.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from actors.vocabulary import Vocabulary
from protocol.errors import ModelFolderError, RequestRefused

ImageSize = tuple[int, int]
"""Height and width in pixels."""


class PromptEncoder:
    """Turn the text and the number of images of one state into prompt token ids.

    Args:
        model_folder: A Hugging Face folder with `tokenizer.json`, `config.json` and a chat template.
        image_tokens: Patches per image by image size, where known beforehand. Sizes that are missing are learnt
            from the servers' replies (`learn_expansion`): the count depends on nothing but the size.

    Raises:
        ModelFolderError: A file is missing or unreadable; the message names it.
    """

    def __init__(self, model_folder: str | Path, image_tokens: dict[ImageSize, int] | None = None) -> None:
        folder = Path(model_folder)
        vocabulary = Vocabulary.from_folder(folder)
        self.tokenizer: Tokenizer = vocabulary.tokenizer
        # Some folders were saved with limits that would silently shorten or pad prompts.
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.image_token_id = vocabulary.image_token_id
        self._special_tokens = _special_tokens(folder)
        self._template = _chat_template(folder)
        self._image_tokens = dict(image_tokens or {})
        self._encode_cached = lru_cache(maxsize=4096)(self._encode)

    def encode(self, text: str, num_images: int) -> tuple[int, ...]:
        """Token ids of the whole prompt, one placeholder per image, ending where the response begins.

        Raises:
            RequestRefused: The prompt does not hold exactly one placeholder per image.
        """
        return self._encode_cached(text, num_images)

    def decode(self, token_ids: np.ndarray) -> str:
        """Text of sampled tokens, special tokens left out."""
        return self.tokenizer.decode(token_ids.tolist(), skip_special_tokens=True)

    def learn_expansion(self, unexpanded: Sequence[int], expanded: np.ndarray, sizes: Sequence[ImageSize]) -> None:
        """Remember how many tokens an image of a new size takes, from a prompt that a server expanded.

        Learns one size at a time: from a prompt with images of several new sizes, nothing.

        Raises:
            RequestRefused: `expanded` is no expansion of the prompt.
        """
        unknown = {size for size in sizes if size not in self._image_tokens}
        if len(unknown) != 1:
            return
        known = [self._image_tokens[size] for size in sizes if size in self._image_tokens]
        # Known placeholders grew by what is known; the rest grew by what is sought, all alike.
        grown = len(expanded) - len(unexpanded) - sum(known) + len(known)
        added, uneven = divmod(grown, len(sizes) - len(known))
        counts = [self._image_tokens.get(size, added + 1) for size in sizes]
        if uneven or added < 0 or not np.array_equal(self._repeat(unexpanded, counts), expanded):
            raise RequestRefused(
                f"A prompt of {len(unexpanded)} tokens with {len(sizes)} image(s) came back as {len(expanded)} "
                "tokens that do not repeat its placeholders.",
                "let workers and servers read the same model folder",
            )
        self._image_tokens[unknown.pop()] = added + 1

    def expand(self, token_ids: Sequence[int], sizes: Sequence[ImageSize]) -> np.ndarray:
        """The prompt as the model sees it, int32 [P]: every placeholder repeated once per image patch.

        Raises:
            RequestRefused: No image of one of these sizes has been seen yet.
        """
        unknown = [s for s in sizes if s not in self._image_tokens]
        if unknown:
            raise RequestRefused(
                f"How many tokens an image of {unknown[0][0]}x{unknown[0][1]} pixels takes is not known yet.",
                "sample a state with a frame of that size first, or pass image_tokens to the PromptEncoder",
            )
        return self._repeat(token_ids, [self._image_tokens[s] for s in sizes])

    def _repeat(self, token_ids: Sequence[int], counts: list[int]) -> np.ndarray:
        ids = np.asarray(token_ids, dtype=np.int32)
        repeats = np.ones(len(ids), dtype=np.int64)
        if counts:
            repeats[ids == self.image_token_id] = counts
        return np.repeat(ids, repeats)

    def _encode(self, text: str, num_images: int) -> tuple[int, ...]:
        content: list[dict[str, str]] = [{"type": "image"} for _ in range(num_images)]
        content.append({"type": "text", "text": text})
        rendered: str = self._template.render(
            messages=[{"role": "user", "content": content}], add_generation_prompt=True, **self._special_tokens
        )
        # As the model's processor does it: the tokenizer adds bos, if it has one and the template did not.
        bos = self._special_tokens.get("bos_token")
        begun = bos is not None and rendered.startswith(bos)
        ids = tuple(self.tokenizer.encode(rendered, add_special_tokens=not begun).ids)
        placeholders = ids.count(self.image_token_id) if self.image_token_id is not None else 0
        if placeholders != num_images:
            raise RequestRefused(
                f"The prompt holds {placeholders} image placeholder(s) (token id {self.image_token_id}) "
                f"for {num_images} image(s).",
                "use a model whose chat template writes one image token per image, and no such token in texts",
            )
        return ids


def _special_tokens(folder: Path) -> dict[str, str]:
    """Tokens such as bos and eos that chat templates refer to by name."""
    config: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    values = {name: config.get(name) for name in names}
    return {k: v["content"] if isinstance(v, dict) else v for k, v in values.items() if v}


def _chat_template(folder: Path) -> Any:
    """Compile the folder's chat template as transformers does: sandboxed, blocks trimmed."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = _raise_template_error
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment.from_string(_template_source(folder))


def _template_source(folder: Path) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = folder / name
        source = json.loads(path.read_text(encoding="utf-8")).get("chat_template") if path.is_file() else None
        if source:
            return source
    raise ModelFolderError(
        f"Model folder {folder} has no chat template.",
        "add chat_template.jinja; a template that prints the image token and the text is enough",
    )


def _raise_template_error(message: str) -> None:
    raise RequestRefused(f"The chat template refused the conversation: {message}")
