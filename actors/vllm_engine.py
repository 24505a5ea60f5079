"""vLLM's AsyncLLM as an `Engine`. The one file that imports vLLM, and only when it starts.

vLLM runs the model in child processes; this side renders prompts, counts tokens and collects answers. Checked with
vLLM 0.32; written for 0.26 to 0.33.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from actors.config import ServerConfig
from actors.engine import AdapterHandle, Completion, Draw, Prompt
from actors.engine_process import ChildWatch, EngineLog, child_environment
from actors.vllm_arguments import engine_arguments, engine_environment
from actors.vllm_diagnosis import start_error
from actors.vllm_requests import (
    ban_parameters,
    completion,
    engine_prompt,
    lora_request,
    response_scores,
    sampling_params,
    scoring_params,
)
from actors.vocabulary import Vocabulary
from protocol.errors import AdapterRejected, RequestRefused, ServerStartError

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

_ABANDON_S = 5.0

_ROOM = "lower servers.gpu_memory_utilization: the learner's process keeps some GPU memory while it makes room"


class VLLMEngine:
    """One vLLM engine, on whatever device the installed vLLM was built for.

    Args:
        model: Local model folder.
        config: The server's configuration.
        vocabulary: For the banned ids and the warm-up prompt.
    """

    def __init__(self, model: str, config: ServerConfig, vocabulary: Vocabulary) -> None:
        self._model = model
        self._config = config
        self._vocabulary = vocabulary
        self._bans: dict[str, Any] = {}
        self._request_numbers = itertools.count()
        self._llm: AsyncLLM | None = None
        self._log: EngineLog | None = None
        self._children: ChildWatch | None = None
        self._stopped = False

    @property
    def version(self) -> str:
        """`vllm` and its version."""
        import vllm

        return f"vllm {vllm.__version__}"

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The engine core and its workers."""
        return self._children.process_ids() if self._children else ()

    @property
    def failure(self) -> str | None:
        """Exit codes and root error of a dead engine."""
        if self._llm is None or not self._llm.errored:
            return None
        return self._last_words() or "the engine core is gone without a word"

    async def start(self) -> None:
        """Starts the engine's processes and answers one prompt, so that the first request does not pay for it.

        Raises:
            ServerStartError: with the cause, the engine's last lines and the cure.
        """
        self._log = EngineLog("vllm")
        self._children = ChildWatch()
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                await asyncio.to_thread(self._build)
                await self._warm_up()
        except TimeoutError as error:
            raise ServerStartError(
                f"vLLM was not up within {self._config.start_timeout_s:g} s. {self._last_words()}",
                "raise start_timeout_s in the server configuration",
            ) from error
        except Exception as error:
            raise start_error(self._model, error, self._last_words(), self._log.tail()) from error

    async def stop(self) -> None:
        """Ends the engine's processes, by force after the grace."""
        llm, self._llm = self._llm, None
        self._stopped = True
        if llm is not None:
            await asyncio.to_thread(llm.shutdown, self._config.stop_timeout_s)
        if self._children is not None:
            await asyncio.to_thread(self._children.kill, self._config.stop_timeout_s)
        if self._log is not None:
            self._log.close()

    async def draw(self, draw: Draw) -> Completion:
        """Draws one completion beside whatever else is running."""
        return completion(await self._generate(draw.prompt, sampling_params(draw, self._bans), draw.adapter))

    async def draw_batch(self, draws: Sequence[Draw]) -> list[Completion]:
        """Draws completions alone: the engine is held until all of them have arrived, in order.

        Rows of a batch influence each other's rounding. With the engine held, caches emptied and every stop decided
        inside the engine (ids, not strings), equal batches pass through equal steps.
        """
        llm = self._running()
        collectors = []
        try:
            await llm.pause_generation(mode="keep", clear_cache=True)
            for draw in draws:
                collectors.append(await self._submit(llm, draw))
            await llm.resume_generation()
            return [completion(await collector.get()) for collector in collectors]
        except BaseException:
            await asyncio.shield(self._abandon(llm, [c.request_id for c in collectors]))
            raise

    async def score(
        self, prompt: Prompt, response_token_ids: Sequence[int], adapter: AdapterHandle | None
    ) -> np.ndarray:
        """Log-probs of the response, read off as the tail of a longer prompt."""
        whole = Prompt([*prompt.token_ids, *response_token_ids], prompt.images, prompt.digests)
        output = await self._generate(whole, scoring_params(), adapter)
        return response_scores(output, response_token_ids)

    async def load_adapter(self, adapter: AdapterHandle) -> None:
        """Loads an adapter from its folder under a name, number and path that are never used again."""
        try:
            loaded = await self._running().add_lora(lora_request(adapter))
        except Exception as error:
            if self.failure is not None:
                raise
            raise AdapterRejected(f"vLLM cannot load {adapter.name}: {error}.") from error
        if not loaded:
            raise AdapterRejected(f"vLLM did not load {adapter.name}: its number is taken.")

    async def unload_adapter(self, adapter: AdapterHandle) -> None:
        """Takes an adapter out of the engine."""
        await self._running().remove_lora(adapter.serial)

    async def sleep(self) -> None:
        """Level 1 of vLLM's sleep: what lies in its weights pool, adapters included, goes to host memory; the
        key-value, prefix, encoder and processor caches are emptied. Level 2 would drop the weights for good."""
        await self._running().sleep(level=1)

    async def wake(self) -> None:
        """All of it comes back to the addresses it had, so that CUDA graphs stay valid.

        Raises:
            ServerStartError: most often others hold the memory; the engine is not usable.
        """
        llm = self._running()
        try:
            await llm.wake_up()
            sleeps = await llm.is_sleeping()  # vLLM only logs a refusal
        except Exception as error:
            if self.failure is not None:
                raise
            raise ServerStartError(f"vLLM did not wake: {error}", _ROOM) from error
        if sleeps:
            raise ServerStartError("vLLM did not wake, and does not say why.", _ROOM)

    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise RuntimeError("the vLLM engine is not running")
        return self._llm

    def _build(self) -> None:
        assert self._log is not None
        with child_environment(engine_environment(self._config, self._log.config_path)):
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            if self._stopped:  # while vLLM was being imported
                return
            arguments = engine_arguments(self._model, self._config)
            self._bans = ban_parameters(self._vocabulary, "speculative_config" in arguments)
            # Kept here, not returned: a thread pool holds on to its last result, and vLLM's engine would be
            # collected only when the interpreter is half gone.
            self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        if self._stopped:
            self._llm.shutdown(0.0)

    async def _warm_up(self) -> None:
        known = next(i for i in range(self._vocabulary.size) if i not in self._vocabulary.banned_token_ids)
        token_ids, images = [known], []
        if self._vocabulary.image_token_id is not None and self._config.max_images_per_prompt:
            token_ids += [self._vocabulary.image_token_id, known]
            images = [Image.new("RGB", (64, 64))]
        prompt = Prompt(token_ids, tuple(images), tuple(bytes(32) for _ in images))
        await self.draw(Draw(prompt, 1.0, 2, (self._vocabulary.eos_token_id,), 0, None))

    async def _generate(self, prompt: Prompt, params: Any, adapter: AdapterHandle | None) -> RequestOutput:
        outputs = self._running().generate(
            engine_prompt(prompt), params, self._next_id(), lora_request=lora_request(adapter) if adapter else None
        )
        with _refusing():
            async with contextlib.aclosing(outputs):
                return await anext(outputs)

    async def _submit(self, llm: AsyncLLM, draw: Draw) -> Any:
        """Hands a draw to the engine without waiting for its answer."""
        with _refusing():
            return await llm.add_request(
                self._next_id(),
                engine_prompt(draw.prompt),
                sampling_params(draw, self._bans),
                lora_request=lora_request(draw.adapter) if draw.adapter else None,
            )

    async def _abandon(self, llm: AsyncLLM, request_ids: list[str]) -> None:
        """Takes a batch back and lets the engine go on; an engine that does not answer is left to the watch."""
        if llm.errored:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ABANDON_S):
                await llm.abort(request_ids, internal=True)
                await llm.resume_generation()

    def _next_id(self) -> str:
        return str(next(self._request_numbers))

    def _last_words(self) -> str:
        exits = self._children.exit_report() if self._children else ""
        cause = self._log.cause() if self._log else ""
        return "; ".join(part for part in (exits, cause) if part)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """vLLM's complaints about a request, as ours."""
    from vllm.exceptions import VLLMValidationError

    try:
        yield
    except (ValueError, VLLMValidationError) as error:
        raise RequestRefused(f"vLLM refuses the request: {error}") from error
