"""Takes new policy versions into service and old ones out of it.

A version goes through: checks of its bytes, files under a name of its own, a free slot, load, canaries, and only then
may requests name it. Whatever fails on the way leaves the engine and the versions in service as they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

from actors.adapter_checks import check_package
from actors.adapter_folder import AdapterFolder
from actors.adapter_slots import AdapterSlots
from actors.canary import CanaryVerdict, judge_canaries
from actors.config import ServerConfig
from actors.engine import AdapterHandle, Engine
from actors.engine_host import EngineHost
from actors.intake import Intake
from protocol.adapter import Acknowledgement, AdapterPackage, Canary, PublishTimes
from protocol.errors import AdapterRejected, RequestRefused

_log = logging.getLogger(__name__)


class Publisher:
    """Publishes and retires the adapters of one server, one at a time.

    Args:
        server_id: Goes into acknowledgements.
        config: For rank, tolerance and deadlines.
        host: Keeper of the engine.
        slots: Versions in service.
        folder: Where adapter files live.
        intake: Checks the canaries' prompts.
        alone: Held while the engine is used; keeps deterministic batches undisturbed.
    """

    def __init__(
        self,
        server_id: str,
        config: ServerConfig,
        host: EngineHost,
        slots: AdapterSlots,
        folder: AdapterFolder,
        intake: Intake,
        alone: contextlib.AbstractAsyncContextManager,
    ) -> None:
        self._server_id = server_id
        self._config = config
        self._host = host
        self._slots = slots
        self._folder = folder
        self._intake = intake
        self._alone = alone
        self._turn = asyncio.Lock()
        self._acknowledgements: dict[int, Acknowledgement] = {}
        self._proofs: dict[int, tuple[AdapterHandle, tuple[Canary, ...]]] = {}
        """Of the versions in service: what proved them."""

    async def publish(self, package: AdapterPackage) -> Acknowledgement:
        """Takes a version into service; the same version and digest again is harmless.

        When every slot is taken, the oldest version that is not current is retired first.

        Raises:
            AdapterRejected: with the reason and the cure.
            DeadlineExceeded: the oldest version's requests did not finish, or the engine did not answer.
            ServerDied: the engine is dead.
        """
        async with self._turn:
            began = time.monotonic()
            await asyncio.to_thread(
                check_package,
                package,
                max_rank=self._config.max_lora_rank,
                vision_adapters=self._config.vision_adapters,
            )
            checked = time.monotonic()
            if self._slots.check_new(package.manifest) is not None:
                return self._acknowledgements[package.manifest.policy_version]
            verdict, stages = await self._try_out(package)
            times = PublishTimes(checked - began, *stages)
            return self._acknowledge(package, verdict, times, time.monotonic() - began)

    async def retire(self, policy_version: int) -> None:
        """Takes a version out of service; see `InferenceServer.retire`."""
        async with self._turn:
            await self._retire(policy_version)

    async def prove(self, engine: Engine) -> None:
        """Scores the canaries of every version in service again, for an engine that may have changed meanwhile.

        Raises:
            AdapterRejected: a version, or the base model, answers with other log-probs than it was published with.
        """
        async with self._turn, self._alone:
            for handle, canaries in self._proofs.values():
                await self._judge(engine, handle, canaries)

    async def _retire(self, policy_version: int) -> None:
        handle = self._slots.retire(policy_version)
        if handle is None:
            return
        await self._slots.wait_idle(policy_version, self._config.request_timeout_s)
        await self._discard(handle)

    async def _make_room(self) -> None:
        oldest = self._slots.oldest_spare()
        if oldest is not None:
            _log.info("Server %s retires policy version %d for a newer one", self._server_id, oldest)
            await self._retire(oldest)

    async def _try_out(self, package: AdapterPackage) -> tuple[CanaryVerdict, tuple[float, float, float]]:
        """Verdict of the canaries, and seconds of writing, loading and scoring."""
        version, began = package.manifest.policy_version, time.monotonic()
        handle = AdapterHandle(version, package.manifest.digest, await self._hold(package))
        held = time.monotonic()
        try:
            if self._slots.is_full:
                await self._make_room()
            self._slots.add(handle)
        except BaseException:
            await self._release(handle.path)
            raise
        verdict, load_s, canary_s = await self._load(handle, package.canaries)
        self._slots.commit(version)
        self._proofs[version] = handle, package.canaries
        return verdict, (held - began, load_s, canary_s)

    async def _load(self, handle: AdapterHandle, canaries: tuple[Canary, ...]) -> tuple[CanaryVerdict, float, float]:
        """Verdict of the canaries, and seconds of loading and scoring."""
        began = time.monotonic()
        what = f"{handle.name} to load and answer its canaries"
        try:
            async with self._alone, self._host.answering(what, self._config.publish_timeout_s) as engine:
                await engine.load_adapter(handle)
                loaded = time.monotonic()
                verdict = await self._judge(engine, handle, canaries)
        except BaseException:
            await self._discard(handle)
            raise
        return verdict, loaded - began, time.monotonic() - loaded

    async def _hold(self, package: AdapterPackage) -> Path:
        try:
            return await asyncio.to_thread(self._folder.hold, package)
        except OSError as error:
            raise AdapterRejected(
                f"policy version {package.manifest.policy_version}: {package.manifest.weights_bytes} bytes do not "
                f"go into {self._folder.path}: {error.strerror}.",
                "free space there (on Kubernetes: a larger memory-backed /dev/shm)",
            ) from error

    async def _judge(self, engine: Engine, handle: AdapterHandle, canaries: tuple[Canary, ...]) -> CanaryVerdict:
        try:
            prompts = [self._intake.prompt(c.prompt_token_ids, c.images) for c in canaries]
            responses = [self._intake.response(len(c.prompt_token_ids), c.response_token_ids) for c in canaries]
        except RequestRefused as error:
            raise AdapterRejected(f"{handle.name} has a bad canary: {error.message}", error.cure) from error
        scores = await asyncio.gather(
            *(
                engine.score(prompt, response, adapter)
                for adapter in (handle, None)
                for prompt, response in zip(prompts, responses, strict=True)
            )
        )
        return judge_canaries(
            handle.policy_version,
            canaries,
            adapter_scores=scores[: len(canaries)],
            base_scores=scores[len(canaries) :],
            tolerance=self._config.tolerance,
        )

    def _acknowledge(
        self, package: AdapterPackage, verdict: CanaryVerdict, times: PublishTimes, seconds: float
    ) -> Acknowledgement:
        manifest = package.manifest
        acknowledgement = Acknowledgement(
            policy_version=manifest.policy_version,
            digest=manifest.digest,
            server_id=self._server_id,
            max_abs_error=verdict.max_abs_error,
            base_gap=verdict.base_gap,
            publish_s=seconds,
            times=times,
        )
        self._acknowledgements[manifest.policy_version] = acknowledgement
        return acknowledgement

    async def _release(self, path: Path) -> None:
        # In a thread: taking the memory of a large adapter back takes a while.
        await asyncio.to_thread(self._folder.release, path)

    async def _discard(self, handle: AdapterHandle) -> None:
        """Unloads, frees the slot and lets go of the files; a dead engine has nothing to unload."""
        if self._host.engine.failure is None:
            try:
                async with asyncio.timeout(self._config.stop_timeout_s):
                    await self._host.engine.unload_adapter(handle)
            except Exception as error:
                _log.warning("Server %s could not unload %s: %r", self._server_id, handle.name, error)
        self._slots.free(handle.policy_version)
        self._acknowledgements.pop(handle.policy_version, None)
        self._proofs.pop(handle.policy_version, None)
        await self._release(handle.path)
