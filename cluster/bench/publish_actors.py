"""Learner and servers of the `publish` benchmark as Ray actors: real ones, and stubs for adapters without a model.

All of them read the clock of the machine they share, which is the same for all of its processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from actors.config import ServerConfig
from actors.policy_server import PolicyServer
from actors.sampler import SampleRequest, SamplingParams
from cluster.bench.publish_stream import Span, StreamedEngine, gaps_in
from protocol.adapter import Acknowledgement, AdapterManifest, AdapterPackage, CanaryPrompt
from protocol.trajectory import digest_of

TRANSFORMERS, VLLM, STUB = "transformers", "vLLM", "stub"
"""Engines."""

STEP_SIZE = 0.02
"""Standard deviation of what stands for an optimizer step."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What the learner did."""

    manifest: AdapterManifest
    span: Span


@dataclass(frozen=True, slots=True)
class Word:
    """What a server did."""

    acknowledgement: Acknowledgement
    span: Span
    """From having the package in its hands to its word."""


class BenchLearner:
    """A policy over a real model; stands for the learner."""

    def start(self, model: str, canaries: Sequence[CanaryPrompt]) -> None:
        """Load the model and put an adapter on it."""
        from learner.backbone import Backbone
        from learner.config import ComputeConfig, LoraConfig
        from learner.policy import Policy

        self._model, self._canaries = model, canaries
        self._policy = Policy(
            Backbone.load(model, ComputeConfig(device="cpu", threads=1)),
            LoraConfig(),
            value_hidden_sizes=(16,),
            value_gradient_to_backbone=False,
            banned_token_ids=(),
            seed=0,
        )

    def step(self, policy_version: int) -> None:
        """Move the adapter, as an optimizer step would."""
        import torch

        draw = torch.Generator().manual_seed(policy_version)
        for parameter in self._policy.adapter_parameters().values():
            parameter.data += STEP_SIZE * torch.randn(parameter.shape, generator=draw)

    def export(self, policy_version: int) -> tuple[Exported, AdapterPackage]:
        """The adapter with its canaries scored; what the driver is told comes apart."""
        from learner.adapter_export import build_package

        began_s = time.monotonic()
        package = build_package(self._policy, self._model, policy_version, self._canaries)
        return Exported(package.manifest, Span(began_s, time.monotonic())), package


class StubLearner:
    """An adapter of a given size over no model."""

    def start(self, nbytes: int) -> None:
        """Make the tensors."""
        from cluster.bench.publish_stub import stub_tensors

        self._tensors = stub_tensors(nbytes)

    def step(self, policy_version: int) -> None:
        """Give the next package another digest."""
        next(iter(self._tensors.values())).fill_(float(policy_version))

    def export(self, policy_version: int) -> tuple[Exported, AdapterPackage]:
        """See `BenchLearner.export`; no canary is scored."""
        from cluster.bench.publish_stub import stub_package

        began_s = time.monotonic()
        package = stub_package(self._tensors, policy_version)
        return Exported(package.manifest, Span(began_s, time.monotonic())), package

    def tiny(self, policy_version: int) -> AdapterPackage:
        """Next to nothing, to replace a large adapter with."""
        from cluster.bench.publish_stub import stub_package, stub_tensors

        return stub_package(stub_tensors(0), policy_version)


class BenchServer:
    """A `PolicyServer` with one of the engines, publishing by the clock."""

    def __init__(self, model: str, config: ServerConfig, server_id: str, engine: str) -> None:
        self._config = config
        self._streamed: StreamedEngine | None = None
        self._talks: list[asyncio.Task[None]] = []
        self._version = 0
        self._server = self._build(model, server_id, engine)

    def _build(self, model: str, server_id: str, engine: str) -> PolicyServer:
        if engine == TRANSFORMERS:
            from actors.transformers_server import TransformersServer

            return TransformersServer(model, self._config, server_id)
        if engine == STUB:
            from cluster.bench.publish_stub import StubEngine

            return PolicyServer(model, self._config, server_id, lambda vocabulary: StubEngine())
        return PolicyServer(
            model, self._config, server_id, lambda v: self._stream(StreamedEngine(model, self._config, v))
        )

    def _stream(self, engine: StreamedEngine) -> StreamedEngine:
        engine.streams = []
        self._streamed = engine
        return engine

    async def start(self) -> str:
        """Name and version of the engine, once it is up."""
        return (await self._server.start()).engine_version

    async def publish(self, package: AdapterPackage) -> Word:
        """Take a version into service."""
        began_s = time.monotonic()
        acknowledgement = await self._server.publish(package)
        self._version = acknowledgement.policy_version
        return Word(acknowledgement, Span(began_s, time.monotonic()))

    async def retire(self, policy_version: int) -> None:
        """Take a version out of service, once nobody uses it."""
        await self._server.retire(policy_version)

    async def talk(self, prompt: CanaryPrompt, streams: int, max_tokens: int) -> None:
        """From now on draw long responses, so many side by side and without end, under the newest version."""
        params = SamplingParams(temperature=1.0, max_tokens=max_tokens, stop=())
        digests = tuple(map(digest_of, prompt.images))

        async def go_on() -> None:
            while True:
                await self._server.sample(
                    SampleRequest(prompt.prompt_token_ids, prompt.images, digests, params, self._version)
                )

        self._talks = [asyncio.create_task(go_on()) for _ in range(streams)]

    async def gaps(self, spans: Sequence[Span]) -> list[list[float]]:
        """Seconds between neighbouring tokens of one request, of those that reach into each span.

        Raises:
            Exception: what ended one of the streams.
        """
        for talk in self._talks:
            if talk.done():
                talk.result()
        assert self._streamed is not None, "only vLLM hands over its tokens one by one"
        return [gaps_in(span, self._streamed.streams) for span in spans]

    async def stop(self) -> None:
        """End the engine."""
        for talk in self._talks:
            talk.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await talk
        await self._server.stop()
