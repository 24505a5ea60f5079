"""vLLM's AsyncLLM as an `Engine`. The one file that imports vLLM, and only when it starts.

vLLM runs the model in child processes; this side renders prompts, counts tokens and collects answers. Checked with
vLLM 0.32; written for 0.26 to 0.33.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from actors.config import ServerConfig
from actors.engine import AdapterHandle, Completion, Draw, Prompt
from actors.engine_process import ChildWatch, EngineLog, child_environment
from actors.vocabulary import Vocabulary
from protocol.errors import AdapterRejected, RequestRefused, ServerStartError

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.async_llm import AsyncLLM

_CPU_KV_CACHE_BYTES = 256 << 20
_CPU_BLOCK_TOKENS = 32  # the CPU default of 128 is longer than most prompts: nothing would be shared
_CPU_BATCHED_TOKENS = 4096
_MAX_BANNED_IDS = 1024  # what vLLM's GPU sampler takes per request
_CURES = (
    (("out of memory", "Free memory on device", "Available memory on node"),
     "lower gpu_memory_utilization or kv_cache_bytes, or take the memory back from other processes"),
    (("cache blocks", "KV cache is needed", "kv_cache_memory"),
     "raise kv_cache_bytes (or gpu_memory_utilization), or lower max_model_len"),
    (("architectures", "not supported"), "serve an architecture vLLM knows, or set kind: transformers"),
    (("max_model_len", "max_position_embeddings"), "lower max_model_len to what the model was trained for"),
    (("safetensors", "weights", "KeyError", "No such file"),
     "check that the model folder is complete and was saved for this architecture"),
    (("Timeout", "deadline"), "raise start_timeout_s"),
)  # fmt: skip


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
        self._bans = {token_id: float("-inf") for token_id in vocabulary.banned_token_ids}
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
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise self._start_error(error) from error

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
        return _completion(await self._generate(draw.prompt, self._sampling_params(draw), draw.adapter))

    async def draw_batch(self, draws: Sequence[Draw]) -> list[Completion]:
        """Draws completions alone: the engine is held until all of them have arrived, in order.

        Rows of a batch influence each other's rounding. With the engine held, caches emptied and every stop decided
        inside the engine (ids, not strings), equal batches pass through equal steps.
        """
        llm = self._running()
        await llm.pause_generation(mode="keep", clear_cache=True)
        collectors = []
        try:
            for draw in draws:
                collectors.append(await self._submit(llm, draw))
            await llm.resume_generation()
            return [_completion(await collector.get()) for collector in collectors]
        except BaseException:
            await asyncio.shield(self._abandon(llm, [c.request_id for c in collectors]))
            raise

    async def score(
        self, prompt: Prompt, response_token_ids: Sequence[int], adapter: AdapterHandle | None
    ) -> np.ndarray:
        """Log-probs of the response, read off as the tail of a longer prompt."""
        from vllm import SamplingParams

        params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        whole = Prompt([*prompt.token_ids, *response_token_ids], prompt.images, prompt.digests)
        output = await self._generate(whole, params, adapter)
        tail = (output.prompt_logprobs or [])[-len(response_token_ids) :]
        scores = [at[i].logprob for at, i in zip(tail, response_token_ids, strict=True) if at is not None]
        return np.asarray(scores, dtype=np.float32)

    async def load_adapter(self, adapter: AdapterHandle) -> None:
        """Loads an adapter from its folder under a name, number and path that are never used again."""
        try:
            loaded = await self._running().add_lora(_lora_request(adapter))
        except Exception as error:
            if self.failure is not None:
                raise
            raise AdapterRejected(f"vLLM cannot load {adapter.name}: {error}.") from error
        if not loaded:
            raise AdapterRejected(f"vLLM did not load {adapter.name}: its number is taken.")

    async def unload_adapter(self, adapter: AdapterHandle) -> None:
        """Takes an adapter out of the engine."""
        await self._running().remove_lora(adapter.serial)

    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise RuntimeError("the vLLM engine is not running")
        return self._llm

    def _build(self) -> None:
        assert self._log is not None
        if len(self._bans) > _MAX_BANNED_IDS:
            raise ServerStartError(
                f"the model has {len(self._bans)} ids to ban, vLLM takes {_MAX_BANNED_IDS}.",
                "trim the embedding matrix to the tokenizer's size",
            )
        with child_environment(_environment(self._config, self._log)):
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            if self._stopped:  # while vLLM was being imported
                return
            arguments = _engine_arguments(self._model, self._config)
            # Kept here, not returned: a thread pool holds on to its last result, and vLLM's engine would be
            # collected only when the interpreter is half gone.
            self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))

    async def _warm_up(self) -> None:
        known = next(i for i in range(self._vocabulary.size) if i not in self._bans)
        token_ids, images = [known], []
        if self._vocabulary.image_token_id is not None and self._config.max_images_per_prompt:
            token_ids += [self._vocabulary.image_token_id, known]
            images = [Image.new("RGB", (64, 64))]
        prompt = Prompt(token_ids, tuple(images), tuple(bytes(32) for _ in images))
        await self.draw(Draw(prompt, 1.0, 2, (self._vocabulary.eos_token_id,), 0, None))

    async def _generate(self, prompt: Prompt, params: Any, adapter: AdapterHandle | None) -> RequestOutput:
        from vllm.sampling_params import RequestOutputKind

        params.output_kind = RequestOutputKind.FINAL_ONLY
        outputs = self._running().generate(
            _engine_prompt(prompt), params, self._next_id(), lora_request=_lora_request(adapter)
        )
        try:
            output = await anext(outputs)
        except ValueError as error:
            raise RequestRefused(f"vLLM refuses the request: {error}") from error
        finally:
            await outputs.aclose()
        return output

    async def _submit(self, llm: AsyncLLM, draw: Draw) -> Any:
        """Hands a draw to the engine without waiting for its answer."""
        try:
            return await llm.add_request(
                self._next_id(),
                _engine_prompt(draw.prompt),
                self._sampling_params(draw),
                lora_request=_lora_request(draw.adapter),
            )
        except ValueError as error:
            raise RequestRefused(f"vLLM refuses the request: {error}") from error

    async def _abandon(self, llm: AsyncLLM, request_ids: list[str]) -> None:
        if not llm.errored:
            await llm.abort(request_ids, internal=True)
            await llm.resume_generation()

    def _sampling_params(self, draw: Draw) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=draw.temperature,
            max_tokens=draw.max_tokens,
            stop_token_ids=list(draw.stop_token_ids),
            seed=draw.seed,
            logprobs=0,
            logit_bias=self._bans,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _next_id(self) -> str:
        return str(next(self._request_numbers))

    def _last_words(self) -> str:
        exits = self._children.exit_report() if self._children else ""
        cause = self._log.cause() if self._log else ""
        return "; ".join(part for part in (exits, cause) if part)

    def _start_error(self, error: Exception) -> ServerStartError:
        if isinstance(error, ServerStartError):
            return error
        if isinstance(error, TimeoutError):
            reason = f"not up within {self._config.start_timeout_s:g} s (Timeout)"
        else:
            reason = f"{type(error).__name__}: {error}"
        tail = self._log.tail() if self._log else ""
        words = f"{reason} {self._last_words()} {tail}"
        cure = next((cure for signs, cure in _CURES if any(sign in words for sign in signs)), "see the lines above")
        message = f"vLLM did not start with {self._model}: {self._last_words() or reason}"
        return ServerStartError(f"{message}\n--- last lines of the engine ---\n{tail}\n---\n{reason}", cure)


def _is_cpu() -> bool:
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


def _environment(config: ServerConfig, log: EngineLog) -> dict[str, str | None]:
    variables: dict[str, str | None] = {
        "VLLM_LOGGING_CONFIG_PATH": str(log.config_path),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Whole GiB only, and it would override kv_cache_bytes.
        "VLLM_CPU_KVCACHE_SPACE": None,
        # The default binds every server of a host to the same first core.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    if config.device == "cpu" or not _sees_cuda():
        # One child process instead of two: starts in half the time. The second one only exists to bind threads.
        variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        variables["OMP_NUM_THREADS"] = str(config.cpu_threads)
    return variables


def _sees_cuda() -> bool:
    import torch

    return torch.version.cuda is not None and torch.cuda.is_available()


def _engine_arguments(model: str, config: ServerConfig) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": model,
        "dtype": config.dtype,
        "seed": config.seed,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "limit_mm_per_prompt": {"image": config.max_images_per_prompt, "video": 0},
        "mm_processor_cache_gb": config.processor_cache_bytes / (1 << 30),
        # Of the distribution sampled from, bans and temperature included; the default is neither.
        "logprobs_mode": "processed_logprobs",
        "enable_lora": True,
        "max_lora_rank": config.lora_rank_bucket,
        "max_loras": config.adapter_slots,
        "max_cpu_loras": config.adapter_slots,
        "enable_tower_connector_lora": config.vision_adapters,
        "enable_prefix_caching": config.prefix_caching and not config.deterministic,
        # Stop ids and sampling defaults come with each request, from nowhere else.
        "generation_config": "vllm",
        "disable_log_stats": True,
        "kv_cache_memory_bytes": config.kv_cache_bytes,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "tensor_parallel_size": config.tensor_parallel,
        "enforce_eager": config.enforce_eager,
    }
    on_cpu = _is_cpu()
    if on_cpu:
        arguments["enforce_eager"] = True
        arguments["block_size"] = _CPU_BLOCK_TOKENS
        arguments["kv_cache_memory_bytes"] = config.kv_cache_bytes or _CPU_KV_CACHE_BYTES
        del arguments["gpu_memory_utilization"]
    if on_cpu or config.deterministic:
        # On CPU a seeded request whose prefill is cut into chunks kills the engine.
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(_CPU_BATCHED_TOKENS, config.max_model_len)
    if config.deterministic:
        arguments["async_scheduling"] = False
    return arguments


def _engine_prompt(prompt: Prompt) -> Any:
    if not prompt.images:
        return {"prompt_token_ids": prompt.token_ids}
    return {
        "prompt_token_ids": prompt.token_ids,
        "multi_modal_data": {"image": list(prompt.images)},
        # Saves vLLM from hashing the pixels.
        "multi_modal_uuids": {"image": [digest.hex() for digest in prompt.digests]},
    }


def _lora_request(adapter: AdapterHandle | None) -> Any:
    if adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.name, adapter.serial, str(adapter.path))


def _completion(output: RequestOutput) -> Completion:
    drawn = output.outputs[0]
    token_ids = list(drawn.token_ids)
    chosen = zip(drawn.logprobs or [], token_ids, strict=True)
    reason = drawn.finish_reason
    return Completion(
        prompt_token_ids=np.asarray(output.prompt_token_ids, dtype=np.int32),
        token_ids=np.asarray(token_ids, dtype=np.int32),
        log_probs=np.asarray([at[token_id].logprob for at, token_id in chosen], dtype=np.float32),
        finish_reason=reason if reason in ("stop", "length") else "abort",
    )
