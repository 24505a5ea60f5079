"""The vLLM server, with the real engine, against the oracle. An engine takes a while to start: one per fixture."""

import asyncio
import hashlib
import os
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import pytest_asyncio
import torch

from actors.config import ServerConfig
from actors.sampler import Sample, SamplingParams
from actors.vllm_server import VLLMServer
from protocol.adapter import AdapterPackage, adapter_digest
from protocol.errors import AdapterRejected, RequestRefused, ServerDied, ServerStartError, UnknownPolicyVersion
from tests.actors.tiny_policies import PROMPT, RESPONSE, Oracle, png, prompt_ids, request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

FLOAT32_TOLERANCE = 1e-4
"""Largest |server - oracle| log-prob difference in float32 (seen: 2e-5)."""
BFLOAT16_TOLERANCE, BFLOAT16_MEAN_TOLERANCE = 0.25, 0.03
"""The same in bfloat16, where both sides round on their own (seen: 0.10 and 0.015)."""
CONFIG = ServerConfig(max_model_len=128, max_num_seqs=32, adapter_slots=4, kv_cache_bytes=32 << 20)


def records_of(server_id: str) -> list[str]:
    """Files of adapters on this machine that the server has written."""
    records = Path("/dev/shm").glob("croupier-adapters-*/*/record.json")
    return [text for text in (record.read_text() for record in records) if f'"{server_id}, process' in text]


class Served:
    """A server with two adapters in service, seeds 1 and 2, and the oracle that made them."""

    def __init__(self, folder: Path, config: ServerConfig, server_id: str, scale: float = 0.1):
        # Against float64 only the server's own rounding is left; bfloat16 has to be compared with itself.
        dtype = torch.float64 if config.dtype == "float32" else torch.bfloat16
        self.oracle = Oracle(folder, dtype)
        self.vocabulary = self.oracle.vocabulary
        self.scale = scale
        self.deaths: list[str] = []
        self.server = VLLMServer(folder, config, server_id, on_death=self.deaths.append)

    async def start(self) -> None:
        self.info = await self.server.start()
        for version in (1, 2):
            await self.server.publish(self.package(version))

    def package(self, version: int, seed: int | None = None) -> AdapterPackage:
        return self.oracle.package(version, seed=seed or version, scale=self.scale)

    async def stop(self) -> None:
        status = await self.server.status()
        assert status["alive"], status["cause_of_death"]
        await self.server.stop()
        assert [pid for pid in self.info.process_ids if psutil.pid_exists(pid)] == []
        assert records_of(self.info.server_id) == []
        assert self.deaths == []

    def errors(self, asked: Sequence, samples: Sequence[Sample]) -> np.ndarray:
        """|server - oracle| of every sampled token."""
        gaps = []
        for one, sample in zip(asked, samples, strict=True):
            assert sample.prompt_token_ids.tolist() == self.oracle.expand(one.prompt_token_ids)
            assert sample.policy_version == one.policy_version
            seed = None if one.policy_version < 0 else one.policy_version
            gaps.append(np.abs(sample.log_probs - self.oracle.sampled_log_probs(one, sample.token_ids, seed)))
        return np.concatenate(gaps)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tiny_folder):
    served = Served(tiny_folder, CONFIG, "vllm-test-float32")
    await served.start()
    yield served
    await served.stop()


