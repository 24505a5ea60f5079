import pytest

from actors.vllm_diagnosis import start_error
from protocol.errors import ServerStartError


@pytest.mark.parametrize(
    ("error", "last_words", "cure"),
    [
        (RuntimeError("Engine core failed"), "torch.OutOfMemoryError: CUDA out of memory", "lower gpu_memory"),
        (ValueError("No available memory for the cache blocks."), "", "raise kv_cache_bytes"),
        (ValueError("Model architectures ['X'] are not supported for now."), "", "kind: transformers"),
        (RuntimeError("Engine core failed"), "SafetensorError: safetensors header", "model folder is complete"),
        (ModuleNotFoundError("No module named 'vllm'"), "", "install vLLM"),
        (RuntimeError("what"), "", "croupier doctor"),
    ],
)
def test_every_cause_has_its_cure(error, last_words, cure):
    told = start_error("models/x", error, last_words, "")
    assert cure in told.cure
    assert "models/x" in told.message and (last_words or str(error)) in told.message


def test_the_last_lines_are_part_of_the_message():
    assert "line one\nline two" in start_error("m", RuntimeError("x"), "", "line one\nline two").message


def test_our_own_errors_pass_unchanged():
    error = ServerStartError("too many ids", "trim")
    assert start_error("m", error, "", "") is error
