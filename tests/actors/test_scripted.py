import pytest

from actors.sampler import SamplingParams
from actors.scripted import ScriptedSampler
from actors.vocabulary import Vocabulary
from tests.actors.toy_folder import EOS, toy_request, write_toy_folder


@pytest.mark.parametrize(
    ("text", "max_tokens", "kept", "reason"),
    [
        ('{a"}', 8, '{a"}', "stop"),
        ("{ab", 8, "{ab", "stop"),
        ("{abc", 2, "{a", "length"),
        ("", 8, "", "stop"),
    ],
)
async def test_the_scripted_text_comes_back_as_a_sample(tmp_path, text, max_tokens, kept, reason):
    vocabulary = Vocabulary.from_folder(write_toy_folder(tmp_path))
    sampler = ScriptedSampler(lambda request: text, vocabulary, adapter_digest=b"d" * 32)
    asked = toy_request(params=SamplingParams(1.0, max_tokens), policy_version=7)
    sample = await sampler.sample(asked)
    assert (sample.text, sample.finish_reason, sample.policy_version) == (kept, reason, 7)
    assert sample.adapter_digest == b"d" * 32
    assert vocabulary.decode(sample.token_ids.tolist()) == kept
    assert len(sample.log_probs) == len(sample.token_ids) and not sample.log_probs.any()
    assert sample.prompt_token_ids.tolist() == list(asked.prompt_token_ids)


async def test_text_without_a_stop_is_closed_by_the_end_token(tmp_path):
    vocabulary = Vocabulary.from_folder(write_toy_folder(tmp_path))
    sampler = ScriptedSampler(lambda request: "ab", vocabulary)
    assert (await sampler.sample(toy_request())).token_ids.tolist() == [*vocabulary.encode("ab"), EOS]


async def test_the_script_sees_the_request(tmp_path):
    sampler = ScriptedSampler(
        lambda request: "a" * len(request.images), Vocabulary.from_folder(write_toy_folder(tmp_path))
    )
    assert (await sampler.sample(toy_request())).text == "a"