def mixed_requests(served: Served, temperatures: Sequence[float]) -> list:
    asked = []
    for row in range(24):
        ids = [*prompt_ids(served.vocabulary), *served.vocabulary.encode(PROMPT[:row])]
        params = SamplingParams(temperatures[row % len(temperatures)], max_tokens=16)
        version = (-1, 1, 2)[row // 8]
        asked.append(request(served.vocabulary, row, version, prompt_token_ids=ids, params=params))
    return asked


async def test_each_version_answers_with_its_own_log_probs(served):
    asked = mixed_requests(served, temperatures=(1.0, 0.5, 0.0, 1.5))
    samples = await served.server.sample_batch(asked)
    assert served.errors(asked, samples).max() < FLOAT32_TOLERANCE
    for version in (1, 2):
        assert served.package(version).canaries[0].base_gap > 0.5
    for sample in samples:
        assert sample.text == served.vocabulary.decode(sample.token_ids.tolist())


async def test_greedy_takes_the_most_likely_allowed_token(served):
    asked = request(served.vocabulary, version=1, params=SamplingParams(temperature=0.0, max_tokens=12))
    sample = await served.server.sample(asked)
    logits = served.oracle.logits(asked.prompt_token_ids, asked.images, sample.token_ids.tolist(), 1)
    logits[:, list(served.vocabulary.banned_token_ids)] = -np.inf
    assert logits.argmax(-1).tolist() == sample.token_ids.tolist()


async def test_scores_are_the_oracles(served):
    ids, response = prompt_ids(served.vocabulary), served.vocabulary.encode(RESPONSE)
    for version in (1, 2, None):
        scores = await served.server.score(ids, [png(5)], response, version)
        expected = served.oracle.score(ids, [png(5)], response, version)
        np.testing.assert_allclose(scores, expected, atol=FLOAT32_TOLERANCE)


async def test_banned_ids_are_never_drawn_and_answers_end_at_their_first_stop(served):
    params = SamplingParams(temperature=2.0, max_tokens=16)
    samples = await served.server.sample_batch([request(served.vocabulary, 0, params=params)] * 128)
    drawn = np.concatenate([sample.token_ids for sample in samples])
    assert not set(drawn.tolist()) & set(served.vocabulary.banned_token_ids)
    asked = request(served.vocabulary, 0)
    mass = served.oracle.logits(asked.prompt_token_ids, asked.images, samples[0].token_ids.tolist(), None)
    expected = (mass / 2.0).softmax(-1)[:, list(served.vocabulary.banned_token_ids)].sum(-1).mean() * len(drawn)
    assert expected > 10, "these prompts would hardly draw a banned id anyway"
    stops = set(served.vocabulary.stop_token_ids(("}",)))
    for sample in samples:
        ends = [token_id in stops for token_id in sample.token_ids.tolist()]
        assert not any(ends[:-1]) and ends[-1] == (sample.finish_reason == "stop")
        assert sample.finish_reason == "stop" or len(ends) == 16


async def test_requests_keep_the_version_they_began_under(served):
    long = SamplingParams(temperature=1.0, max_tokens=100, stop=())
    before = [request(served.vocabulary, row, 2, params=long) for row in range(16)]
    running = [asyncio.create_task(served.server.sample(one)) for one in before]
    await asyncio.sleep(0.1)
    assert not all(task.done() for task in running)
    await served.server.publish(served.package(3))
    assert not all(task.done() for task in running), "the publish came too late to test anything"
    after = [request(served.vocabulary, row, 3) for row in range(8)]
    newer = await served.server.sample_batch(after)
    assert served.errors(before, await asyncio.gather(*running)).max() < FLOAT32_TOLERANCE
    assert served.errors(after, newer).max() < FLOAT32_TOLERANCE


def with_weights(package: AdapterPackage, weights: bytes) -> AdapterPackage:
    manifest = replace(package.manifest, digest=adapter_digest(weights, package.config))
    return replace(package, manifest=manifest, weights=pa.py_buffer(weights))


async def test_rejected_adapters_leave_the_engine_and_the_old_versions_serving(served):
    current = (await served.server.status())["policy_version"]
    other = replace(served.package(10, seed=5), canaries=served.package(10, seed=6).canaries)
    with pytest.raises(AdapterRejected, match="nats from the learner's log-probs"):
        await served.server.publish(other)
    foreign = served.package(11, seed=5)
    renamed = bytes(foreign.weights).replace(b"self_attn.q_proj", b"self_attn.x_proj")
    with pytest.raises(AdapterRejected, match="policy-v11"):
        await served.server.publish(with_weights(foreign, renamed))
    status = await served.server.status()
    assert status["policy_version"] == current and status["alive"]
    asked = mixed_requests(served, temperatures=(1.0,))
    assert served.errors(asked, await served.server.sample_batch(asked)).max() < FLOAT32_TOLERANCE


async def test_a_retired_version_is_gone_and_its_slot_is_used_again(served):
    served_before = (await served.server.status())["live_versions"]
    for version in (20, 21, 22, 23):
        await served.server.publish(served.package(version, seed=7))
    assert (await served.server.status())["live_versions"] == [20, 21, 22, 23]
    with pytest.raises(UnknownPolicyVersion, match=f"{served_before[0]} is retired"):
        await served.server.sample(request(served.vocabulary, version=served_before[0]))
    await served.server.retire(20)
    sample = await served.server.sample(request(served.vocabulary, version=21))
    expected = served.oracle.sampled_log_probs(request(served.vocabulary), sample.token_ids, 7)
    np.testing.assert_allclose(sample.log_probs, expected, atol=FLOAT32_TOLERANCE)


async def test_what_vllm_alone_notices_is_refused_as_well(served):
    ids = prompt_ids(served.vocabulary)
    too_long = [*ids, *[ids[-1]] * (125 - len(ids))]
    with pytest.raises(RequestRefused, match="vLLM refuses"):
        await served.server.sample(request(served.vocabulary, prompt_token_ids=too_long))
    assert (await served.server.status())["alive"]


async def test_a_request_that_is_given_up_does_not_disturb_the_others(served):
    long = SamplingParams(temperature=1.0, max_tokens=100, stop=())
    version = (await served.server.status())["policy_version"]
    given_up = asyncio.create_task(served.server.sample(request(served.vocabulary, 0, version, params=long)))
    await asyncio.sleep(0.05)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await served.server.sample(request(served.vocabulary, 1, version))
    assert (await served.server.status())["slots"][version]["users"] == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def llava_bfloat16(tiny_folder_of):
    config = CONFIG.model_copy(update={"dtype": "bfloat16"})
    served = Served(tiny_folder_of("llava"), config, "vllm-test-bfloat16", scale=0.05)
    await served.start()
    yield served
    await served.stop()


async def test_bfloat16_agrees_within_its_tolerance(llava_bfloat16):
    asked = mixed_requests(llava_bfloat16, temperatures=(1.0, 0.7))
    errors = llava_bfloat16.errors(asked, await llava_bfloat16.server.sample_batch(asked))
    assert errors.max() < BFLOAT16_TOLERANCE and errors.mean() < BFLOAT16_MEAN_TOLERANCE
    assert errors.max() > FLOAT32_TOLERANCE, "this was not bfloat16"


async def test_scoring_beside_sampling_does_not_kill_the_engine(llava_bfloat16):
    # It does on a Llama text model when vLLM prepares the output layer for adapters.
    ids, response = prompt_ids(llava_bfloat16.vocabulary), llava_bfloat16.vocabulary.encode(RESPONSE)
    sampling = asyncio.gather(
        *(llava_bfloat16.server.sample(request(llava_bfloat16.vocabulary, n, 1)) for n in range(16))
    )
    await asyncio.gather(*(llava_bfloat16.server.score(ids, [png(n)], response, 1) for n in range(8)))
    assert len(await sampling) == 16


async def test_vision_adapters_are_refused_where_vllm_gets_them_wrong(tiny_folder_of):
    config = CONFIG.model_copy(update={"vision_adapters": True})
    with pytest.raises(ServerStartError, match="does not adapt the vision part of a 'llava' model"):
        await VLLMServer(tiny_folder_of("llava"), config, "vllm-test-llava-vision").start()


def fingerprint(samples: Sequence[Sample]) -> str:
    parts = (sample.token_ids.tobytes() + sample.log_probs.tobytes() for sample in samples)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def seeded_batches(served: Served) -> list[list]:
    params = SamplingParams(temperature=0.7, max_tokens=24)
    return [
        [request(served.vocabulary, 100 * batch + row, 2, params=params, seed=row) for row in range(48 - 9 * batch)]
        for batch in range(3)
    ]


async def test_deterministic_answers_are_bit_equal_across_fresh_engines_and_histories(tiny_folder):
    config = CONFIG.model_copy(update={"deterministic": True})
    fingerprints = []
    for run in range(2):
        served = Served(tiny_folder, config, f"vllm-test-deterministic-{run}")
        await served.start()
        if run:  # another past: other batches, single requests, caches that were full
            noise = [request(served.vocabulary, row, 1, seed=row + 7) for row in range(20)]
            await asyncio.gather(served.server.sample_batch(noise), *map(served.server.sample, noise[:3]))
        batches = seeded_batches(served)
        fingerprints.append([fingerprint(await served.server.sample_batch(batch)) for batch in batches])
        if run:
            await death_is_noticed(served)
        else:
            again = [fingerprint(await served.server.sample_batch(batch)) for batch in batches]
            assert again == fingerprints[0]
            errors = served.errors(batches[0], await served.server.sample_batch(batches[0]))
            assert errors.max() < FLOAT32_TOLERANCE
            await served.stop()
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints[0])) == 3


