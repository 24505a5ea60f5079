"""The inference server around any engine. `VLLMServer` and `TransformersServer` are this class with their engine in it.

It runs in one asyncio loop and knows nothing of Ray; `cluster/` wraps it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from actors.adapter_folder import AdapterFolder
from actors.adapter_slots import AdapterSlots
from actors.config import ServerConfig
from actors.delays import PUBLISHING, UNTOLD, WAKING
from actors.engine import AdapterHandle, Completion, Engine
from actors.engine_host import EngineHost
from actors.intake import Intake
from actors.meter import BusyMeter
from actors.publisher import Publisher
from actors.sampler import Sample, SampleRequest, ServerInfo
from actors.vocabulary import Vocabulary
from protocol.adapter import Acknowledgement, AdapterPackage
from protocol.errors import AdapterRejected, ModelFolderError, RequestRefused, ServerDied, ServerStartError
from protocol.trajectory import BASE_POLICY_VERSION, NO_DIGEST


@dataclass(frozen=True, slots=True)
class _Parts:
    """What exists only while the server runs."""

    vocabulary: Vocabulary
    host: EngineHost
    folder: AdapterFolder
    intake: Intake
    publisher: Publisher
    alone: contextlib.AbstractAsyncContextManager


class PolicyServer:
    """An `InferenceServer` (see `actors.sampler`) around one engine.

    Args:
        model: Local Hugging Face model folder.
        config: The server's configuration.
        server_id: Name in acknowledgements, errors and status.
        make_engine: Builds the engine from the model's vocabulary; called once, in `start`.
        on_death: Called once with the cause when the engine dies, so that the process around it can end and be
            rebuilt. An engine that is stopped does not count as dead.
        adapter_root: Where adapter files live; None: in memory (see `AdapterFolder`).
        clock: Seconds that only ever grow.
    """

    def __init__(
        self,
        model: str | Path,
        config: ServerConfig,
        server_id: str,
        make_engine: Callable[[Vocabulary], Engine],
        on_death: Callable[[str], None] | None = None,
        adapter_root: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = str(model)
        self._config = config
        self._server_id = server_id
        self._make_engine = make_engine
        self._on_death = on_death
        self._adapter_root = adapter_root
        self._slots = AdapterSlots(config.adapter_slots)
        self._counters = {"samples": 0, "sampled_tokens": 0, "refused": 0, "published": 0, "rejected": 0}
        self._clock = clock
        self._meter = BusyMeter(clock)
        self._running: _Parts | None = None

    @property
    def in_flight(self) -> int:
        """Sample requests that were taken and are not answered yet."""
        return self._meter.in_flight

    async def start(self) -> ServerInfo:
        """Builds the engine and warms it up; see `InferenceServer.start`."""
        if self._running is not None:
            raise ServerStartError(f"server {self._server_id} was started before.", "build a new server object")
        began = time.monotonic()
        try:
            vocabulary = Vocabulary.from_folder(self._model)
        except ModelFolderError as error:
            raise ServerStartError(f"server {self._server_id}: {error.message}", error.cure) from error
        host = EngineHost(self._make_engine(vocabulary), self._server_id, self._on_death)
        parts = self._assemble(vocabulary, host)
        try:
            await host.start()
        except BaseException:
            parts.folder.close()
            raise
        self._running = parts
        self._meter.begin_serving()
        return self._describe(parts, time.monotonic() - began)

    async def stop(self) -> None:
        """Ends the engine and removes the adapters' files; see `InferenceServer.stop`."""
        if self._running is not None:
            await self._running.host.stop()
            self._running.folder.close()

    async def sample(self, request: SampleRequest) -> Sample:
        """Draws one completion; see `Sampler.sample`. In deterministic mode a batch of one."""
        if self._config.deterministic:
            return (await self.sample_batch([request]))[0]
        parts, began = self._parts(), self._clock()
        what = f"a completion under policy version {request.policy_version}"
        live = self._meter.live(delays=request.delays)
        with self._lease(request.policy_version) as adapter, self._counting_refusals(), live:
            draw = parts.intake.draw(request, adapter)
            async with parts.host.answering(what, self._config.request_timeout_s) as engine:
                completion = await engine.draw(draw)
        return self._sample(parts, adapter, completion, self._clock() - began)

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """Draws a completion per request, in order; see `InferenceServer.sample_batch`.

        In deterministic mode the batch has the engine to itself, and every request needs a seed or temperature 0.
        """
        if self._config.deterministic:
            return await self._sample_alone(requests)
        # All finish before the first error is raised: none is left running behind the caller's back.
        answers = await asyncio.gather(*map(self.sample, requests), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if isinstance(answer, Sample)]

    async def _sample_alone(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        parts, began = self._parts(), self._clock()
        what = f"a batch of {len(requests)} completions"
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._counting_refusals())
            stack.enter_context(self._meter.live(len(requests), requests[-1].delays if requests else UNTOLD))
            adapters = [stack.enter_context(self._lease(request.policy_version)) for request in requests]
            draws = [parts.intake.draw(r, adapter) for r, adapter in zip(requests, adapters, strict=True)]
            async with parts.alone, parts.host.answering(what, self._config.request_timeout_s) as engine:
                completions = await engine.draw_batch(draws)
        seconds = self._clock() - began
        return [
            self._sample(parts, adapter, completion, seconds)
            for adapter, completion in zip(adapters, completions, strict=True)
        ]

    async def score(
        self,
        prompt_token_ids: Sequence[int],
        images: Sequence[bytes],
        response_token_ids: Sequence[int],
        policy_version: int | None = None,
    ) -> np.ndarray:
        """Log-probs of a given response; see `InferenceServer.score`."""
        parts = self._parts()
        version = BASE_POLICY_VERSION if policy_version is None else policy_version
        what = f"a score under policy version {version}"
        with self._lease(version) as adapter, self._counting_refusals():
            prompt = parts.intake.prompt(prompt_token_ids, images)
            response = parts.intake.response(len(prompt_token_ids), response_token_ids)
            async with parts.alone, parts.host.answering(what, self._config.request_timeout_s) as engine:
                return await engine.score(prompt, response, adapter)

    async def publish(self, package: AdapterPackage) -> Acknowledgement:
        """Takes a policy version into service; see `InferenceServer.publish`."""
        self._parts().host.check_open("a policy version to be published")
        try:
            with self._meter.held_up(PUBLISHING):
                acknowledgement = await self._parts().publisher.publish(package)
        except AdapterRejected:
            self._counters["rejected"] += 1
            raise
        self._counters["published"] += 1
        return acknowledgement

    async def retire(self, policy_version: int) -> None:
        """Takes a policy version out of service; see `InferenceServer.retire`."""
        self._parts().host.check_open("a policy version to be retired")
        with self._meter.held_up(PUBLISHING):
            await self._parts().publisher.retire(policy_version)

    async def sleep(self) -> None:
        """Refuses requests, finishes those under way, and gives GPU memory back; harmless when repeated.

        Raises:
            DeadlineExceeded: longer than `sleep_timeout_s`.
            ServerDied: the engine is dead.
        """
        with self._meter.held_up(WAKING):
            await self._parts().host.sleep(self._config.sleep_timeout_s)

    async def wake(self) -> None:
        """Takes the memory again and serves once every version in service has answered its canaries again; harmless
        when awake.

        Raises:
            AdapterRejected: weights or adapters are not what they were; the server goes on refusing requests.
            DeadlineExceeded: longer than `sleep_timeout_s` and `publish_timeout_s` together.
            ServerDied: the engine is dead.
        """
        parts = self._parts()
        try:
            with self._meter.held_up(WAKING):
                await parts.host.wake(
                    parts.publisher.prove, self._config.sleep_timeout_s + self._config.publish_timeout_s
                )
        except AdapterRejected as error:
            raise AdapterRejected(
                f"server {self._server_id} did not wake as it fell asleep: {error.message}",
                "set servers.sleep_while_learning=false, or install a newer vLLM: some lose adapters in their sleep",
            ) from error

    async def status(self) -> dict[str, Any]:
        """Health, versions, counters and how busy it is (see `BusyMeter`)."""
        host = self._running.host if self._running else None
        return {
            "server_id": self._server_id,
            "alive": host is not None and host.is_serving,
            "asleep": host is not None and host.is_asleep,
            "cause_of_death": host.cause_of_death if host else None,
            "policy_version": self._slots.current,
            "live_versions": self._slots.live,
            "slots": self._slots.snapshot(),
            "process_ids": list(host.engine.process_ids) if host else [],
            "in_flight": self._meter.in_flight,
            "busy_s": self._meter.busy_s,
            "serving_s": self._meter.serving_s,
            "idle_s": self._meter.idle_s,
            **self._counters,
        }

    def _assemble(self, vocabulary: Vocabulary, host: EngineHost) -> _Parts:
        folder = AdapterFolder(self._server_id, self._adapter_root)
        intake = Intake(vocabulary, self._config)
        # Only deterministic batches have to be alone; otherwise everything runs side by side.
        alone = asyncio.Lock() if self._config.deterministic else contextlib.nullcontext()
        publisher = Publisher(self._server_id, self._config, host, self._slots, folder, intake, alone)
        return _Parts(vocabulary, host, folder, intake, publisher, alone)

    def _parts(self) -> _Parts:
        if self._running is None:
            raise ServerDied(f"server {self._server_id} is not started.", "await start() first")
        return self._running

    @contextlib.contextmanager
    def _lease(self, version: int) -> Iterator[AdapterHandle | None]:
        """The adapter of a version, held for one request; None is the base model."""
        if version == BASE_POLICY_VERSION:
            yield None
        else:
            with self._slots.lease(version) as handle:
                yield handle

    @contextlib.contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except RequestRefused:
            self._counters["refused"] += 1
            raise

    def _sample(self, parts: _Parts, adapter: AdapterHandle | None, completion: Completion, seconds: float) -> Sample:
        self._counters["samples"] += 1
        self._counters["sampled_tokens"] += len(completion.token_ids)
        return Sample(
            prompt_token_ids=completion.prompt_token_ids,
            token_ids=completion.token_ids,
            log_probs=completion.log_probs,
            text=parts.vocabulary.decode(completion.token_ids.tolist()),
            policy_version=adapter.policy_version if adapter else BASE_POLICY_VERSION,
            adapter_digest=adapter.digest if adapter else NO_DIGEST,
            finish_reason=completion.finish_reason,
            sample_s=seconds,
        )

    def _describe(self, parts: _Parts, start_s: float) -> ServerInfo:
        return ServerInfo(
            server_id=self._server_id,
            kind=self._config.kind,
            model=self._model,
            dtype=self._config.dtype,
            engine_version=parts.host.engine.version,
            max_model_len=self._config.max_model_len,
            adapter_slots=self._config.adapter_slots,
            vocabulary_size=parts.vocabulary.size,
            eos_token_id=parts.vocabulary.eos_token_id,
            image_token_id=parts.vocabulary.image_token_id,
            banned_token_ids=parts.vocabulary.banned_token_ids,
            canary_tolerance=self._config.tolerance,
            process_ids=parts.host.engine.process_ids,
            start_s=start_s,
        )
