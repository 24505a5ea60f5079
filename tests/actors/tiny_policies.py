"""A tiny model, loud random adapters for it, and an oracle that scores with transformers and PEFT alone."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save
from transformers import AutoModelForImageTextToText, AutoProcessor

from actors.sampler import SampleRequest, SamplingParams
from actors.vocabulary import Vocabulary
from protocol.adapter import AdapterManifest, AdapterPackage, Canary, adapter_digest

PROMPT = "Move the current number to the target number. Answer in JSON."
RESPONSE = '{"current number": "1", "target number": "4", "thoughts": "1 < 4", "action": "+"}'
LANGUAGE_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def png(seed: int, size: int = 84) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def prompt_ids(vocabulary: Vocabulary) -> list[int]:
    assert vocabulary.image_token_id is not None
    return [vocabulary.image_token_id, *vocabulary.encode(PROMPT)]


def request(vocabulary: Vocabulary, image_seed: int = 0, version: int = -1, **changes: Any) -> SampleRequest:
    image = png(image_seed)
    fields: dict[str, Any] = {
        "prompt_token_ids": prompt_ids(vocabulary),
        "images": (image,),
        "image_digests": (hashlib.sha256(image).digest(),),
        "params": SamplingParams(temperature=1.0, max_tokens=24),
        "policy_version": version,
        "seed": None,
    }
    return SampleRequest(**(fields | changes))


class Oracle:
    """One base model with any number of adapters, scored one row at a time without padding or cache."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.folder = folder
        self.vocabulary = Vocabulary.from_folder(folder)
        self._processor: Any = AutoProcessor.from_pretrained(folder)
        picture = Image.open(io.BytesIO(png(0)))
        self._tokens = len(self._processor(text=[self._processor.image_token], images=[picture])["input_ids"][0])
        self._model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()

    def package(
        self, version: int, *, seed: int, scale: float = 0.1, targets: Any = None, canaries: int = 1
    ) -> AdapterPackage:
        """A random adapter, published as `version` with canaries that this oracle scored."""
        self._add_adapter(f"seed{seed}", seed, scale, targets or ".*language_model.*_proj")
        config = self._model.peft_config[f"seed{seed}"]
        tensors = get_peft_model_state_dict(self._model, adapter_name=f"seed{seed}")
        weights = pa.py_buffer(save({name: _stored(value) for name, value in tensors.items()}))
        settings = config.to_dict() | {"inference_mode": True}
        config_bytes = json.dumps(settings, default=lambda v: sorted(v) if isinstance(v, set) else str(v)).encode()
        manifest = AdapterManifest(
            version, adapter_digest(weights, config_bytes), config.r, config.lora_alpha, (), weights.size
        )
        return AdapterPackage(
            manifest, weights, config_bytes, tuple(self.canary(seed, image) for image in range(canaries))
        )

    def canary(self, seed: int, image_seed: int = 0) -> Canary:
        response = self.vocabulary.encode(RESPONSE)
        ids, image = prompt_ids(self.vocabulary), png(image_seed)
        scores = [self.score(ids, [image], response, adapter) for adapter in (seed, None)]
        return Canary(ids, (image,), response, log_probs=scores[0], base_log_probs=scores[1])

    @torch.no_grad()
    def logits(
        self, ids: Sequence[int], images: Sequence[bytes], response: Sequence[int], seed: int | None
    ) -> torch.Tensor:
        """[T, V]: what the model says at each position of the response; at least float32."""
        decoded = [Image.open(io.BytesIO(image)).convert("RGB") for image in images]
        pixels = self._processor.image_processor(decoded, return_tensors="pt")
        expanded = self.expand(ids)
        tokens = torch.tensor([[*expanded, *response]])
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **pixels}
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        if "image_grid_thw" in pixels:
            inputs["mm_token_type_ids"] = (tokens == self.vocabulary.image_token_id).int()
        if not isinstance(self._model, PeftModel):
            out = self._model(**inputs)
        elif seed is None:
            with self._model.disable_adapter():
                out = self._model(**inputs)
        else:
            self._model.set_adapter(f"seed{seed}")
            out = self._model(**inputs)
        logits = out.logits[0, len(expanded) - 1 : -1]
        return logits.float() if logits.dtype == torch.bfloat16 else logits

    def score(
        self, ids: Sequence[int], images: Sequence[bytes], response: Sequence[int], seed: int | None
    ) -> np.ndarray:
        """float32 [T] log-probs at temperature 1, nothing banned."""
        log_probs = self.logits(ids, images, response, seed).log_softmax(-1)
        return log_probs.gather(1, torch.tensor(response)[:, None])[:, 0].float().numpy()

    def sampled_log_probs(self, asked: SampleRequest, token_ids: np.ndarray, seed: int | None) -> np.ndarray:
        """float32 [T] of sampled ids: bans at -inf, divided by the temperature."""
        response = token_ids.tolist()
        logits = self.logits(asked.prompt_token_ids, asked.images, response, seed)
        logits[:, list(self.vocabulary.banned_token_ids)] = -torch.inf
        log_probs = (logits / (asked.params.temperature or 1.0)).log_softmax(-1)
        return log_probs.gather(1, torch.tensor(response)[:, None])[:, 0].float().numpy()

    def expand(self, ids: Sequence[int]) -> list[int]:
        """Ids with each placeholder as often as the processor writes it for a picture of `png`."""
        return [i for t in ids for i in [t] * (self._tokens if t == self.vocabulary.image_token_id else 1)]

    def _add_adapter(self, name: str, seed: int, scale: float, targets: Any) -> None:
        if isinstance(self._model, PeftModel) and name in self._model.peft_config:
            return
        config = LoraConfig(r=8, lora_alpha=16, target_modules=targets, bias="none")
        if isinstance(self._model, PeftModel):
            self._model.add_adapter(name, config, autocast_adapter_dtype=False)
        else:
            self._model = get_peft_model(self._model, config, adapter_name=name, autocast_adapter_dtype=False)
        generator = torch.Generator().manual_seed(seed)
        for key, value in self._model.named_parameters():
            if f".{name}." in key:
                value.data = (torch.randn(value.shape, generator=generator) * scale).to(value.dtype)
        self._model.eval()


def _stored(value: torch.Tensor) -> torch.Tensor:
    """Servers hold nothing wider than float32; the values are float32 to begin with."""
    return value.detach().to(torch.float32 if value.dtype == torch.float64 else value.dtype).contiguous()
