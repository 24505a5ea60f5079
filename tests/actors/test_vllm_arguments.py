import os
from pathlib import Path

import pytest

from actors import vllm_arguments
from actors.config import ServerConfig
from actors.vllm_arguments import engine_arguments, engine_environment
from actors.vllm_lifeline import SERVER_PID_VARIABLE
from protocol.errors import ServerStartError
from tests.actors.toy_folder import write_toy_folder


@pytest.fixture(params=[True, False], ids=["cpu", "gpu"])
def on_cpu(request, monkeypatch):
    monkeypatch.setattr(vllm_arguments, "_is_cpu", lambda: request.param)
    monkeypatch.setattr(vllm_arguments, "_sees_cuda", lambda: not request.param)
    return request.param


def arguments(folder: Path, **config):
    return engine_arguments(str(write_toy_folder(folder)), ServerConfig(**config))


def test_log_probs_are_of_the_distribution_sampled_from(on_cpu, tmp_path):
    assert arguments(tmp_path)["logprobs_mode"] == "processed_logprobs"


def test_the_last_adapter_slot_stays_empty_on_cpu(on_cpu, tmp_path):
    made = arguments(tmp_path, adapter_slots=3)
    assert made["max_loras"] == made["max_cpu_loras"] == (4 if on_cpu else 3)


def test_no_seeded_prefill_is_cut_on_cpu_or_in_deterministic_mode(on_cpu, tmp_path):
    made = arguments(tmp_path, max_model_len=9000)
    assert made.get("enable_chunked_prefill") == (False if on_cpu else None)
    made = arguments(tmp_path, max_model_len=9000, deterministic=True)
    assert made["enable_chunked_prefill"] is False and made["max_num_batched_tokens"] == 9000
    assert made["enable_prefix_caching"] is False and made["async_scheduling"] is False


def test_memory_is_bounded_by_bytes_on_cpu_and_by_share_on_gpu(on_cpu, tmp_path):
    made = arguments(tmp_path, gpu_memory_utilization=0.4)
    if on_cpu:
        assert made["kv_cache_memory_bytes"] == 256 << 20 and "gpu_memory_utilization" not in made
    else:
        assert made["kv_cache_memory_bytes"] is None and made["gpu_memory_utilization"] == 0.4
    assert arguments(tmp_path, kv_cache_bytes=1 << 20)["kv_cache_memory_bytes"] == 1 << 20


def test_the_rank_is_one_vllm_has_kernels_for(on_cpu, tmp_path):
    assert arguments(tmp_path, max_lora_rank=20)["max_lora_rank"] == 32


def test_tokens_are_drafted_on_cpu_or_when_asked_but_never_in_deterministic_mode(on_cpu, tmp_path):
    assert ("speculative_config" in arguments(tmp_path)) == on_cpu
    assert arguments(tmp_path, draft_tokens=3)["speculative_config"]["num_speculative_tokens"] == 3
    assert "speculative_config" not in arguments(tmp_path, draft_tokens=0)
    assert "speculative_config" not in arguments(tmp_path, draft_tokens=3, deterministic=True)


def test_only_language_layers_are_prepared_unless_vision_is_adapted(on_cpu, tmp_path):
    assert "lm_head" not in arguments(tmp_path)["lora_target_modules"]
    qwen = write_toy_folder(tmp_path, {"model_type": "qwen2_5_vl"})
    made = engine_arguments(str(qwen), ServerConfig(vision_adapters=True))
    assert made["lora_target_modules"] is None and made["enable_tower_connector_lora"]
    qwen3 = write_toy_folder(tmp_path, {"model_type": "qwen3_vl", "vision_config": {"depth": 2}})
    prepared = engine_arguments(str(qwen3), ServerConfig(vision_adapters=True))["lora_target_modules"]
    assert {"down_proj", "qkv", "linear_fc2", "visual.blocks.1.attn.proj"} <= set(prepared)
    assert not {"lm_head", "proj"} & set(prepared)
    llava = write_toy_folder(tmp_path, {"model_type": "llava"})
    with pytest.raises(ServerStartError, match="vision part of a 'llava' model"):
        engine_arguments(str(llava), ServerConfig(vision_adapters=True))


def test_the_environment_names_the_server_and_frees_the_cores(on_cpu, tmp_path):
    made = engine_environment(ServerConfig(cpu_threads=3), tmp_path / "log.json")
    assert made[SERVER_PID_VARIABLE] == str(os.getpid())
    assert made["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert made["VLLM_CPU_KVCACHE_SPACE"] is None
    assert made.get("OMP_NUM_THREADS") == ("3" if on_cpu else None)
    assert made.get("VLLM_ENABLE_V1_MULTIPROCESSING") == ("0" if on_cpu else None)
