import hashlib

import numpy as np
import pyarrow as pa
import pytest

from protocol.adapter import AdapterManifest, AdapterPackage, Canary, adapter_digest, adapter_name

WEIGHTS, CONFIG = b"safetensors", b"{}"


def package(weights: bytes = WEIGHTS, config: bytes = CONFIG) -> AdapterPackage:
    digest = adapter_digest(WEIGHTS, CONFIG)
    manifest = AdapterManifest(7, digest, 16, 32.0, ("q_proj", "v_proj"), len(WEIGHTS))
    return AdapterPackage(manifest, pa.py_buffer(weights), config, ())


def canary(log_probs: list[float], base: list[float]) -> Canary:
    values = (np.array(v, dtype=np.float32) for v in (log_probs, base))
    return Canary((1, 2), (), (3,) * len(log_probs), *values)


def test_the_served_name_tells_the_version():
    assert adapter_name(12) == "policy-v12"
    assert package().manifest.name == "policy-v7"


def test_the_digest_is_sha256_over_the_digests_of_weights_and_configuration():
    parts = hashlib.sha256(WEIGHTS).digest() + hashlib.sha256(CONFIG).digest()
    assert adapter_digest(WEIGHTS, CONFIG) == hashlib.sha256(parts).digest()
    assert adapter_digest(pa.py_buffer(WEIGHTS), CONFIG) == adapter_digest(WEIGHTS, CONFIG)


@pytest.mark.parametrize(
    ("weights", "config", "matches"),
    [
        (WEIGHTS, CONFIG, True),
        (b"safetensorS", CONFIG, False),
        (WEIGHTS, b"{ }", False),
        (WEIGHTS + b"{", b"}", False),  # bytes may not move from one file to the other
        (b"", b"", False),
    ],
)
def test_changed_bytes_are_noticed(weights, config, matches):
    assert package(weights, config).digest_matches() is matches


@pytest.mark.parametrize(
    ("log_probs", "base", "gap"),
    [
        ([-1.0, -2.0], [-1.0, -2.0], 0.0),
        ([-1.0, -2.0], [-1.25, -2.0], 0.25),
        ([-1.0, -2.0], [-0.75, -3.0], 1.0),
        ([], [], 0.0),
    ],
)
def test_base_gap_is_the_largest_difference_at_any_token(log_probs, base, gap):
    assert canary(log_probs, base).base_gap == gap
