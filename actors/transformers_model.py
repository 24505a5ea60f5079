"""A transformers model that draws and scores batches under PEFT adapters. Imports torch; loaded by the engine alone."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from actors.config import ServerConfig
from actors.engine import AdapterHandle, Completion, Draw, Prompt
from actors.vocabulary import Vocabulary
from protocol.errors import RequestRefused


@dataclass(frozen=True, slots=True)
class _Inputs:
    """A left-padded batch and where each row's prompt ends."""

    tensors: dict[str, torch.Tensor]
    prompts: list[list[int]]


class TransformersModel:
    """Base model, adapters by version, and the arithmetic of drawing and scoring. Not for two threads at once.

    Args:
        folder: Local model folder.
        config: For dtype, device, seed and lengths.
        vocabulary: For banned, image and end ids.
    """

    def __init__(self, folder: str, config: ServerConfig, vocabulary: Vocabulary) -> None:
        cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
        self._device = torch.device("cuda" if cuda else "cpu")
        self._config = config
        self._vocabulary = vocabulary
        self._sees_images = vocabulary.image_token_id is not None
        auto = AutoModelForImageTextToText if self._sees_images else AutoModelForCausalLM
        dtype = getattr(torch, config.dtype)
        model: Any = auto.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self._model: Any = model.to(self._device).eval()
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True) if self._sees_images else None
        self._wants_token_types = "mm_token_type_ids" in inspect.signature(self._model.forward).parameters
        self._generator = torch.Generator().manual_seed(config.seed)

    def load_adapter(self, adapter: AdapterHandle) -> None:
        """Adds an adapter; one that is still there from a refused attempt holds the same bytes."""
        if not isinstance(self._model, PeftModel):
            self._model = PeftModel.from_pretrained(
                self._model, str(adapter.path), adapter_name=adapter.name, autocast_adapter_dtype=False
            ).eval()
        elif adapter.name not in self._model.peft_config:
            self._model.load_adapter(str(adapter.path), adapter.name, autocast_adapter_dtype=False)

    def unload_adapter(self, adapter: AdapterHandle) -> None:
        """Drops an adapter, but never the last one: PEFT's wrapper does not work empty."""
        if not isinstance(self._model, PeftModel):
            return
        others = [name for name in self._model.peft_config if name != adapter.name]
        if others and adapter.name in self._model.peft_config:
            self._model.set_adapter(others[0])
            self._model.delete_adapter(adapter.name)

    def leave_device(self) -> None:
        """Moves base and adapters to host memory."""
        self._model.to("cpu")
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def return_to_device(self) -> None:
        """Moves base and adapters back, bit for bit."""
        self._model.to(self._device)

    @torch.inference_mode()
    def draw(self, draws: Sequence[Draw], adapter: AdapterHandle | None) -> list[Completion]:
        """Draws one completion per row, all under one adapter."""
        inputs = self._inputs([draw.prompt for draw in draws])
        room = [self._config.max_model_len - len(prompt) for prompt in inputs.prompts]
        limits = [min(draw.max_tokens, left) for draw, left in zip(draws, room, strict=True)]
        picker = _Picker(draws, self._vocabulary.banned_token_ids, self._generator)
        with self._active(adapter):
            self._model.generate(
                **inputs.tensors,
                do_sample=False,
                max_new_tokens=max(limits),
                # Every row stops by its own criterion; no id ends all rows.
                eos_token_id=None,
                pad_token_id=self._vocabulary.eos_token_id,
                logits_processor=LogitsProcessorList([picker]),
                stopping_criteria=StoppingCriteriaList([_RowStops(picker, draws, limits)]),
            )
        return [
            picker.completion(row, prompt, limits[row], draws[row].stop_token_ids)
            for row, prompt in enumerate(inputs.prompts)
        ]

    @torch.inference_mode()
    def score(self, prompt: Prompt, response: list[int], adapter: AdapterHandle | None) -> np.ndarray:
        """Log-probs float32 [T] of the response at temperature 1, nothing banned."""
        whole = Prompt([*prompt.token_ids, *response], prompt.images, prompt.digests)
        inputs = self._inputs([whole])
        with self._active(adapter):
            logits = self._model(**inputs.tensors, use_cache=False).logits[0]
        log_probs = torch.log_softmax(logits[-len(response) - 1 : -1].float(), dim=-1)
        chosen = torch.tensor(response, device=log_probs.device)[:, None]
        return log_probs.gather(1, chosen)[:, 0].cpu().numpy()

    @contextlib.contextmanager
    def _active(self, adapter: AdapterHandle | None) -> Iterator[None]:
        if not isinstance(self._model, PeftModel):
            yield
        elif adapter is None:
            with self._model.disable_adapter():
                yield
        else:
            self._model.set_adapter(adapter.name)
            yield

    def _inputs(self, prompts: Sequence[Prompt]) -> _Inputs:
        counts, pixels = self._image_inputs(prompts)
        expanded = [self._expand(prompt, count) for prompt, count in zip(prompts, counts, strict=True)]
        longest = max(map(len, expanded))
        if longest >= self._config.max_model_len:
            raise RequestRefused(
                f"a prompt has {longest} tokens with its images, max_model_len is {self._config.max_model_len}.",
                "raise max_model_len in the server configuration",
            )
        pad = self._vocabulary.eos_token_id
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in expanded])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in expanded])
        tensors = {"input_ids": ids, "attention_mask": mask, **pixels}
        if self._wants_token_types:
            # Without it Qwen2.5-VL runs on with wrong positions and no complaint.
            tensors["mm_token_type_ids"] = (ids == self._vocabulary.image_token_id).int()
        return _Inputs({name: tensor.to(self._device) for name, tensor in tensors.items()}, expanded)

    def _image_inputs(self, prompts: Sequence[Prompt]) -> tuple[list[list[int]], dict[str, torch.Tensor]]:
        """Tokens per image and prompt, and the model's image tensors for the whole batch."""
        images = [image for prompt in prompts for image in prompt.images]
        if not images or self._processor is None:
            return [[] for _ in prompts], {}
        # The processor itself says how many tokens an image takes: one line of text per image, then count.
        out = self._processor(
            text=[self._processor.image_token] * len(images), images=images, padding=True, return_tensors="pt"
        )
        per_image = (out["input_ids"] == self._vocabulary.image_token_id).sum(dim=1).tolist()
        counts, start = [], 0
        for prompt in prompts:
            counts.append(per_image[start : start + len(prompt.images)])
            start += len(prompt.images)
        text_keys = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
        pixels = {name: value for name, value in out.items() if name not in text_keys}
        dtype = self._model.dtype
        return counts, {n: v.to(dtype) if v.is_floating_point() else v for n, v in pixels.items()}

    def _expand(self, prompt: Prompt, counts: Sequence[int]) -> list[int]:
        remaining = iter(counts)
        expanded: list[int] = []
        for token_id in prompt.token_ids:
            is_image = token_id == self._vocabulary.image_token_id
            expanded += [token_id] * (next(remaining) if is_image else 1)
        return expanded


