"""Configuration of one inference server. Tuned numbers have their defaults here and nowhere else."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_RANK_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_CANARY_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.1}


class ServerConfig(BaseModel):
    """One inference server: engine, memory, adapters, deadlines."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["vllm", "transformers"] = "vllm"
    """Engine: vLLM, or plain transformers (slow; the fallback and the tests' oracle)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where the installed engine has one."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of weights and activations; log-probs are float32 always."""
    seed: int = 0
    """Seed of the engine's own generator, used by requests without a seed."""
    deterministic: bool = False
    """Batches run alone, from an empty cache and in a fixed order, so equal batches give bit-equal answers."""

    max_model_len: int = Field(default=1024, ge=16)
    """Longest prompt plus response, in tokens, image tokens included."""
    max_num_seqs: int = Field(default=64, ge=1)
    """Requests that decode together; the rest wait."""
    max_images_per_prompt: int = Field(default=1, ge=0)
    max_lora_rank: int = Field(default=16, ge=1, le=512)
    """Largest adapter rank; memory is set aside for it."""
    adapter_slots: int = Field(default=3, ge=2)
    """Policy versions held at once; a run sees to at least `learner.max_staleness` + 2."""
    vision_adapters: bool = False
    """Whether adapters also change the vision tower or its connector."""
    enforce_eager: bool = False
    """Skip CUDA graphs: starts sooner, decodes slower. Always on on CPU."""
    prefix_caching: bool = True
    """Share the key-value cache of common prompt beginnings. Always off in deterministic mode."""

    draft_tokens: int | None = Field(default=None, ge=0, le=32)
    """Most tokens of a response that are guessed from earlier responses and checked in one engine step (vLLM only): it
    changes the speed, not the distribution. 0: none; None: 8 on CPU, none on GPU. Never in deterministic mode.
    Requests then carry the list of all ids that may be drawn, which costs milliseconds with a large vocabulary."""

    kv_cache_bytes: int | None = Field(default=None, ge=1 << 20)
    """Key-value cache in bytes; None: 256 MiB on CPU, the rest of `gpu_memory_utilization` on GPU."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0.0, le=1.0)
    """Share of the GPU that the engine may take (vLLM on GPU only)."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share one copy of the model."""
    sleep_while_learning: bool = False
    """Engine and learner take turns on one GPU: each gives its memory back while the other works. Lock-step only, and
    not on CPU; see docs/placement.md."""
    cpu_threads: int = Field(default=1, ge=1)
    """Threads of the engine's matrix kernels on CPU."""
    image_cache_bytes: int = Field(default=64 << 20, ge=0)
    """Decoded images kept between requests."""
    processor_cache_bytes: int = Field(default=256 << 20, ge=0)
    """Processed images that vLLM keeps, in each of its two processes."""

    canary_tolerance: float | None = Field(default=None, gt=0.0)
    """Largest |server - learner| log-prob difference of a canary token (nats); None: by dtype, float32 1e-3,
    bfloat16 0.25, float16 0.1. Both sides should compute in the same dtype."""

    start_timeout_s: float = Field(default=300.0, gt=0.0)
    request_timeout_s: float = Field(default=120.0, gt=0.0)
    """Longest wait for one completion or one batch, queueing included."""
    publish_timeout_s: float = Field(default=120.0, gt=0.0)
    """Longest wait for an adapter to load and its canaries to be scored."""
    sleep_timeout_s: float = Field(default=120.0, gt=0.0)
    """Longest wait for an engine to give its GPU memory back, or to take it again."""
    stop_timeout_s: float = Field(default=10.0, gt=0.0)
    """Grace before the engine's processes are killed."""

    @model_validator(mode="after")
    def _consistent(self) -> ServerConfig:
        if self.tensor_parallel > 1 and (self.kind == "transformers" or self.device == "cpu"):
            raise ValueError(
                f"tensor_parallel is {self.tensor_parallel} with kind {self.kind} on device {self.device}: "
                "only vllm on cuda can split a model; set tensor_parallel to 1"
            )
        if self.draft_tokens and self.kind == "transformers":
            raise ValueError(
                f"draft_tokens is {self.draft_tokens} with kind transformers: only vllm drafts; set draft_tokens to 0 "
                "or kind to vllm"
            )
        return self

    @property
    def lora_rank_bucket(self) -> int:
        """`max_lora_rank` rounded up to a rank that vLLM has kernels for."""
        return next(bucket for bucket in _RANK_BUCKETS if bucket >= self.max_lora_rank)

    @property
    def tolerance(self) -> float:
        """The canary tolerance in force (nats)."""
        return self.canary_tolerance or _CANARY_TOLERANCES[self.dtype]
