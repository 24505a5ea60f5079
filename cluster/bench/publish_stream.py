"""A vLLM engine that notes when each token comes, and how long generation stood still in a span of time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.engine import Completion, Draw
from actors.vllm_engine import VLLMEngine
from actors.vllm_requests import engine_prompt, lora_request, sampling_params


@dataclass(frozen=True, slots=True)
class Span:
    """From one reading of the machine's clock to another, in seconds."""

    began_s: float
    ended_s: float

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.ended_s - self.began_s


def gaps_in(span: Span, streams: Sequence[Sequence[float]]) -> list[float]:
    """Seconds between neighbouring tokens of one request, of all that reach into the span.

    Args:
        span: what is looked at.
        streams: times of the tokens of each request, rising.
    """
    found = []
    for times in streams:
        moments = np.asarray(times)
        reaching = (moments[1:] > span.began_s) & (moments[:-1] < span.ended_s)
        found += np.diff(moments)[reaching].tolist()
    return found


class StreamedEngine(VLLMEngine):
    """vLLM with its tokens handed over one by one instead of all at the end."""

    streams: list[list[float]]
    """Times at which the tokens of each draw arrived in this process, on the machine's clock."""

    async def draw(self, draw: Draw) -> Completion:
        """Draws as `VLLMEngine` does; of the answer only ids and lengths are kept."""
        params = sampling_params(draw, self._bans)
        params.output_kind = type(params.output_kind).DELTA
        adapter = lora_request(draw.adapter) if draw.adapter else None
        outputs = self._running().generate(engine_prompt(draw.prompt), params, self._next_id(), lora_request=adapter)
        arrivals: list[float] = []
        token_ids: list[int] = []
        self.streams.append(arrivals)
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                arrivals.append(time.monotonic())
                token_ids += output.outputs[0].token_ids
        return Completion(
            np.asarray(draw.prompt.token_ids, np.int32),
            np.asarray(token_ids, np.int32),
            np.zeros(len(token_ids), np.float32),
            "length",
        )
