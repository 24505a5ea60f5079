"""Learner and vLLM compute the same log-probs in every family: base weights, every scope of adapter, several frame
sizes. One engine per family."""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch

from actors.config import ServerConfig
from actors.prompting import PromptEncoder
from actors.sampler import Sample, SampleRequest, SamplingParams
from actors.vocabulary import banned_token_ids
from learner.adapter_export import build_package
from learner.batching import collate_tokens
from learner.config import LoraConfig, Scope
from learner.policy import Policy
from learner.tiny.config import Family
from protocol.adapter import CanaryPrompt
from protocol.trajectory import digest_of
from tests.learner.families.pictures import SHAPES, picture
from tests.learner.test_policy import perturb
from tests.learner.tiny.number_line import PROMPT
from tests.learner.world import World

TOLERANCE = 1e-4
"""Largest difference of a token's log-prob in nats, float32 on both sides."""
DEADLINE_S = 240
BASE = -1


@dataclass(frozen=True)
class Adapter:
    version: int
    lora: LoraConfig


def adapters_of(family: Family) -> list[Adapter]:
    """vLLM adapts the vision part of the Qwen families only."""
    beyond: tuple[Scope, ...] = ("language+projector", "all") if family.startswith("qwen") else ()
    scopes: tuple[Scope, ...] = ("language", *beyond)
    return [Adapter(n, LoraConfig(rank=4, alpha=8, targets=scope)) for n, scope in enumerate(scopes)]


def policy_of(make_policy, world: World, **settings: Any) -> Policy:
    policy = make_policy(world, banned_token_ids=banned_token_ids(world.folder), **settings)
    perturb(policy, scale=0.1)
    return policy


def requests_of(encoder: PromptEncoder, version: int) -> list[SampleRequest]:
    """One per frame shape and temperature, and one with two frames of different shapes."""
    params = [SamplingParams(temperature, max_tokens=16, stop=()) for temperature in (1.0, 0.6, 0.0)]
    shown: list[tuple[bytes, ...]] = [(picture(*shape, seed),) for seed, shape in enumerate(SHAPES * 2)]
    shown.append((picture(*SHAPES[1]), picture(*SHAPES[2])))
    return [
        SampleRequest(
            prompt_token_ids=encoder.encode(PROMPT[: 20 + n], len(pngs)),
            images=pngs,
            image_digests=tuple(map(digest_of, pngs)),
            params=params[n % len(params)],
            policy_version=version,
        )
        for n, pngs in enumerate(shown)
    ]


@torch.no_grad()
def learner_log_probs(policy: Policy, asked: SampleRequest, sample: Sample, *, base: bool) -> np.ndarray:
    frames = dict(zip(asked.image_digests, asked.images, strict=True))
    batch = collate_tokens(
        [sample.prompt_token_ids],
        [sample.token_ids],
        [asked.image_digests],
        frames,
        policy.backbone.pad_id,
        np.array([asked.params.temperature], dtype=np.float32),
    )
    if base:
        with policy.adapter_off():
            return policy.log_probs(batch)[0].numpy()
    return policy.log_probs(batch)[0].numpy()


async def compare(
    world: World, policies: dict[int, Policy], dtype: Literal["float32", "bfloat16"] = "float32"
) -> dict[int, np.ndarray]:
    """Differences of all sampled tokens by policy version."""
    from actors.vllm_server import VLLMServer

    any_policy = policies[0]
    counts = {shape: any_policy.backbone.images.image_tokens(*frame_of(shape)) for shape in SHAPES}
    encoder = PromptEncoder(world.folder, counts)
    config = ServerConfig(
        dtype=dtype,
        max_model_len=512,
        max_images_per_prompt=2,
        adapter_slots=len(policies) + 1,
        kv_cache_bytes=32 << 20,
        vision_adapters=len(policies) > 1,
    )
    server = VLLMServer(world.folder, config, f"vllm-test-{world.folder.name}")
    await server.start()
    try:
        for version, policy in policies.items():
            canary = CanaryPrompt(encoder.encode(PROMPT, 1), (picture(*SHAPES[0]),), world.response((1, 4)).tolist())
            await server.publish(build_package(policy, world.folder, version, [canary]))
        gaps = {}
        for version in (BASE, *policies):
            policy = policies.get(version, any_policy)
            asked = requests_of(encoder, version)
            gaps[version] = np.concatenate(
                [
                    gap_of(encoder, policy, one, sample, base=version == BASE)
                    for one, sample in zip(asked, await server.sample_batch(asked), strict=True)
                ]
            )
        return gaps
    finally:
        await server.stop()


def frame_of(shape: tuple[int, int]) -> tuple[list[bytes], dict[bytes, bytes]]:
    png = picture(*shape)
    return [digest_of(png)], {digest_of(png): png}


def gap_of(encoder: PromptEncoder, policy: Policy, asked: SampleRequest, sample: Sample, *, base: bool) -> np.ndarray:
    sizes = [size_of(png) for png in asked.images]
    np.testing.assert_array_equal(encoder.expand(asked.prompt_token_ids, sizes), sample.prompt_token_ids)
    return sample.log_probs - learner_log_probs(policy, asked, sample, base=base)


def size_of(png: bytes) -> tuple[int, int]:
    """Height and width from the header of a PNG."""
    return int.from_bytes(png[20:24]), int.from_bytes(png[16:20])


@pytest.mark.slow
@pytest.mark.timeout(DEADLINE_S)
@pytest.mark.parametrize("family", get_args(Family))
def test_learner_and_vllm_agree(family, world_of, make_policy):
    pytest.importorskip("vllm")
    world = world_of(family)
    policies = {one.version: policy_of(make_policy, world, lora=one.lora) for one in adapters_of(family)}
    gaps = asyncio.run(compare(world, policies))
    worst = {version: float(np.abs(gap).max()) for version, gap in gaps.items()}
    print(family, {version: f"{gap:.1e}" for version, gap in worst.items()})
    assert worst.keys() == {BASE, *policies}
    assert max(worst.values()) < TOLERANCE, worst
