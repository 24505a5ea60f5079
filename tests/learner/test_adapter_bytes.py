import hashlib

import pytest
import torch
from safetensors.torch import load, save

from learner import adapter_bytes
from learner.adapter_bytes import tensor_bytes

TENSORS = {
    "b.weight": torch.randn(7, 3, generator=torch.Generator().manual_seed(0)),
    "a.weight": torch.randn(4, 5, generator=torch.Generator().manual_seed(1)).T,
    "ä": torch.tensor(1.5, dtype=torch.float64),
    "B": torch.randn(2, 0, 3),
    "c": torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(2)).bfloat16().requires_grad_(),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("names", [list(TENSORS), ["a.weight"], []])
@pytest.mark.parametrize("piece", [1, 50, 4 << 20])
def test_bytes_are_the_library_s_and_the_hash_is_theirs(monkeypatch, dtype, names, piece):
    monkeypatch.setattr(adapter_bytes, "_HASHED_AT_ONCE", piece)
    tensors = {name: TENSORS[name] for name in names}
    content, sha256 = tensor_bytes(tensors, dtype)
    assert bytes(content) == save({k: v.detach().to("cpu", dtype).contiguous() for k, v in tensors.items()})
    assert sha256 == hashlib.sha256(content).digest()
    assert not content.is_mutable


def test_the_bytes_do_not_follow_the_tensors():
    tensor = torch.ones(4)
    content, _ = tensor_bytes({"a": tensor}, torch.float32)
    tensor += 1
    assert load(bytes(content))["a"].tolist() == [1.0] * 4


def test_types_that_servers_do_not_hold_are_refused():
    with pytest.raises(KeyError, match="int8"):
        tensor_bytes({"a": torch.ones(1)}, torch.int8)