async def death_is_noticed(served: Served) -> None:
    """Kills the engine under running requests; here, so that no further engine has to start for it."""
    running = asyncio.create_task(served.server.sample_batch(seeded_batches(served)[0]))
    await asyncio.sleep(0.1)
    for pid in served.info.process_ids:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(ServerDied, match="ended with code -9"):
        await running
    assert len(served.deaths) == 1 and "ended with code -9" in served.deaths[0]
    assert (await served.server.status())["alive"] is False
    await served.server.stop()
    assert records_of(served.info.server_id) == []


async def test_a_model_that_the_engine_cannot_load_is_explained(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "broken")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])  # a download that was cut
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(ServerStartError) as caught:
        await VLLMServer(folder, CONFIG, "vllm-test-broken").start()
    assert str(folder) in caught.value.message and "Safetensor" in caught.value.message
    assert "model folder is complete" in caught.value.cure
    left = [p for p in psutil.Process().children(recursive=True) if p not in before]
    assert [p for p in left if "resource_tracker" not in " ".join(p.cmdline())] == []


async def test_a_start_that_takes_too_long_is_ended(tiny_folder):
    config = CONFIG.model_copy(update={"start_timeout_s": 1.0})
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    began = time.monotonic()
    with pytest.raises(ServerStartError, match="not up within 1 s"):
        await VLLMServer(tiny_folder, config, "vllm-test-slow").start()
    assert time.monotonic() - began < 20
    await asyncio.sleep(1.0)
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert [p for p in left if "resource_tracker" not in " ".join(p.cmdline())] == []
