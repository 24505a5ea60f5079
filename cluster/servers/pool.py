"""The inference servers of a run: start, publish to all, retire, let sleep, and bring restarted ones back in sync."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError

from actors.sampler import ServerInfo
from cluster.config import ServersConfig
from cluster.runtime.placement import Placement
from cluster.runtime.processes import call_when_rebuilt, end_actor
from cluster.runtime.waiting import StopFlag, get, wait_for
from cluster.servers.actor import ServerActor
from cluster.servers.idle import IdleShares
from protocol.adapter import Acknowledgement, AdapterManifest
from protocol.errors import AdapterRejected, DeadlineExceeded, ServerDied, ServerStartError

SUPERVISE_EVERY_S = 2.0
"""Pause between two looks after the servers, in seconds."""


class ServerPool:
    """Owns the server actors.

    A policy version counts as current only when `publish` has returned: every server acknowledged it after its
    canaries reproduced (invariant 3).
    """

    def __init__(self, model: str, config: ServersConfig, placement: Placement | None, stop: StopFlag) -> None:
        self._config = config
        self._stop = stop
        self._live: dict[int, ray.ObjectRef] = {}
        self.restarts = 0
        """How often a server had to be brought back."""
        self._looked_at = time.monotonic()
        self._asleep = False
        self._repairs: dict[int, ray.ObjectRef] = {}
        """What supervision has asked each server: its status, or to come back in sync."""
        self._recovering: set[int] = set()
        """Servers whose last death is counted, and which are not known to be back yet."""
        self._idle = IdleShares()
        # Workers find servers by name: a handle among a restartable actor's arguments is not safe from being lost.
        prefix = f"croupier-{ray.get_runtime_context().get_job_id()}-{uuid.uuid4().hex[:8]}"
        self.names = [f"{prefix}-server-{i}" for i in range(config.count)]
        self.handles = [
            ray.remote(ServerActor)
            .options(
                **(
                    placement.server_options(i)
                    if placement
                    else {"num_cpus": 0, "num_gpus": config.gpus * config.tensor_parallel}
                ),
                name=self.names[i],
                max_concurrency=4096,  # every worker holds a call open
                max_restarts=config.max_restarts,
            )
            .remote(model, config, f"server-{i}")
            for i in range(config.count)
        ]
        self._starting = [handle.start.remote() for handle in self.handles]

    def wait_started(self, meanwhile: Callable[[], None] | None = None) -> list[ServerInfo]:
        """Wait until every engine is up.

        Raises:
            ServerStartError: One did not come up; the message has the cause and the cure.
            DeadlineExceeded: It takes longer than `servers.start_timeout_s`.
        """
        try:
            return wait_for(
                self._starting,
                f"{len(self.handles)} inference server(s) to start",
                self._config.start_timeout_s + 30.0,
                stop=self._stop,
                meanwhile=meanwhile,
            )
        except RayActorError as error:
            raise ServerStartError(
                f"An inference server's process ended while it started: {error}",
                "look at its log under the Ray session directory; most often memory ran out",
            ) from error

    def publish(self, manifest: AdapterManifest, package: ray.ObjectRef) -> list[Acknowledgement]:
        """Give every server the package, by reference, and wait for all acknowledgements.

        Raises:
            AdapterRejected: A server's canaries did not reproduce, the bytes are not those of the manifest, or a
                server acknowledged another adapter.
            DeadlineExceeded: A server did not answer in time.
        """
        first = [handle.publish.remote(package) for handle in self.handles]
        acks = [self._acknowledge(index, ref, manifest.name, package) for index, ref in enumerate(first)]
        for ack in acks:
            if (ack.policy_version, ack.digest) != (manifest.policy_version, manifest.digest):
                raise AdapterRejected(
                    f"{ack.server_id} acknowledged policy {ack.policy_version} ({ack.digest.hex()[:12]}) instead of "
                    f"{manifest.policy_version} ({manifest.digest.hex()[:12]})."
                )
        # Only now: a package that was rejected must not come back with a restarted server.
        self._live[manifest.policy_version] = package
        return acks

    def _acknowledge(self, index: int, first: ray.ObjectRef, name: str, package: ray.ObjectRef) -> Acknowledgement:
        """Wait for one server's word; a server that dies meanwhile is rebuilt, brought in sync and asked again."""
        what = f"server-{index} to acknowledge {name}"
        deadline_s = self._config.publish_timeout_s + 30.0
        try:
            (ack,) = wait_for([first], what, deadline_s)
            return ack
        except (RayActorError, ServerDied):
            self._rebuild(index)
        (ack,) = wait_for([self.handles[index].publish.remote(package)], what, deadline_s)
        return ack

    def _rebuild(self, index: int) -> None:
        """Wait until a dead server is up again and holds the live adapters."""
        self._count_death(index)
        deadline_s = self._config.start_timeout_s + self._config.publish_timeout_s
        resync = partial(self.handles[index].resync.remote, list(self._live.values()))
        try:
            call_when_rebuilt(resync, f"server-{index} to come back", deadline_s)
        except ActorDiedError as error:
            raise self._gone(index, error) from error
        self._repairs.pop(index, None)  # its answer may be of the time before
        self._recovering.discard(index)

    def _count_death(self, index: int) -> None:
        if index not in self._recovering:
            self.restarts += 1
            self._recovering.add(index)

    def retire_before(self, policy_version: int) -> None:
        """Free the slots of all versions older than this one."""
        old = [v for v in self._live if v < policy_version]
        for version in old:
            del self._live[version]
        for ref in [handle.retire.remote(v) for v in old for handle in self.handles]:
            with suppress(RayActorError, ServerDied):  # who comes back is given the live versions alone
                wait_for([ref], f"servers to retire policies {old}", self._config.publish_timeout_s)

    def sleep(self) -> None:
        """Have every engine finish what it answers and give its GPU memory back; harmless when repeated.

        Whichever server is restarted from now on, by whatever death, stays without an engine until `wake`: the memory
        is somebody else's.

        Raises:
            DeadlineExceeded: An engine did not get there in time.
            ServerDied: A server is gone for good.
        """
        self._asleep = True
        self._have_all(lambda handle: handle.sleep.remote(), "give its GPU memory back", 0.0)
        self._repairs.clear()  # whatever was asked before is answered by now, or was asked of a process that is gone

    def wake(self) -> None:
        """Have every server take its GPU memory again and prove all live versions; harmless when awake.

        Raises:
            AdapterRejected: An engine's weights or adapters are not what they were.
            DeadlineExceeded: A server did not get there in time.
            ServerDied: A server is gone for good.
        """
        if not self._asleep:
            return
        live = list(self._live.values())
        restarted = self._have_all(
            lambda handle: handle.wake.remote(live),
            "take its GPU memory again and prove its policies",
            self._config.publish_timeout_s + self._config.start_timeout_s,
        )
        for index, was_restarted in enumerate(restarted):
            if was_restarted:
                self._count_death(index)
        self._recovering.clear()
        self._asleep = False

    def _have_all(self, call: Callable[[Any], ray.ObjectRef], what: str, allowance_s: float) -> list[Any]:
        """Have every server do what may be asked of it twice; one that dies meanwhile is asked again once Ray has
        made a new process of it, which is when nothing of the old one is left on the GPU."""
        deadline_s = self._config.sleep_timeout_s + allowance_s + 30.0
        first = [call(handle) for handle in self.handles]
        answers: list[Any] = []
        for index, (handle, ref) in enumerate(zip(self.handles, first, strict=True)):
            try:
                answers += wait_for([ref], f"server-{index} to {what}", deadline_s)
            except (RayActorError, ServerDied):
                try:
                    answers.append(call_when_rebuilt(partial(call, handle), f"server-{index} to {what}", deadline_s))
                except ActorDiedError as error:
                    raise self._gone(index, error) from error
        return answers

    def idle_shares(self) -> dict[str, float]:
        """Share of the time since the last call in which the engines had no request, and why; see `IdleShares`."""
        asked = [handle.status.remote() for handle in self.handles]
        statuses: dict[int, Any] = {}
        for index, ref in enumerate(asked):
            with suppress(DeadlineExceeded):
                try:
                    statuses[index] = get(ref, f"status of server-{index}")
                except RayActorError:  # whoever supervises will hear of it
                    statuses[index] = None
        return self._idle.look(statuses)

    def supervise(self) -> None:
        """Notice restarted servers, start them again and give them the live adapters; called from every wait.

        Raises:
            ServerDied: A server is gone for good: its restart budget is spent.
        """
        now = time.monotonic()
        if now - self._looked_at < SUPERVISE_EVERY_S:
            return
        self._looked_at = now
        for index, handle in enumerate(self.handles):
            repair = self._repairs.get(index)
            if repair is None:
                self._repairs[index] = handle.status.remote()
                continue
            if not ray.wait([repair], timeout=0)[0]:
                continue
            del self._repairs[index]
            self._judge(index, handle, repair)

    def _judge(self, index: int, handle: Any, repair: ray.ObjectRef) -> None:
        try:
            status = get(repair, f"status of server-{index}")
        except ActorDiedError as error:
            raise self._gone(index, error) from error
        except (RayActorError, ServerDied):  # it died, or died again while it was coming back
            self._recovering.discard(index)
            return  # Ray is restarting it; the next look finds it unstarted
        if status is None or status["started"]:
            self._recovering.discard(index)
        elif not self._asleep:
            self._count_death(index)
            self._repairs[index] = handle.resync.remote(list(self._live.values()))

    def _gone(self, index: int, error: Exception) -> ServerDied:
        return ServerDied(
            f"server-{index} died more than {self._config.max_restarts} time(s): {error}",
            "look at its log; raise servers.max_restarts if the cause lies outside",
        )

    def stop(self, deadline_s: float = 30.0) -> None:
        """Stop the engines, then the processes."""
        refs = [handle.stop.remote() for handle in self.handles]
        ray.wait(refs, num_returns=len(refs), timeout=deadline_s)
        for handle in self.handles:
            end_actor(handle)
