"""Plain transformers as an `Engine`, in this process: the fallback where there is no vLLM, and the tests' oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from actors.config import ServerConfig
from actors.engine import AdapterHandle, Completion, Draw, Prompt
from actors.vocabulary import Vocabulary
from protocol.errors import AdapterRejected, CroupierError, ServerStartError

if TYPE_CHECKING:
    from actors.transformers_model import TransformersModel

_Result = TypeVar("_Result")


class TransformersEngine:
    """A model in this process and one thread that computes. Draws that wait together are decoded together.

    Args:
        model: Local model folder.
        config: The server's configuration.
        vocabulary: For the banned ids.
    """

    def __init__(self, model: str, config: ServerConfig, vocabulary: Vocabulary) -> None:
        self._folder = model
        self._config = config
        self._vocabulary = vocabulary
        self._model: TransformersModel | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transformers-engine")
        self._waiting: list[tuple[Draw, asyncio.Future[Completion]]] = []
        self._pump: asyncio.Task[None] | None = None

    @property
    def version(self) -> str:
        """`transformers` and its version."""
        import transformers

        return f"transformers {transformers.__version__}"

    @property
    def process_ids(self) -> tuple[int, ...]:
        """None: the model lives in this process."""
        return ()

    @property
    def failure(self) -> str | None:
        """None: this engine dies only with its process."""
        return None

    async def start(self) -> None:
        """Loads the model.

        Raises:
            ServerStartError: with the cause.
        """
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                self._model = await self._compute(self._load)
        except TimeoutError as error:
            raise ServerStartError(
                f"{self._folder} was not loaded within {self._config.start_timeout_s:g} s.", "raise start_timeout_s"
            ) from error
        except Exception as error:
            raise ServerStartError(
                f"transformers cannot load {self._folder}: {type(error).__name__}: {error}",
                "check that the folder is a complete model of an architecture that transformers knows",
            ) from error

    async def stop(self) -> None:
        """Drops the model; draws that still wait are cancelled."""
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self._model = None
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def draw(self, draw: Draw) -> Completion:
        """Draws one completion, together with whatever else waits for the same adapter."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((draw, future))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._serve_waiting())
        return await future

    async def draw_batch(self, draws: Sequence[Draw]) -> list[Completion]:
        """Draws completions in order, `max_num_seqs` at a time."""
        size = self._config.max_num_seqs
        completions: list[Completion] = []
        for start in range(0, len(draws), size):
            completions += await self._draw_mixed(draws[start : start + size])
        return completions

    async def score(
        self, prompt: Prompt, response_token_ids: Sequence[int], adapter: AdapterHandle | None
    ) -> np.ndarray:
        """Log-probs of the response from one forward pass."""
        model = self._running()
        return await self._compute(lambda: model.score(prompt, list(response_token_ids), adapter))

    async def load_adapter(self, adapter: AdapterHandle) -> None:
        """Adds the adapter to the PEFT model."""
        model = self._running()
        try:
            await self._compute(lambda: model.load_adapter(adapter))
        except CroupierError:
            raise
        except Exception as error:
            raise AdapterRejected(f"PEFT cannot load {adapter.name}: {error}.") from error

    async def unload_adapter(self, adapter: AdapterHandle) -> None:
        """Drops the adapter from the PEFT model."""
        model = self._running()
        await self._compute(lambda: model.unload_adapter(adapter))

    async def sleep(self) -> None:
        """Moves the model to host memory; on CPU it is there already."""
        model = self._running()
        await self._compute(model.leave_device)

    async def wake(self) -> None:
        """Moves the model back."""
        model = self._running()
        await self._compute(model.return_to_device)

    def _load(self) -> TransformersModel:
        from actors.transformers_model import TransformersModel

        return TransformersModel(self._folder, self._config, self._vocabulary)

    def _running(self) -> TransformersModel:
        if self._model is None:
            raise RuntimeError("the transformers engine is not running")
        return self._model

    async def _compute(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _serve_waiting(self) -> None:
        await asyncio.sleep(0)  # lets the other draws of the same moment line up
        while self._waiting:
            adapter = self._waiting[0][0].adapter
            same = [entry for entry in self._waiting if entry[0].adapter == adapter][: self._config.max_num_seqs]
            self._waiting = [entry for entry in self._waiting if all(entry is not taken for taken in same)]
            try:
                answers: Sequence[Any] = await self._draw_mixed([draw for draw, _ in same])
            except Exception as error:
                answers = [error] * len(same)
            for (_, future), answer in zip(same, answers, strict=True):
                _settle(future, answer)

    async def _draw_mixed(self, draws: Sequence[Draw]) -> list[Completion]:
        """Draws that may name several adapters: PEFT has one active adapter per forward pass."""
        model = self._running()
        completions: list[Completion | None] = [None] * len(draws)
        for adapter in dict.fromkeys(draw.adapter for draw in draws):
            rows = [row for row, draw in enumerate(draws) if draw.adapter == adapter]
            group = [draws[row] for row in rows]
            answers = await self._compute(lambda group=group, adapter=adapter: model.draw(group, adapter))
            for row, answer in zip(rows, answers, strict=True):
                completions[row] = answer
        return [completion for completion in completions if completion is not None]


def _settle(future: asyncio.Future[Completion], answer: Completion | Exception) -> None:
    if future.done():  # its caller gave up
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
