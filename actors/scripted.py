"""A sampler without a model: text comes from a function. For tests, demonstrations and dry runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from actors.sampler import Sample, SampleRequest
from actors.vocabulary import Vocabulary
from protocol.trajectory import NO_DIGEST


class ScriptedSampler:
    """Answers every request with the text that `script` gives for it; log-probs are 0, as if it were certain.

    Samples look like an engine's in every other respect: the text is tokenised, the end token closes it, and it is
    cut at `max_tokens`. The prompt is returned as it came, images not expanded.

    Args:
        script: From request to response text.
        vocabulary: Turns the text into ids.
        adapter_digest: Goes into the samples.
    """

    def __init__(
        self,
        script: Callable[[SampleRequest], str],
        vocabulary: Vocabulary,
        adapter_digest: bytes = NO_DIGEST,
    ) -> None:
        self._script = script
        self._vocabulary = vocabulary
        self._adapter_digest = adapter_digest

    async def sample(self, request: SampleRequest) -> Sample:
        """Answers with the scripted text."""
        began = time.monotonic()
        token_ids = self._vocabulary.encode(self._script(request))
        stops = set(self._vocabulary.stop_token_ids(request.params.stop))
        if not token_ids or token_ids[-1] not in stops:
            token_ids.append(self._vocabulary.eos_token_id)
        kept = token_ids[: request.params.max_tokens]
        return Sample(
            prompt_token_ids=np.asarray(request.prompt_token_ids, dtype=np.int32),
            token_ids=np.asarray(kept, dtype=np.int32),
            log_probs=np.zeros(len(kept), dtype=np.float32),
            text=self._vocabulary.decode(kept),
            policy_version=request.policy_version,
            adapter_digest=self._adapter_digest,
            finish_reason="stop" if len(kept) == len(token_ids) else "length",
            sample_s=time.monotonic() - began,
        )

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """Answers every request with its scripted text."""
        return [await self.sample(request) for request in requests]
