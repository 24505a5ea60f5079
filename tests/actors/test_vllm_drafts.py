"""Speculative decoding with the real engine: responses are drawn from the policy, whatever was drafted."""

import numpy as np
import pytest
import pytest_asyncio
from scipy import stats

from actors.sampler import SamplingParams
from tests.actors.tiny_policies import PROMPT, Oracle, prompt_ids, request
from tests.actors.vllm_bench import CONFIG, Bench

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
            seed=number if number % 2 else None,
        )
        for number in range(DRAWS)
        for temperature in TEMPERATURES
    ]
    samples = await bench.server.sample_batch(asked)
    drafted, accepted = await drafted_and_accepted(bench) - before
    assert DRAWS // 4 < accepted < 0.9 * drafted, "too few drafts or too few of one kind"

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


async def test_greedy_answers_are_the_likeliest_tokens_also_where_they_were_drafted(bench):
    asked = request(bench.vocabulary, params=SamplingParams(temperature=0.0, max_tokens=24, stop=()))
    before = await drafted_and_accepted(bench)
    answers = [(await bench.server.sample(asked)).token_ids.tolist() for _ in range(3)]
    _, accepted = await drafted_and_accepted(bench) - before
    assert accepted > 20, "the second and third answer could be foreseen"
    logits = bench.oracle.logits(asked.prompt_token_ids, asked.images, answers[0], None)
    logits[:, list(bench.vocabulary.banned_token_ids)] = -np.inf
    assert answers == [logits.argmax(-1).tolist()] * 3


async def test_a_prompt_that_is_cached_but_for_one_token_is_answered_as_any_other(bench):
    """vLLM fills such a request up with drafts that are none."""
    block = 32
    expanded = len(bench.oracle.expand(prompt_ids(bench.vocabulary)))
    filler = bench.vocabulary.encode(PROMPT * 3)
    ids = [*prompt_ids(bench.vocabulary), *filler[: (1 - expanded) % block]]
    assert len(bench.oracle.expand(ids)) % block == 1
    params = SamplingParams(temperature=1.0, max_tokens=1, stop=())
    asked = request(bench.vocabulary, prompt_token_ids=ids, params=params)
    await bench.server.sample(asked)
    samples = [await bench.server.sample(asked) for _ in range(150)]
    drawn = np.array([sample.token_ids[0] for sample in samples])
    logits = bench.oracle.logits(asked.prompt_token_ids, asked.images, [0], None).double()
    logits[:, list(bench.vocabulary.banned_token_ids)] = -np.inf
    chances = logits.softmax(-1)[0].numpy()
    points = chances.cumsum()[drawn] - chances[drawn] * np.random.default_rng(0).random(len(drawn))
    assert stats.kstest(points, "uniform").pvalue > 1e-4
    np.testing.assert_allclose([float(s.log_probs[0]) for s in samples], np.log(chances[drawn]), atol=1e-4)


async def test_a_row_at_the_limit_of_the_model_neither_ends_early_nor_stops_the_others_drafts(bench):
    limit = CONFIG.max_model_len
    expanded = len(bench.oracle.expand(prompt_ids(bench.vocabulary)))
    filler = (bench.vocabulary.encode(PROMPT) * 99)[: limit - expanded - 20]
    greedy = SamplingParams(temperature=0.0, max_tokens=64, stop=())
    long = request(bench.vocabulary, prompt_token_ids=[*prompt_ids(bench.vocabulary), *filler], params=greedy)
    await bench.server.sample(long)
    before = await drafted_and_accepted(bench)
    again = await bench.server.sample(long)
    _, accepted = await drafted_and_accepted(bench) - before
    assert len(again.token_ids) == 20 and again.finish_reason == "length"
    assert accepted > 10
