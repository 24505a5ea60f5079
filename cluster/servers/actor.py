"""An inference server as a Ray actor.

The plain server of `actors/` does the work. This wrapper builds the right one, and ends the process when the engine
is dead: a live Ray actor around a dead engine would be retried for ever, a dead one is restarted by Ray.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray

from actors.config import ServerConfig
from actors.policy_server import PolicyServer
from actors.sampler import Sample, SampleRequest, ServerInfo
from cluster.servers.mailbox import Batch, Mailbox, Reply
from protocol.adapter import Acknowledgement, AdapterPackage
from protocol.errors import ServerDied

EXIT_DELAY_S = 1.0
"""Time for errors already raised to leave the process before it exits, in seconds."""


def build_server(model: str, config: ServerConfig, server_id: str, on_death: Any = None) -> PolicyServer:
    """The server that the configuration names; its engine is imported only when it starts."""
    if config.kind == "vllm":
        from actors.vllm_server import VLLMServer

        return VLLMServer(model, config, server_id, on_death=on_death)
    from actors.transformers_server import TransformersServer

    return TransformersServer(model, config, server_id, on_death=on_death)


class ServerActor:
    """Wraps one `PolicyServer`; every method is forwarded."""

    def __init__(self, model: str, config: ServerConfig, server_id: str) -> None:
        self._server_id = server_id
        self._server = build_server(model, config, server_id, self._exit)
        self._capacity = config.max_num_seqs
        self._mailbox = Mailbox(self._server.sample_batch, self._crowding, config.request_timeout_s)
        self._turn = asyncio.Lock()
        """Of whoever starts the engine or changes its versions: several may want to bring a restarted server back at
        once, and a version that is published meanwhile must come after those of before."""
        self._info: ServerInfo | None = None
        self._cause_of_death: str | None = None

    async def start(self) -> ServerInfo:
        """Start the engine; a second call returns what the first found."""
        async with self._turn:
            return await self._start()

    async def resync(self, packages: Sequence[ray.ObjectRef]) -> None:
        """Start again after a crash, then take every live adapter, each with its canaries, before serving."""
        async with self._turn:
            await self._sync(packages)

    async def sleep(self) -> None:
        """Give GPU memory back until `wake`; a server that was restarted, and not started since, has taken none."""
        async with self._turn:
            self._check_alive()
            if self._info is not None:
                await self._server.sleep()

    async def wake(self, packages: Sequence[ray.ObjectRef]) -> bool:
        """Serve again, every version proven anew; whether the server was restarted in its sleep, and had to be brought
        in sync."""
        async with self._turn:
            self._check_alive()
            restarted = self._info is None
            if restarted:
                await self._sync(packages)
            else:
                await self._server.wake()
            return restarted

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """See `InferenceServer.sample_batch`."""
        self._check_started()
        return await self._server.sample_batch(list(requests))

    async def exchange(self, client: str, turn: int, batches: Sequence[Batch]) -> Reply:
        """See `Mailbox.exchange`: how workers sample."""
        self._check_started()
        return await self._mailbox.exchange(client, turn, batches)

    async def publish(self, package: AdapterPackage) -> Acknowledgement:
        """See `InferenceServer.publish`."""
        self._check_started()
        async with self._turn:
            return await self._server.publish(package)

    async def retire(self, policy_version: int) -> None:
        """See `InferenceServer.retire`."""
        self._check_started()
        async with self._turn:
            await self._server.retire(policy_version)

    async def score(
        self,
        prompt_token_ids: Sequence[int],
        images: Sequence[bytes],
        response_token_ids: Sequence[int],
        policy_version: int | None = None,
    ) -> np.ndarray:
        """See `InferenceServer.score`."""
        self._check_started()
        return await self._server.score(prompt_token_ids, images, response_token_ids, policy_version)

    async def status(self) -> dict[str, Any]:
        """What the server says about itself; works before `start`, too."""
        if self._info is None:
            return {"server_id": self._server_id, "started": False, "versions": []}
        return {**await self._server.status(), "started": True}

    async def stop(self) -> None:
        """Stop the engine and its processes."""
        await self._server.stop()

    async def _sync(self, packages: Sequence[ray.ObjectRef]) -> None:
        await self._start()
        for package in packages:
            await self._server.publish(await package)

    async def _start(self) -> ServerInfo:
        self._check_alive()
        if self._info is None:
            self._info = await self._server.start()
        return self._info

    def _crowding(self) -> float:
        return max(0, self._server.in_flight - self._capacity) / self._capacity

    def _check_alive(self) -> None:
        if self._cause_of_death is not None:
            raise ServerDied(f"Server {self._server_id} is ending: {self._cause_of_death}", "try again shortly")

    def _check_started(self) -> None:
        self._check_alive()
        if self._info is None:
            raise ServerDied(f"Server {self._server_id} was restarted and is not in sync yet.", "try again shortly")

    def _exit(self, cause: str) -> None:
        self._cause_of_death = cause
        threading.Timer(EXIT_DELAY_S, os._exit, args=(1,)).start()
