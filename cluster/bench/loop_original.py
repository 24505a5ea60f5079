"""The original's loop, rebuilt: one environment at a time, one response at a time, one row at a time.

Its shape and none of its defects: sample with the framework's `generate` at batch 1, score the same response again in a
second pass, step the one environment; then update with mini-batches of one row (rl4vlm: `num_mini_batch 1` row,
gradients accumulated). Same model, same rules, same losses as everywhere here.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from actors.prompting import PromptEncoder
from actors.sampler import Sample, SampleRequest
from actors.vocabulary import Vocabulary
from actors.worker import RolloutWorker
from cluster.bench.learner_cases import World
from cluster.bench.learner_plain import PlainPPO
from cluster.config.env import EnvConfig
from cluster.stages.model import env_maker, image_sizes
from learner.config import LearnerConfig
from learner.rows import gather_rows
from learner.tiny.config import TinyVLMConfig
from protocol.trajectory import NO_DIGEST


@dataclass(frozen=True, slots=True)
class Shares:
    """What a number of environment steps took."""

    steps: int
    tokens: int
    """Sampled."""
    sample_s: float
    update_s: float

    @property
    def took_s(self) -> float:
        """From the first prompt to the end of the update."""
        return self.sample_s + self.update_s


class BatchOfOne:
    """A `Sampler` over `generate`; requests wait for each other.

    Args:
        plain: Model, processor and device.
        vocabulary: Of the model.
        image_tokens: Tokens that one picture takes.
    """

    def __init__(self, plain: PlainPPO, vocabulary: Vocabulary, image_tokens: int) -> None:
        self._model: Any = plain.model
        self._processor = plain.processor
        self._vocabulary = vocabulary
        self._image_tokens = image_tokens
        self._stops = list(vocabulary.stop_token_ids(("}",)))

    async def sample(self, request: SampleRequest) -> Sample:
        """See `Sampler.sample`."""
        began = time.monotonic()
        inputs = self._inputs(request)
        with torch.no_grad():
            ids = self._model.generate(
                **inputs,
                do_sample=True,
                temperature=request.params.temperature,
                top_k=0,
                max_new_tokens=request.params.max_tokens,
                suppress_tokens=list(self._vocabulary.banned_token_ids),
                eos_token_id=self._stops,
            )[0, inputs["input_ids"].shape[1] :]
            log_probs = self._score(inputs, ids, request.params.temperature)
        return Sample(
            prompt_token_ids=inputs["input_ids"][0].numpy().astype(np.int32),
            token_ids=ids.numpy().astype(np.int32),
            log_probs=log_probs.numpy(),
            text=self._vocabulary.decode(ids.tolist()),
            policy_version=request.policy_version,
            adapter_digest=NO_DIGEST,
            finish_reason="stop" if int(ids[-1]) in self._stops else "length",
            sample_s=time.monotonic() - began,
        )

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """One after the other."""
        return [await self.sample(request) for request in requests]

    def _inputs(self, request: SampleRequest) -> dict[str, torch.Tensor]:
        image_id = self._vocabulary.image_token_id
        ids = [
            one
            for token in request.prompt_token_ids
            for one in ([token] * (self._image_tokens if token == image_id else 1))
        ]
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in request.images]
        pixels = self._processor.image_processor(images=images, return_tensors="pt")
        prompt = torch.tensor([ids])
        return {
            "input_ids": prompt,
            "attention_mask": torch.ones_like(prompt),
            "mm_token_type_ids": (prompt == image_id).int(),
            **pixels,
        }

    def _score(self, inputs: dict[str, torch.Tensor], response: torch.Tensor, temperature: float) -> torch.Tensor:
        """Log-probs of a response by a pass of its own, float32 [T]."""
        ids = torch.cat([inputs["input_ids"][0], response])[None]
        whole = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == self._vocabulary.image_token_id).int(),
        }
        logits = self._model(**inputs | whole, use_cache=False).logits[0, -len(response) - 1 : -1].float()
        logits[:, list(self._vocabulary.banned_token_ids)] = -torch.inf
        return (logits / temperature).log_softmax(-1).gather(-1, response[:, None])[:, 0]


def original_loop(world: World, env: EnvConfig, settings: LearnerConfig, steps: int, max_tokens: int) -> Shares:
    """Take `steps` environment steps as the original does, and one update of them.

    Args:
        world: the model; its rows are not used.
        env: what is played.
        settings: of the update, whose mini-batches are made one row large.
        steps: environment steps.
        max_tokens: longest response, in tokens.
    """
    one_by_one = settings.ppo.model_copy(update={"minibatch_size": 1})
    plain = PlainPPO(world, settings.model_copy(update={"ppo": one_by_one}))
    sizes = dict.fromkeys(image_sizes(env), TinyVLMConfig().image_tokens)
    worker = RolloutWorker(
        run_id="original",
        worker_id="worker-0",
        make_env=env_maker(env),
        encoder=PromptEncoder(str(world.folder), sizes),
        sampler=BatchOfOne(plain, Vocabulary.from_folder(world.folder), TinyVLMConfig().image_tokens),
        slots=1,
        max_tokens=max_tokens,
        seed=0,
        sample_deadline_s=600.0,
    )
    began = time.perf_counter()
    batch, report = asyncio.run(worker.collect(steps, 0, 1.0))
    sampled = time.perf_counter()
    plain.update(gather_rows([batch]), torch.Generator().manual_seed(0))
    worker.close()
    return Shares(steps, report.sampled_tokens, sampled - began, time.perf_counter() - sampled)
