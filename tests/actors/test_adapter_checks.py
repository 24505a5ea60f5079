import json
import struct
from dataclasses import replace

import pyarrow as pa
import pytest

from actors.adapter_checks import check_digest, check_package, header_bytes, tensor_names
from protocol.adapter import AdapterPackage, adapter_digest
from protocol.errors import AdapterRejected
from tests.actors.fake_engine import LORA_NAME, fake_package

VISION = "base_model.model.model.visual.blocks.0.attn.qkv.lora_A.weight"


def check(package, **limits):
    check_package(package, **({"max_rank": 16, "vision_adapters": False} | limits))


def with_bytes(weights: bytes, config: bytes) -> AdapterPackage:
    package = fake_package(1)
    manifest = replace(package.manifest, digest=adapter_digest(weights, config))
    return replace(package, manifest=manifest, weights=pa.py_buffer(weights), config=config)


def test_a_plain_language_adapter_passes():
    check(fake_package(0))
    assert tensor_names(fake_package(0)) == [LORA_NAME]


def test_a_vision_adapter_passes_where_the_server_expects_one():
    check(fake_package(0, name=VISION), vision_adapters=True)


@pytest.mark.parametrize(
    ("package", "complaint"),
    [
        (fake_package(-1), "policy version -1 is negative"),
        (replace(fake_package(1), canaries=()), "without a canary"),
        (fake_package(1, r=17), "rank 17, this server holds ranks 1 to 16"),
        (fake_package(1, rank_pattern={"q_proj": 32}), "rank 32"),
        (fake_package(1, r=0), "rank 0"),
        (fake_package(1, peft_type="IA3"), "peft_type 'IA3'"),
        (fake_package(1, bias="all"), "bias 'all'"),
        (fake_package(1, use_dora=True), "use_dora True"),
        (fake_package(1, name="value_head.0.weight"), "'value_head.0.weight', which is no PEFT LoRA matrix"),
        (fake_package(1, name=LORA_NAME.replace("lora_A.", "lora_A.default.")), "without the adapter's name"),
        (fake_package(1, name=VISION), "adapts the vision part"),
        (fake_package(1, name="base_model.model.lm_head.lora_A.weight"), "no output layer"),
        (with_bytes(b"cut", b'{"peft_type": "LORA", "r": 8}'), "no safetensors file"),
        (with_bytes(b"\xff" * 16, b'{"peft_type": "LORA", "r": 8}'), "no safetensors file"),
        (with_bytes(b"", b"no json"), "adapter_config.json is not JSON"),
    ],
)
def test_what_an_engine_would_load_wrongly_is_rejected(package, complaint):
    with pytest.raises(AdapterRejected, match=complaint):
        check(package)


@pytest.mark.parametrize("change", [{"config": b"{ }"}, {"weights": pa.py_buffer(b"cut")}])
def test_bytes_that_the_manifest_does_not_name_are_rejected(change):
    check_digest(fake_package(1))
    with pytest.raises(AdapterRejected, match="policy version 1: .* do not have the digest .* changed or cut"):
        check_digest(replace(fake_package(1), **change))


def test_the_header_is_everything_before_the_tensors():
    package = fake_package(1)
    header = header_bytes(package)
    assert bytes(package.weights)[len(header) :] == struct.pack("<f", 1.0)
    assert json.loads(header[8:])[LORA_NAME]["shape"] == [1]
