"""A model folder with a hand-made vocabulary and no model: enough for everything that does not compute."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from actors.sampler import SampleRequest, SamplingParams

EOS, PAD, BEGIN, IMAGE = 0, 1, 2, 3
SPECIAL = ["<eos>", "<pad>", "<begin>", "<image>"]
PLAIN = ['"', "}", '"}', "{", "a", "b", "c", "1", "<0x7D>"]
SIZE = len(SPECIAL) + len(PLAIN)
PADDED_ROWS = 16


def write_toy_folder(folder: Path, config: dict[str, Any] | None = None, names: dict[str, Any] | None = None) -> Path:
    vocab = {token: SPECIAL.index(token) for token in SPECIAL}
    vocab |= {token: len(SPECIAL) + place for place, token in enumerate(PLAIN)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[('"', "}")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("x", "isolated")  # type: ignore[assignment]
    tokenizer.decoder = decoders.Fuse()  # type: ignore[assignment]
    # The placeholder is not marked special, as in some published tokenizers.
    tokenizer.add_special_tokens(SPECIAL[:3])
    tokenizer.add_tokens(SPECIAL[3:])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    base: dict[str, Any] = {"image_token_id": IMAGE, "text_config": {"vocab_size": PADDED_ROWS}}
    (folder / "config.json").write_text(json.dumps(base | (config or {})))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eos>"} | (names or {})))
    return folder


def png_bytes(color: str = "red", size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), color).save(buffer, "PNG")
    return buffer.getvalue()


def toy_request(**changes: Any) -> SampleRequest:
    image = png_bytes()
    fields: dict[str, Any] = {
        "prompt_token_ids": [IMAGE, 8, 9],
        "images": (image,),
        "image_digests": (hashlib.sha256(image).digest(),),
        "params": SamplingParams(temperature=1.0, max_tokens=4),
        "policy_version": -1,
        "seed": None,
    }
    return SampleRequest(**(fields | changes))
