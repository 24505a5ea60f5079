"""The transformers server against an oracle that scores row by row, without padding, cache or generate()."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import torch

from actors.config import ServerConfig
from actors.sampler import SamplingParams
from actors.transformers_server import TransformersServer
from protocol.errors import AdapterRejected, RequestRefused, ServerStartError
from tests.actors.conftest import FAMILIES
from tests.actors.tiny_policies import PROMPT, RESPONSE, Oracle, png, prompt_ids, request

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOLERANCE = 1e-4
CONFIG = ServerConfig(kind="transformers", device="cpu", max_model_len=128, adapter_slots=4)


class Served:
    """A server with two loud adapters in service, seeds 1 and 2, and the oracle that made them."""

    def __init__(self, folder: Path, config: ServerConfig):
        self.oracle = Oracle(folder, torch.float64)
        self.vocabulary = self.oracle.vocabulary
        self.server = TransformersServer(folder, config, "oracle-test")

    async def start(self) -> None:
        await self.server.start()
        for version in (1, 2):
            await self.server.publish(self.oracle.package(version, seed=version))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FAMILIES)
async def served(request, tiny_folder_of):
    served = Served(tiny_folder_of(request.param), CONFIG)
    await served.start()
    yield served
    await served.server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deterministic(tiny_folder):
    served = Served(tiny_folder, CONFIG.model_copy(update={"deterministic": True, "max_num_seqs": 4}))
    await served.start()
    yield served
    await served.server.stop()


async def test_every_row_of_a_mixed_batch_is_what_the_oracle_says(served):
    # Prompts of several lengths (so rows are padded), versions and temperatures, in one call.
    asked = []
    for row in range(12):
        ids = [*prompt_ids(served.vocabulary), *served.vocabulary.encode(PROMPT[: row * 3])]
        params = SamplingParams([1.0, 0.5, 0.0][row % 3], max_tokens=12)
        version = (-1, 1, 2)[row // 4]
        asked.append(request(served.vocabulary, row, version, prompt_token_ids=ids, params=params))
    for one, sample in zip(asked, await served.server.sample_batch(asked), strict=True):
        seed = None if one.policy_version < 0 else one.policy_version
        expected = served.oracle.sampled_log_probs(one, sample.token_ids, seed)
        np.testing.assert_allclose(sample.log_probs, expected, atol=TOLERANCE)
        assert sample.prompt_token_ids.tolist() == served.oracle.expand(one.prompt_token_ids)
        assert sample.text == served.vocabulary.decode(sample.token_ids.tolist())


async def test_greedy_takes_the_most_likely_allowed_token(served):
    asked = request(served.vocabulary, params=SamplingParams(temperature=0.0, max_tokens=8), version=1)
    sample = await served.server.sample(asked)
    logits = served.oracle.logits(asked.prompt_token_ids, asked.images, sample.token_ids.tolist(), 1)
    logits[:, list(served.vocabulary.banned_token_ids)] = -np.inf
    assert logits.argmax(-1).tolist() == sample.token_ids.tolist()


async def test_draws_follow_the_tempered_distribution(served):
    draws = 600
    asked = [request(served.vocabulary, params=SamplingParams(2.0, max_tokens=1))] * draws
    drawn = [int(sample.token_ids[0]) for sample in await served.server.sample_batch(asked)]
    logits = served.oracle.logits(asked[0].prompt_token_ids, asked[0].images, [drawn[0]], None)[0]
    logits[list(served.vocabulary.banned_token_ids)] = -1e9
    tempered, plain = (logits / 2.0).softmax(-1).numpy(), logits.softmax(-1).numpy()
    # The mean log-probability of the draws, against its expectation under either distribution.
    surprise = np.log(np.maximum(tempered, 1e-30))
    standard_error = np.sqrt((tempered @ surprise**2 - (tempered @ surprise) ** 2) / draws)
    assert abs(surprise[drawn].mean() - tempered @ surprise) < 4 * standard_error
    assert abs(plain @ surprise - tempered @ surprise) > 8 * standard_error


async def test_scores_are_the_oracles(served):
    response = served.vocabulary.encode(RESPONSE)
    ids = prompt_ids(served.vocabulary)
    for version in (1, 2, None):
        scores = await served.server.score(ids, [png(5)], response, version)
        np.testing.assert_allclose(scores, served.oracle.score(ids, [png(5)], response, version), atol=TOLERANCE)


async def test_banned_ids_are_never_drawn_and_rows_end_at_their_first_stop(served):
    params = SamplingParams(temperature=2.0, max_tokens=16)
    samples = await served.server.sample_batch([request(served.vocabulary, 0, params=params) for _ in range(64)])
    drawn = np.concatenate([sample.token_ids for sample in samples])
    assert len(drawn) > 500 and not set(drawn.tolist()) & set(served.vocabulary.banned_token_ids)
    stops = set(served.vocabulary.stop_token_ids(("}",)))
    for sample in samples:
        ends = [token_id in stops for token_id in sample.token_ids.tolist()]
        assert not any(ends[:-1]) and ends[-1] == (sample.finish_reason == "stop")
        assert sample.finish_reason == "stop" or len(ends) == 16


async def test_an_adapter_that_fails_its_canary_is_rejected_and_the_rest_serves_on(served):
    package = served.oracle.package(3, seed=1)
    object.__setattr__(package.canaries[0], "log_probs", package.canaries[0].log_probs + 1)
    with pytest.raises(AdapterRejected, match="1 nats"):
        await served.server.publish(package)
    sample = await served.server.sample(request(served.vocabulary, version=2))
    expected = served.oracle.sampled_log_probs(request(served.vocabulary), sample.token_ids, 2)
    np.testing.assert_allclose(sample.log_probs, expected, atol=TOLERANCE)


async def test_a_prompt_that_grows_too_long_is_refused(served):
    ids = [*prompt_ids(served.vocabulary), *served.vocabulary.encode("-" * 60)]
    ids = [*ids, *[ids[-1]] * (127 - len(ids))]
    with pytest.raises(RequestRefused, match="with its images, max_model_len is 128"):
        await served.server.sample(request(served.vocabulary, prompt_token_ids=ids))


async def test_a_response_is_cut_where_the_context_ends(served):
    ids = prompt_ids(served.vocabulary)
    ids = [*ids, *[ids[-1]] * (123 - len(served.oracle.expand(ids)))]
    params = SamplingParams(temperature=1.0, max_tokens=64, stop=())
    sample = await served.server.sample(request(served.vocabulary, prompt_token_ids=ids, params=params, seed=3))
    assert len(sample.prompt_token_ids) == 123
    assert len(sample.token_ids) == 5 or sample.finish_reason == "stop"


async def test_equal_seeds_give_bit_equal_answers(deterministic):
    asked = [request(deterministic.vocabulary, row, 1 + row % 2, seed=row) for row in range(10)]
    first = await deterministic.server.sample_batch(asked)
    await asyncio.gather(*(deterministic.server.sample(one) for one in asked[:3]))
    second = await deterministic.server.sample_batch(asked)
    for one, other in zip(first, second, strict=True):
        assert one.token_ids.tobytes() == other.token_ids.tobytes()
        assert one.log_probs.tobytes() == other.log_probs.tobytes()
    assert len({sample.text for sample in first}) > 5


async def test_retiring_frees_the_adapter(deterministic):
    await deterministic.server.publish(deterministic.oracle.package(3, seed=3))
    await deterministic.server.retire(1)
    assert (await deterministic.server.status())["live_versions"] == [2, 3]
    sample = await deterministic.server.sample(request(deterministic.vocabulary, version=3, seed=0))
    expected = deterministic.oracle.sampled_log_probs(request(deterministic.vocabulary), sample.token_ids, 3)
    np.testing.assert_allclose(sample.log_probs, expected, atol=TOLERANCE)


async def test_a_folder_without_weights_is_a_start_error(tiny_folder, tmp_path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_folder / name).read_bytes())
    with pytest.raises(ServerStartError, match="transformers cannot load"):
        await TransformersServer(tmp_path, CONFIG, "broken").start()
