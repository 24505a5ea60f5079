"""Speculative decoding with the real engine: responses are drawn from the policy, whatever was drafted."""

import numpy as np
import pytest
import pytest_asyncio
from scipy import stats

from actors.sampler import SamplingParams
from tests.actors.tiny_policies import Oracle, request
from tests.actors.vllm_bench import Bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

DRAWS = 700
TEMPERATURES = (0.35, 0.5)  # low enough that drafts come true often, and not always


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tiny_folder):
    bench = Bench(tiny_folder, Oracle(tiny_folder), vision=False)
    await bench.server.start()
    yield bench
    await bench.server.stop()


async def drafted_and_accepted(bench: Bench) -> np.ndarray:
    (counts,) = await bench.llm.collective_rpc("croupier_drafts")
    return np.array(counts)


async def test_responses_are_distributed_as_the_policy_and_carry_its_log_probs(bench):
    (version,) = await bench.publish(1)
    before = await drafted_and_accepted(bench)
    asked = [
        request(
            bench.vocabulary,
            version=version,
            params=SamplingParams(temperature, max_tokens=6, stop=()),
            seed=number,
        )
        for number in range(DRAWS)
        for temperature in TEMPERATURES
    ]
    samples = await bench.server.sample_batch(asked)
    drafted, accepted = await drafted_and_accepted(bench) - before
    assert 0.1 * drafted < accepted < 0.9 * drafted and accepted > DRAWS, "too few drafts or too few of one kind"

    # Each token's cumulative probability, a random point within its own share, is uniform (Rosenblatt 1952).
    random = np.random.default_rng(0)
    points = []
    for one, sample in zip(asked, samples, strict=True):
        response = sample.token_ids.tolist()
        logits = bench.oracle.logits(one.prompt_token_ids, one.images, response, 1).double()
        logits[:, list(bench.vocabulary.banned_token_ids)] = -np.inf
        chances = (logits / one.params.temperature).softmax(-1).numpy()
        rows = np.arange(len(response))
        own = chances[rows, response]
        np.testing.assert_allclose(sample.log_probs, np.log(own), atol=1e-4)
        below = chances.cumsum(-1)[rows, response] - own
        points.append(below + own * random.random(len(response)))
    for name, group in (("first", slice(0, 1)), ("later", slice(1, None))):
        for offset, temperature in enumerate(TEMPERATURES):
            values = np.concatenate([row[group] for row in points[offset :: len(TEMPERATURES)]])
            assert stats.kstest(values, "uniform").pvalue > 1e-4, f"{name} tokens at temperature {temperature}"


async def test_greedy_answers_are_the_same_with_and_without_drafts(bench):
    params = SamplingParams(temperature=0.0, max_tokens=24, stop=())
    first, *others = await bench.server.sample_batch([request(bench.vocabulary, params=params)] * 12)
    logits = bench.oracle.logits(
        request(bench.vocabulary).prompt_token_ids,
        request(bench.vocabulary).images,
        first.token_ids.tolist(),
        None,
    )
    logits[:, list(bench.vocabulary.banned_token_ids)] = -np.inf
    assert logits.argmax(-1).tolist() == first.token_ids.tolist()
    assert all(other.token_ids.tolist() == first.token_ids.tolist() for other in others)
