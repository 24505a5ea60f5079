import pytest

from actors.config import ServerConfig
from actors.intake import Intake
from actors.sampler import SamplingParams
from actors.vocabulary import Vocabulary
from protocol.errors import RequestRefused
from tests.actors.toy_folder import EOS, IMAGE, PAD, SIZE, png_bytes, toy_request, write_toy_folder


@pytest.fixture
def vocabulary(tmp_path):
    return Vocabulary.from_folder(write_toy_folder(tmp_path))


@pytest.fixture
def intake(vocabulary):
    return Intake(vocabulary, ServerConfig(max_model_len=16))


def test_a_sound_request_becomes_a_draw(intake, vocabulary):
    draw = intake.draw(toy_request(seed=5), None)
    assert draw.prompt.token_ids == [IMAGE, 8, 9]
    assert [image.size for image in draw.prompt.images] == [(8, 8)]
    assert (draw.seed, draw.temperature, draw.max_tokens) == (5, 1.0, 4)
    assert draw.stop_token_ids == vocabulary.stop_token_ids(("}",))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"prompt_token_ids": []}, "the prompt is empty"),
        ({"prompt_token_ids": [IMAGE, SIZE]}, rf"prompt id {SIZE} at position 1 .* vocabulary of {SIZE} ids"),
        ({"prompt_token_ids": [-1, IMAGE]}, "prompt id -1 at position 0"),
        ({"prompt_token_ids": [8, 9]}, "0 image placeholders .* for 1 images"),
        ({"prompt_token_ids": [IMAGE] * 9}, "9 image placeholders .* for 1 images"),
        ({"images": (), "image_digests": ()}, "1 image placeholders .* for 0 images"),
        ({"image_digests": ()}, "1 images come with 0 digests"),
        ({"image_digests": (bytes(32),)}, "not the SHA-256"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"prompt_token_ids": [IMAGE] + [8] * 15}, "the prompt has 16 tokens, max_model_len is 16"),
    ],
)
def test_malformed_requests_are_refused(intake, changes, complaint):
    with pytest.raises(RequestRefused, match=complaint):
        intake.draw(toy_request(**changes), None)


def test_more_images_than_the_server_takes(vocabulary):
    intake = Intake(vocabulary, ServerConfig(max_images_per_prompt=1))
    with pytest.raises(RequestRefused, match="2 images, this server takes 1"):
        intake.prompt([IMAGE, IMAGE], [png_bytes("red"), png_bytes("blue")])


def test_a_deterministic_server_wants_seeds_where_it_draws(vocabulary):
    intake = Intake(vocabulary, ServerConfig(deterministic=True))
    with pytest.raises(RequestRefused, match="without a seed"):
        intake.draw(toy_request(), None)
    assert intake.draw(toy_request(seed=0), None).seed == 0
    greedy = SamplingParams(temperature=0.0, max_tokens=4)
    assert intake.draw(toy_request(params=greedy), None).temperature == 0.0


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        ([], "the response is empty"),
        ([8, SIZE], f"response id {SIZE}"),
        ([IMAGE], "image placeholder"),
        ([8] * 13, "prompt with its response has 16 tokens"),
    ],
)
def test_responses_that_cannot_be_scored(intake, response, complaint):
    with pytest.raises(RequestRefused, match=complaint):
        intake.response(3, response)


def test_special_ids_may_be_scored(intake):
    assert intake.response(3, [8, PAD, EOS]) == [8, PAD, EOS]
