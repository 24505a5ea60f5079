"""Between our requests and vLLM's: prompts, sampling parameters, adapters, completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.engine import AdapterHandle, Completion, Draw, Prompt
from actors.vocabulary import Vocabulary
from protocol.errors import ServerStartError

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput

_MAX_BANNED_IDS = 1024  # what vLLM's GPU sampler takes per request


def engine_prompt(prompt: Prompt) -> TokensPrompt:
    """Unexpanded ids with their images; vLLM expands the placeholders."""
    if not prompt.images:
        return {"prompt_token_ids": prompt.token_ids}
    from vllm.multimodal.media import MediaWithBytes

    return {
        "prompt_token_ids": prompt.token_ids,
        # A bare image would be copied, to turn it the way its EXIF data say; the bytes would be for hashing.
        "multi_modal_data": {"image": [MediaWithBytes(image, b"") for image in prompt.images]},
        # Saves vLLM from hashing the pixels.
        "multi_modal_uuids": {"image": [digest.hex() for digest in prompt.digests]},
    }


def ban_parameters(vocabulary: Vocabulary, drafting: bool) -> dict[str, Any]:
    """What tells vLLM, in `SamplingParams`, which ids are never drawn. It takes no biases where it drafts, only a list
    of all the others, which is long.

    Raises:
        ServerStartError: more ids than vLLM takes biases.
    """
    banned = vocabulary.banned_token_ids
    if not banned:
        return {}
    if drafting:
        return {"allowed_token_ids": sorted(set(range(vocabulary.size)).difference(banned))}
    if len(banned) > _MAX_BANNED_IDS:
        raise ServerStartError(
            f"the model has {len(banned)} ids to ban, vLLM takes {_MAX_BANNED_IDS}.",
            "trim the embedding matrix to the tokenizer's size",
        )
    return {"logit_bias": dict.fromkeys(banned, float("-inf"))}


def sampling_params(draw: Draw, bans: Mapping[str, Any]) -> SamplingParams:
    """Parameters of a draw; `bans` are `ban_parameters`.

    Stops are ids, so the engine core itself sees them; text is decoded on our side, once.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        skip_clone=True,  # made for one request; a copy in depth of all allowed ids takes 40 ms with Qwen's vocabulary
        temperature=draw.temperature,
        max_tokens=draw.max_tokens,
        stop_token_ids=list(draw.stop_token_ids),
        seed=draw.seed,
        logprobs=0,
        **bans,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def scoring_params() -> SamplingParams:
    """Parameters of a request whose prompt is scored; the one token it has to draw is thrown away."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        prompt_logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def lora_request(adapter: AdapterHandle) -> LoRARequest:
    """The adapter under its name, number and path; all three belong to one policy version for good."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.name, adapter.serial, str(adapter.path))


def completion(output: RequestOutput) -> Completion:
    """What a finished draw came to."""
    drawn = output.outputs[0]
    token_ids = list(drawn.token_ids)
    reason = drawn.finish_reason
    return Completion(
        prompt_token_ids=np.asarray(output.prompt_token_ids, dtype=np.int32),
        token_ids=np.asarray(token_ids, dtype=np.int32),
        log_probs=_log_probs(drawn.logprobs or [], token_ids),
        finish_reason=reason if reason in ("stop", "length") else "abort",
    )


def response_scores(output: RequestOutput, response_token_ids: Sequence[int]) -> np.ndarray:
    """float32 [T]: log-probs of the prompt's last T ids, which are the response."""
    return _log_probs((output.prompt_logprobs or [])[-len(response_token_ids) :], response_token_ids)


def _log_probs(positions: Sequence[Any], token_ids: Sequence[int]) -> np.ndarray:
    """float32 [T]: from each position's table of ids to log-probs, the one of its own id."""
    values = [table[token_id].logprob for table, token_id in zip(positions, token_ids, strict=True)]
    return np.asarray(values, dtype=np.float32)