class _Picker(LogitsProcessor):
    """Draws each row's next token itself and leaves generate() only that one to take.

    So bans, temperature, seeds and log-probs are computed in one place, on the logits the model gave.
    """

    def __init__(self, draws: Sequence[Draw], banned: Sequence[int], shared: torch.Generator) -> None:
        self._banned = list(banned)
        self._greedy = torch.tensor([draw.temperature == 0 for draw in draws])
        # Greedy rows report the distribution at temperature 1.
        self._temperatures = torch.tensor([[draw.temperature or 1.0] for draw in draws])
        self._generators = [shared if draw.seed is None else torch.Generator().manual_seed(draw.seed) for draw in draws]
        self.token_ids: list[list[int]] = [[] for _ in draws]
        self._log_probs: list[list[float]] = [[] for _ in draws]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        logits = scores.float().cpu()
        logits[:, self._banned] = -torch.inf
        log_probs = torch.log_softmax(logits / self._temperatures, dim=-1)
        picked = torch.where(self._greedy, log_probs.argmax(dim=-1), self._sampled(log_probs))
        for row, token_id in enumerate(picked.tolist()):
            self.token_ids[row].append(token_id)
            self._log_probs[row].append(float(log_probs[row, token_id]))
        only = torch.full_like(scores, -torch.inf)
        only.scatter_(1, picked[:, None].to(scores.device), 0.0)
        return only  # type: ignore[return-value]

    def _sampled(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Inverse of the cumulative distribution, one uniform number per row from the row's own generator."""
        uniform = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in self._generators])
        cumulative = log_probs.double().exp().cumsum(dim=-1)
        # An id of probability 0 never is the first whose cumulative value exceeds the threshold.
        return (cumulative <= (uniform * cumulative[:, -1])[:, None]).sum(dim=-1)

    def completion(self, row: int, prompt: list[int], limit: int, stop_token_ids: tuple[int, ...]) -> Completion:
        """A row's completion: rows that ended go on being drawn until the last one ends, so it is cut here."""
        drawn = self.token_ids[row][:limit]
        ends = [position for position, token_id in enumerate(drawn) if token_id in stop_token_ids]
        kept = drawn[: ends[0] + 1] if ends else drawn
        return Completion(
            prompt_token_ids=np.asarray(prompt, dtype=np.int32),
            token_ids=np.asarray(kept, dtype=np.int32),
            log_probs=np.asarray(self._log_probs[row][: len(kept)], dtype=np.float32),
            finish_reason="stop" if ends else "length",
        )


class _RowStops(StoppingCriteria):
    """Ends a row at its own stop ids or length."""

    def __init__(self, picker: _Picker, draws: Sequence[Draw], limits: Sequence[int]) -> None:
        self._picker = picker
        self._stops = [frozenset(draw.stop_token_ids) for draw in draws]
        self._limits = limits
        self._done = [False] * len(draws)

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        for row, drawn in enumerate(self._picker.token_ids):
            if drawn[-1] in self._stops[row] or len(drawn) >= self._limits[row]:
                self._done[row] = True
        return torch.tensor(self._done, device=input_ids.device)  # type: ignore[return-value]
