"""Keeps one engine: starts it, waits for its answers with a deadline, lets it sleep, and notices when it dies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from actors.engine import Engine
from protocol.errors import CroupierError, DeadlineExceeded, RequestRefused, ServerDied

_log = logging.getLogger(__name__)
_HEARTBEAT_S = 0.25
_DRAIN_POLL_S = 0.05
_DEATH_NOTICE_S = 2.0
"""An engine's last requests may fail a moment before the engine itself counts as dead."""


class EngineHost:
    """One engine and the news of its death.

    Args:
        engine: Not yet started.
        server_id: Goes into errors.
        on_death: Called once with the cause when the engine dies; stopping it is no death.
    """

    def __init__(self, engine: Engine, server_id: str, on_death: Callable[[str], None] | None) -> None:
        self.engine = engine
        self._server_id = server_id
        self._on_death = on_death
        self._watch: asyncio.Task[None] | None = None
        self._waits: set[asyncio.Timeout] = set()
        self._stopped = False
        self._closed = self._sleeps = False
        self.cause_of_death: str | None = None

    @property
    def is_serving(self) -> bool:
        """Whether the engine is up and well."""
        return self._watch is not None and not self._stopped and self.cause_of_death is None

    @property
    def is_asleep(self) -> bool:
        """Whether the engine sleeps, or is on its way there or back: it answers nothing."""
        return self._closed

    async def start(self) -> None:
        """Starts the engine and the watch over it.

        Raises:
            ServerStartError: the engine did not come up; nothing is left behind.
        """
        try:
            await self.engine.start()
        except BaseException:
            await self.engine.stop()
            raise
        self._watch = asyncio.create_task(self._watch_engine())

    async def stop(self) -> None:
        """Ends the engine and whatever waits for it; harmless when repeated."""
        self._stopped = True
        self._end_waits()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.engine.stop()

    async def sleep(self, timeout_s: float) -> None:
        """Lets the engine finish its answers and give its GPU memory back; harmless when it sleeps already.

        Raises:
            DeadlineExceeded, ServerDied: as `answering`. The engine answers nothing from the call on, whatever comes.
        """
        if self._sleeps:
            return
        self._closed = True
        what = "the engine to finish its answers and give its GPU memory back"
        async with self._waiting(what, timeout_s) as engine:
            while len(self._waits) > 1:  # this wait is one of them
                await asyncio.sleep(_DRAIN_POLL_S)
            await engine.sleep()
        self._sleeps = True

    async def wake(self, prove: Callable[[Engine], Awaitable[None]], timeout_s: float) -> None:
        """Wakes the engine, which answers again once `prove` has found it to be what it was; harmless when awake.

        Raises:
            DeadlineExceeded, ServerDied: as `answering`; and whatever `prove` raises. The engine then stays closed.
        """
        if not self._closed:
            return
        what = "the engine to take its GPU memory again and to prove its policy versions"
        async with self._waiting(what, timeout_s) as engine:
            if self._sleeps:
                await engine.wake()
                self._sleeps = False
            await prove(engine)
        self._closed = False

    @asynccontextmanager
    async def answering(self, what: str, timeout_s: float) -> AsyncIterator[Engine]:
        """The engine, for one answer that has to come in time.

        Raises:
            RequestRefused: the engine sleeps.
            DeadlineExceeded: naming `what` was waited for.
            ServerDied: the engine is dead, or died over this answer.
        """
        self._check_alive()
        self.check_open(what)
        async with self._waiting(what, timeout_s) as engine:
            yield engine

    def check_open(self, what: str) -> None:
        """Refuse what only an engine that is awake can do.

        Raises:
            RequestRefused: the engine sleeps.
        """
        if self._closed:
            raise RequestRefused(
                f"server {self._server_id} sleeps and was asked for {what}.", "wake it first: it is the learner's turn"
            )

    @asynccontextmanager
    async def _waiting(self, what: str, timeout_s: float) -> AsyncIterator[Engine]:
        self._check_alive()
        try:
            async with asyncio.timeout(timeout_s) as wait:
                self._waits.add(wait)
                try:
                    yield self.engine
                finally:
                    self._waits.discard(wait)
        except CroupierError:
            raise
        except TimeoutError as error:
            if self.cause_of_death is not None:
                raise self._died(what) from error
            self._check_alive()
            raise DeadlineExceeded(
                f"server {self._server_id}: waited {timeout_s:g} s for {what}.",
                "raise the timeout in the server configuration, or send fewer requests at once",
            ) from error
        except Exception as error:
            cause = await self._cause_within(_DEATH_NOTICE_S)
            if cause is None:
                raise
            self._mourn(cause)
            raise self._died(what) from error

    def _check_alive(self) -> None:
        if self._watch is None or self._stopped:
            state = "is stopped" if self._stopped else "is not started"
            raise ServerDied(f"server {self._server_id} {state}.", "start a new server")
        cause = self.cause_of_death or self.engine.failure
        if cause is not None:
            self._mourn(cause)
            raise ServerDied(f"server {self._server_id} is dead: {cause}", "rebuild the server")

    def _died(self, what: str) -> ServerDied:
        return ServerDied(f"server {self._server_id} died over {what}: {self.cause_of_death}", "rebuild the server")

    def _end_waits(self) -> None:
        """Ends every wait now: a dead engine leaves some calls unanswered for ever."""
        now = asyncio.get_running_loop().time()
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(now)

    async def _cause_within(self, seconds: float) -> str | None:
        deadline = asyncio.get_running_loop().time() + seconds
        while self.engine.failure is None and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        return self.engine.failure

    async def _watch_engine(self) -> None:
        while (cause := self.engine.failure) is None:
            await asyncio.sleep(_HEARTBEAT_S)
        self._mourn(cause)

    def _mourn(self, cause: str) -> None:
        if self.cause_of_death is None:
            self.cause_of_death = cause
            _log.error("The engine of server %s died: %s", self._server_id, cause)
            self._end_waits()
            if self._on_death is not None:
                self._on_death(cause)
