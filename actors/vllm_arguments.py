"""How a vLLM engine is configured: environment of its processes and engine arguments, on CPU and GPU."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from actors.config import ServerConfig
from actors.vllm_lifeline import SERVER_PID_VARIABLE
from protocol.errors import ServerStartError

_CPU_KV_CACHE_BYTES = 256 << 20
_CPU_BLOCK_TOKENS = 32  # the CPU default of 128 is longer than most prompts: nothing would be shared
_CPU_BATCHED_TOKENS = 4096
_CPU_DRAFT_TOKENS = 8
_LANGUAGE_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_QWEN3_VISION_LINEARS = ("qkv", "linear_fc1", "linear_fc2")
_DRAFTER = "actors.vllm_drafter.VLLMDrafter"
_WORKER_EXTENSION = "actors.vllm_extension.WorkerExtension"


def _is_cpu() -> bool:
    from vllm.platforms import current_platform

    return current_platform.is_cpu()


def engine_environment(config: ServerConfig, log_config: Path) -> dict[str, str | None]:
    """Environment of the engine's processes; None removes a variable."""
    variables: dict[str, str | None] = {
        "VLLM_LOGGING_CONFIG_PATH": str(log_config),
        SERVER_PID_VARIABLE: str(os.getpid()),
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


def engine_arguments(model: str, config: ServerConfig) -> dict[str, Any]:
    """Keyword arguments of vLLM's `AsyncEngineArgs`."""
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
        "lora_target_modules": _adapted_modules(model, config),
        "enable_prefix_caching": config.prefix_caching and not config.deterministic,
        # Stop ids and sampling defaults come with each request, from nowhere else.
        "generation_config": "vllm",
        "disable_log_stats": True,
        "kv_cache_memory_bytes": config.kv_cache_bytes,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "tensor_parallel_size": config.tensor_parallel,
        "enforce_eager": config.enforce_eager,
        "worker_extension_cls": _WORKER_EXTENSION,
    }
    on_cpu = _is_cpu()
    if config.sleep_while_learning:
        arguments["enable_sleep_mode"] = True
    if on_cpu:
        _refuse_sleep(config)
        arguments["enforce_eager"] = True
        arguments["block_size"] = _CPU_BLOCK_TOKENS
        # vLLM's CPU kernels take the last slot for rows without an adapter (index -1), so that one must stay empty. The
        # kernel of linear layers is ours and does not, those of embeddings and output layers are vLLM's.
        # Slots are filled from the front, and never more than `adapter_slots` are in use.
        arguments["max_loras"] = arguments["max_cpu_loras"] = config.adapter_slots + 1
        arguments["kv_cache_memory_bytes"] = config.kv_cache_bytes or _CPU_KV_CACHE_BYTES
        del arguments["gpu_memory_utilization"]
    if on_cpu or config.deterministic:
        # On CPU a seeded request whose prefill is cut into chunks kills the engine.
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(_CPU_BATCHED_TOKENS, config.max_model_len)
    if config.deterministic:
        arguments["async_scheduling"] = False
    if tokens := _draft_tokens(config, on_cpu):
        arguments["speculative_config"] = {
            "method": "custom_class",
            "model": _DRAFTER,
            "num_speculative_tokens": tokens,
        }
    return arguments


def _draft_tokens(config: ServerConfig, on_cpu: bool) -> int:
    """Most tokens that are guessed ahead in one engine step. What is guessed depends on what the engine has drawn
    before, so deterministic answers do without."""
    if config.deterministic:
        return 0
    if config.draft_tokens is None:
        return _CPU_DRAFT_TOKENS if on_cpu else 0
    return config.draft_tokens


def _refuse_sleep(config: ServerConfig) -> None:
    """On CPU vLLM's workers ignore the order to sleep, with a warning at most.

    Raises:
        ServerStartError: the engine is meant to sleep.
    """
    if config.sleep_while_learning:
        raise ServerStartError(
            "sleep_while_learning is set, but this vLLM is built for CPU, where an engine keeps its memory.",
            "set servers.sleep_while_learning=false, or install vLLM for GPUs",
        )


def _adapted_modules(model: str, config: ServerConfig) -> list[str] | None:
    """Layers that vLLM prepares for adapters; None leaves the choice to vLLM.

    Left to itself it also prepares the output layer of Llama and Qwen3 models: a waste at every step, and scoring a
    prompt beside other requests then kills the engine on CPU (row counts disagree).

    Raises:
        ServerStartError: vision adapters for a model whose vision rows vLLM miscounts.
    """
    if not config.vision_adapters:
        return list(_LANGUAGE_LINEARS)
    settings = json.loads(Path(model, "config.json").read_text(encoding="utf-8"))
    model_type = settings.get("model_type", "")
    if not model_type.startswith("qwen"):
        # LLaVA's tower has one row more (the class token) than an image has tokens; vLLM 0.32 overlooks it. What it
        # makes of LLaVA-NeXT's tiles is untested.
        raise ServerStartError(
            f"vLLM does not adapt the vision part of a {model_type!r} model correctly, and vision_adapters is set.",
            "adapt the language model alone (vision_adapters: false), or set kind: transformers",
        )
    if not model_type.startswith("qwen3"):
        return None
    # By its whole name: the convolution that cuts patches is a `proj` too, and takes no adapter.
    projections = [f"visual.blocks.{block}.attn.proj" for block in range(settings["vision_config"]["depth"])]
    return [*_LANGUAGE_LINEARS, *_QWEN3_VISION_LINEARS, *projections]
