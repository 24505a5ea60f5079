"""A model folder's vocabulary: which ids may be sampled, which end a response, what ids say as text.

Reads `config.json`, `tokenizer.json` and `tokenizer_config.json` alone, without torch or transformers, so that the
server, the driver and (by value) the learner agree on one list of banned ids.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from protocol.errors import ModelFolderError

_PLACEHOLDER_KEYS = (
    "image_token_id",
    "image_token_index",
    "video_token_id",
    "video_token_index",
    "vision_start_token_id",
    "vision_end_token_id",
    "vision_token_id",
)
_SPECIAL_NAME_KEYS = ("bos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token", "image_token")


def banned_token_ids(model_folder: str | Path) -> tuple[int, ...]:
    """Ids that must never be sampled, ascending: all special ids except end-of-sequence, and ids without a token.

    The latter are embedding rows beyond `len(tokenizer)` (padding of the matrix). Vision placeholders are banned
    even where the tokenizer does not mark them special: one of them in a response breaks the learner's forward pass.

    Raises:
        ModelFolderError: a file is missing or unreadable.
    """
    return Vocabulary.from_folder(model_folder).banned_token_ids


@dataclass(frozen=True)
class Vocabulary:
    """The facts about a model's token ids that sampling needs."""

    tokenizer: Tokenizer
    size: int
    """Highest known id + 1; `len(tokenizer)`."""
    embedding_rows: int
    """Width of the model's output, at least `size`."""
    eos_token_id: int
    image_token_id: int | None
    banned_token_ids: tuple[int, ...]

    @classmethod
    def from_folder(cls, model_folder: str | Path) -> Vocabulary:
        """Reads a Hugging Face model folder.

        Raises:
            ModelFolderError: a file is missing, unreadable, or names no end-of-sequence token.
        """
        folder = Path(model_folder)
        config = _read_json(folder / "config.json")
        tokenizer = _read_tokenizer(folder)
        token_ids = tokenizer.get_vocab(with_added_tokens=True)
        names = _read_json(folder / "tokenizer_config.json")
        eos = _eos_token_id(folder, names, config, token_ids)
        size = max(token_ids.values()) + 1
        rows = max(int(_text_value(config, "vocab_size") or 0), size)
        special = _special_ids(tokenizer, names, config, token_ids)
        unknown = set(range(rows)) - set(token_ids.values())
        image = config.get("image_token_id", config.get("image_token_index"))
        return cls(tokenizer, size, rows, eos, image, tuple(sorted((special | unknown) - {eos})))

    def stop_token_ids(self, characters: tuple[str, ...]) -> tuple[int, ...]:
        """End-of-sequence and every id that may be sampled and holds one of the ASCII characters, ascending."""
        if characters not in self._stops:
            holders = (self._ids_holding(character) for character in characters)
            self._stops[characters] = tuple(sorted({self.eos_token_id}.union(*holders)))
        return self._stops[characters]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of the ids, special tokens left out."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without special tokens around it."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _ids_holding(self, character: str) -> set[int]:
        # ASCII characters stand for themselves in byte-level and sentencepiece tokens alike; the latter may also
        # spell one as a raw byte, <0x7D>.
        raw_byte = f"<0x{ord(character):02X}>"
        tokens = self.tokenizer.get_vocab(with_added_tokens=True)
        holders = {token_id for token, token_id in tokens.items() if character in token or token == raw_byte}
        return holders.difference(self.banned_token_ids)

    @cached_property
    def _stops(self) -> dict[tuple[str, ...], tuple[int, ...]]:
        return {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFolderError(
            f"cannot read {path}: {error.strerror}.",
            "give a local Hugging Face model folder (config.json, tokenizer.json, *.safetensors)",
        ) from error
    except ValueError as error:
        raise ModelFolderError(f"{path} is not JSON: {error}.", "save or download the model again") from error


def _read_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelFolderError(
            f"{path} is missing.", "save the fast tokenizer into the model folder (tokenizer.save_pretrained)"
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises plain Exception
        raise ModelFolderError(f"{path} is not a tokenizer: {error}.", "save the tokenizer again") from error


def _special_ids(
    tokenizer: Tokenizer, names: dict[str, Any], config: dict[str, Any], token_ids: dict[str, int]
) -> set[int]:
    special = {token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    named = [_token_text(names.get(key)) for key in _SPECIAL_NAME_KEYS]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        extra = names.get(key) or []
        named.extend(_token_text(token) for token in (extra.values() if isinstance(extra, dict) else extra))
    special.update(token_ids[name] for name in named if name in token_ids)
    special.update(config[key] for key in _PLACEHOLDER_KEYS if isinstance(config.get(key), int))
    return special


def _eos_token_id(folder: Path, names: dict[str, Any], config: dict[str, Any], token_ids: dict[str, int]) -> int:
    """The tokenizer's own end token; the model's configuration only where the tokenizer names none."""
    name = _token_text(names.get("eos_token"))
    if name in token_ids:
        return token_ids[name]
    configured = _text_value(config, "eos_token_id")
    if isinstance(configured, list):
        configured = configured[0] if configured else None
    if not isinstance(configured, int):
        raise ModelFolderError(
            f"{folder} names no end-of-sequence token (eos_token in tokenizer_config.json is {name!r}).",
            "set eos_token in tokenizer_config.json",
        )
    return configured


def _text_value(config: dict[str, Any], key: str) -> Any:
    """A key of the language model, which multimodal configurations nest under `text_config`."""
    nested = config.get("text_config") or {}
    return nested.get(key) if nested.get(key) is not None else config.get(key)


def _token_text(token: Any) -> str:
    """Tokenizer files write a token as a string or as a table with `content`."""
    if isinstance(token, dict):
        return str(token.get("content", ""))
    return token or ""
