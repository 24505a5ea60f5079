"""From a request to what an engine draws: checks, decoded images, stop ids.

vLLM does not notice an already expanded prompt, placeholders without an image, or more placeholders than images, and
answers them with nonsense; here they are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from actors.config import ServerConfig
from actors.engine import AdapterHandle, Draw, Prompt
from actors.images import ImageCache
from actors.sampler import SampleRequest
from actors.vocabulary import Vocabulary
from protocol.errors import RequestRefused


class Intake:
    """Checks what comes in and turns it into draws and prompts.

    Args:
        vocabulary: Of the served model.
        config: For the limits on length, images and seeds.
    """

    def __init__(self, vocabulary: Vocabulary, config: ServerConfig) -> None:
        self._vocabulary = vocabulary
        self._config = config
        self._images = ImageCache(config.image_cache_bytes)

    def draw(self, request: SampleRequest, adapter: AdapterHandle | None) -> Draw:
        """The draw that answers a request.

        Raises:
            RequestRefused: naming the value, the limit and the cure.
        """
        self._check_seed(request)
        return Draw(
            prompt=self.prompt(request.prompt_token_ids, request.images, request.image_digests),
            temperature=request.params.temperature,
            max_tokens=request.params.max_tokens,
            stop_token_ids=self._vocabulary.stop_token_ids(request.params.stop),
            seed=request.seed,
            adapter=adapter,
        )

    def prompt(
        self, token_ids: Sequence[int], images: Sequence[bytes], digests: Sequence[bytes] | None = None
    ) -> Prompt:
        """An unexpanded prompt with its PNG images decoded; digests are computed where they are not given.

        Raises:
            RequestRefused: as in `draw`.
        """
        if digests is None:
            digests = [hashlib.sha256(png).digest() for png in images]
        if len(digests) != len(images):
            raise RequestRefused(
                f"{len(images)} images come with {len(digests)} digests.", "send one SHA-256 per image"
            )
        self._check_ids(token_ids, "prompt")
        self._check_placeholders(token_ids, len(images))
        self._check_length(len(token_ids), "prompt")
        return Prompt(list(map(int, token_ids)), tuple(map(self._images.get, digests, images)), tuple(digests))

    def response(self, prompt_tokens: int, token_ids: Sequence[int]) -> list[int]:
        """A response that is to be scored behind a prompt of `prompt_tokens` unexpanded ids.

        Raises:
            RequestRefused: as in `draw`; also for an image placeholder, which the engine would expand.
        """
        self._check_ids(token_ids, "response")
        if self._vocabulary.image_token_id in token_ids:
            raise RequestRefused(f"the response holds the image placeholder {self._vocabulary.image_token_id}.")
        self._check_length(prompt_tokens + len(token_ids), "prompt with its response")
        return list(map(int, token_ids))

    def _check_seed(self, request: SampleRequest) -> None:
        if request.seed is None:
            if self._config.deterministic and request.params.temperature > 0:
                raise RequestRefused(
                    "a deterministic server got a request without a seed.", "set seed, or temperature to 0"
                )
        elif not 0 <= request.seed < 2**63:  # vLLM reads -1 as no seed at all
            raise RequestRefused(f"seed is {request.seed}, it must be in [0, 2**63).")

    def _check_ids(self, token_ids: Sequence[int], what: str) -> None:
        if not len(token_ids):
            raise RequestRefused(f"the {what} is empty.")
        size = self._vocabulary.size
        if min(token_ids) >= 0 and max(token_ids) < size:
            return
        position, token_id = next((p, i) for p, i in enumerate(token_ids) if not 0 <= i < size)
        raise RequestRefused(
            f"{what} id {token_id} at position {position} is outside the vocabulary of {size} ids.",
            "tokenise with the tokenizer of the served model",
        )

    def _check_placeholders(self, token_ids: Sequence[int], images: int) -> None:
        limit = self._config.max_images_per_prompt
        if images > limit:
            raise RequestRefused(
                f"the prompt has {images} images, this server takes {limit}.",
                "raise max_images_per_prompt in the server configuration",
            )
        placeholder = self._vocabulary.image_token_id
        placeholders = token_ids.count(placeholder) if placeholder is not None else 0
        if placeholders != images:
            raise RequestRefused(
                f"the prompt holds {placeholders} image placeholders (id {placeholder}) for {images} images.",
                "send exactly one placeholder per image, not the expanded prompt",
            )

    def _check_length(self, tokens: int, what: str) -> None:
        limit = self._config.max_model_len
        if tokens >= limit:
            raise RequestRefused(
                f"the {what} has {tokens} tokens, max_model_len is {limit} and one more token has to fit.",
                "shorten the prompt or raise max_model_len in the server configuration",
            )
