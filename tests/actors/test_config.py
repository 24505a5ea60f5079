import pytest
from pydantic import ValidationError

from actors.config import ServerConfig


@pytest.mark.parametrize(("rank", "bucket"), [(1, 1), (2, 8), (8, 8), (9, 16), (129, 256), (512, 512)])
def test_ranks_are_rounded_up_to_what_vllm_has(rank, bucket):
    assert ServerConfig(max_lora_rank=rank).lora_rank_bucket == bucket


def test_tolerance_follows_the_dtype_unless_it_is_set():
    assert ServerConfig().tolerance == 1e-3
    assert ServerConfig(dtype="bfloat16").tolerance == 0.25
    assert ServerConfig(dtype="bfloat16", canary_tolerance=0.01).tolerance == 0.01


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "transformers", "tensor_parallel": 2},
        {"kind": "transformers", "draft_tokens": 4},
        {"draft_tokens": 33},
        {"device": "cpu", "tensor_parallel": 2},
        {"adapter_slots": 1},
        {"max_lora_rank": 513},
        {"canary_tolerance": 0.0},
        {"gpu_memory": 0.5},
    ],
)
def test_contradictions_and_unknown_keys_fail(fields):
    with pytest.raises(ValidationError):
        ServerConfig(**fields)
