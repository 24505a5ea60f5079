"""Learners and servers of the publish benchmark, called in this process."""

import asyncio
import time

import pytest

from actors.config import ServerConfig
from cluster.bench.publish_actors import STUB, VLLM, BenchLearner, BenchServer, StubLearner
from cluster.bench.publish_stream import Span
from cluster.config.env import EnvConfig
from cluster.stages.model import corpus_of, make_canaries
from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import TinyVLMConfig
from learner.tiny.corpus import TinyCorpus
from tests.actors.toy_folder import write_toy_folder

ENV = EnvConfig(id="gym_cards/NumberLine-v0")


async def test_a_stub_learner_publishes_to_a_stub_engine(tmp_path):
    server = BenchServer(str(write_toy_folder(tmp_path / "model")), ServerConfig(max_model_len=32), "bench-0", STUB)
    assert await server.start() == "stub"
    try:
        learner, digests = StubLearner(), set()
        learner.start(200_000)
        for version in (0, 1):
            learner.step(version)
            exported, package = learner.export(version)
            word = await server.publish(package)
            assert word.acknowledgement.digest == exported.manifest.digest
            assert exported.span.ended_s <= word.span.began_s < word.span.ended_s <= time.monotonic()
            digests.add(exported.manifest.digest)
        assert len(digests) == 2, "every step gives another adapter"
        await server.publish(learner.tiny(2))
        await server.retire(1)
    finally:
        await server.stop()


async def test_only_vllm_hands_over_its_tokens_one_by_one(tmp_path):
    server = BenchServer(str(write_toy_folder(tmp_path / "model")), ServerConfig(max_model_len=32), "bench-0", STUB)
    with pytest.raises(AssertionError, match="only vLLM"):
        await server.gaps([Span(0.0, 1.0)])


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_tokens_of_a_real_engine_come_one_by_one_while_adapters_are_published(tmp_path):
    model = str(build_tiny_vlm(TinyVLMConfig(), TinyCorpus(*corpus_of(ENV, 0)), 0, tmp_path / "model"))
    canaries = make_canaries(ENV, model, 0)
    learner = BenchLearner()
    learner.start(model, canaries)
    server = BenchServer(model, ServerConfig(max_num_seqs=4, kv_cache_bytes=32 << 20), "bench-0", VLLM)
    assert (await server.start()).startswith("vllm")
    try:
        words, began_s = [], time.monotonic()
        for version in (0, 1):
            learner.step(version)
            words.append(await server.publish(learner.export(version)[1]))
            if version == 0:
                await server.talk(canaries[0], streams=2, max_tokens=40)
                await asyncio.sleep(1.0)
        await asyncio.sleep(1.0)
        everything = Span(began_s, time.monotonic())
        before, during, whole = await server.gaps([Span(0.0, 1.0), words[1].span, everything])
        assert before == [] and 0 < len(during) < len(whole)
        assert len(whole) > 40 and all(0 <= gap < everything.length_s for gap in whole)
        assert {word.acknowledgement.base_gap > 0.01 for word in words} == {True}, "a step moves the log-probs"
        assert words[0].acknowledgement.digest != words[1].acknowledgement.digest
    finally:
        await server.stop()
