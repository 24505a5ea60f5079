"""A vLLM server with its engine in the open: what tests need that call vLLM beside the server, and its mistakes."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from actors.config import ServerConfig
from actors.engine import AdapterHandle
from actors.policy_server import _Parts
from actors.sampler import Sample, SampleRequest, SamplingParams
from actors.vllm_engine import VLLMEngine
from actors.vllm_requests import completion, engine_prompt, sampling_params
from actors.vllm_server import VLLMServer
from protocol.adapter import AdapterPackage
from tests.actors.tiny_policies import PROMPT, Oracle, prompt_ids, request

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

CONFIG = ServerConfig(max_model_len=1024, max_num_seqs=16, adapter_slots=5, kv_cache_bytes=32 << 20)
ANSWER = SamplingParams(temperature=1.0, max_tokens=16, stop=())
NAIVE = 901
"""First number of adapters that do not come through the server."""


def naming(name: str, number: int, folder: Path, *, load_inplace: bool = False) -> LoRARequest:
    from vllm.lora.request import LoRARequest

    return LoRARequest(name, number, str(folder), load_inplace=load_inplace)


def write(folder: Path, package: AdapterPackage) -> Path:
    """Puts an adapter's files there, over those of another one; whoever reads meanwhile finds the one or the other."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_bytes(package.config)
    (folder / "draft").write_bytes(memoryview(package.weights))
    os.replace(folder / "draft", folder / "adapter_model.safetensors")
    return folder


class Bench:
    """A server with its engine in the open, and the oracle. Adapters are known by the seeds that made them."""

    def __init__(self, folder: Path, oracle: Oracle, vision: bool) -> None:
        config = CONFIG.model_copy(update={"vision_adapters": vision})
        self.vision = vision
        self.oracle = oracle
        self.vocabulary = oracle.vocabulary
        self.server = VLLMServer(folder, config, f"vllm-traps-{vision}")
        self._versions = itertools.count()
        self._requests = itertools.count()

    @property
    def parts(self) -> _Parts:
        assert self.server._running is not None
        return self.server._running

    @property
    def engine(self) -> VLLMEngine:
        engine = self.parts.host.engine
        assert isinstance(engine, VLLMEngine)
        return engine

    @property
    def llm(self) -> AsyncLLM:
        assert self.engine._llm is not None
        return self.engine._llm

    def package(self, seed: int, version: int = 0, targets: str | None = None) -> AdapterPackage:
        return self.oracle.package(version, seed=seed, targets=targets)

    async def publish(self, *seeds: int, targets: str | None = None) -> list[int]:
        """Publishes an adapter per seed and retires whatever was there before."""
        versions = [self.new_version() for _ in seeds]
        before = (await self.server.status())["live_versions"]
        for version, seed in zip(versions, seeds, strict=True):
            await self.server.publish(self.package(seed, version, targets))
        for version in before:
            await self.server.retire(version)
        return versions

    def new_version(self) -> int:
        return next(self._versions)

    async def forget_naive(self) -> None:
        """Takes out what did not come through the server, and the embeddings that it left behind."""
        for number in await self.llm.list_loras():
            if number >= NAIVE:
                await self.llm.remove_lora(number)
        await self.llm.reset_encoder_cache()

    def handle(self, version: int) -> AdapterHandle:
        with self.server._slots.lease(version) as handle:
            return handle

    def asked(self, version: int = -1, words: str = "", params: SamplingParams = ANSWER, image: int = 0):
        """A request whose beginning fills blocks of the prefix cache: image, then words, then thrice the prompt."""
        ids = [*prompt_ids(self.vocabulary)[:1], *self.vocabulary.encode(words + PROMPT * 3)]
        return request(self.vocabulary, image, version, prompt_token_ids=ids, params=params, seed=0)

    async def draw(self, asked: SampleRequest, adapter: LoRARequest | None) -> RequestOutput:
        """What vLLM itself answers."""
        async with aclosing(self.stream(asked, adapter)) as outputs:
            return await anext(outputs)

    def stream(
        self, asked: SampleRequest, adapter: LoRARequest | None, **changes: Any
    ) -> AsyncGenerator[RequestOutput]:
        """vLLM's own answer as it comes, with other sampling parameters than the server's where there are changes."""
        draw = self.parts.intake.draw(asked, None)
        params = sampling_params(draw, self.engine._bans)
        for name, value in changes.items():
            setattr(params, name, value)
        number = f"trap-{next(self._requests)}"
        return self.llm.generate(engine_prompt(draw.prompt), params, number, lora_request=adapter)

    def error(self, asked: SampleRequest, answer: RequestOutput | Sample, seed: int | None) -> float:
        """Largest |answer - oracle under the adapter of the seed| over the answer's tokens."""
        drawn = answer if isinstance(answer, Sample) else completion(answer)
        return self.errors(asked, drawn.token_ids, drawn.log_probs, seed).max()

    def errors(self, asked: SampleRequest, token_ids: ArrayLike, log_probs: ArrayLike, seed: int | None) -> np.ndarray:
        return np.abs(np.asarray(log_probs) - self.oracle.sampled_log_probs(asked, np.asarray(token_ids), seed))


class Stream:
    """A request in flight whose tokens are seen as they come; it ends at its length alone."""

    def __init__(self, bench: Bench, asked: SampleRequest, adapter: LoRARequest) -> None:
        from vllm.sampling_params import RequestOutputKind

        self.token_ids: list[int] = []
        self.log_probs: list[float] = []
        self._news = asyncio.Event()
        outputs = bench.stream(asked, adapter, output_kind=RequestOutputKind.DELTA, stop_token_ids=[], ignore_eos=True)
        self.ended = asyncio.create_task(self._read(outputs))

    async def reach(self, tokens: int) -> None:
        async with asyncio.timeout(60):
            while len(self.token_ids) < tokens:
                assert not self.ended.done(), f"over after {len(self.token_ids)} tokens"
                self._news.clear()
                await self._news.wait()

    async def give_up(self) -> None:
        self.ended.cancel()
        await asyncio.wait([self.ended])

    async def _read(self, outputs: AsyncGenerator[RequestOutput]) -> str | None:
        reason = None
        async with aclosing(outputs):
            async for output in outputs:
                (news,) = output.outputs
                part = completion(output)
                self.token_ids += part.token_ids.tolist()
                self.log_probs += part.log_probs.tolist()
                reason = news.finish_reason
                self._news.set()
        return reason


class Benches:
    """One engine at a time: kept from test to test, replaced when it died or when the other kind is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._oracle = Oracle(folder, torch.float64)
        self._bench: Bench | None = None

    async def get(self, vision: bool) -> Bench:
        if self._bench is not None:
            alive = (await self._bench.server.status())["alive"]
            if alive and self._bench.vision == vision:
                return self._bench
            await self.close()
        self._bench = Bench(self._folder, self._oracle, vision)
        await self._bench.server.start()
        return self._bench

    async def close(self) -> None:
        if self._bench is not None:
            await self._bench.server.stop()
