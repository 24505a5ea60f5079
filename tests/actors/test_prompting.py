import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, processors

import envs
from actors.prompting import ImageSize, PromptEncoder
from protocol.errors import ModelFolderError, RequestRefused

SIZE: ImageSize = (300, 300)
NINE: dict[ImageSize, int] = {SIZE: 9}
PROMPTS = ("Move the current number.", "", "  blanks\n\nand lines ", "\u2660 \U0001f0a1 {{ no.template }}")


def chat(text: str, images: int = 1) -> list[dict[str, Any]]:
    content = [{"type": "image"} for _ in range(images)]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tokenizer's files that a test may spoil."""
    for path in tiny_folder.iterdir():
        if path.name != "model.safetensors":
            shutil.copy(path, tmp_path)
    return tmp_path


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("text", PROMPTS)
@pytest.mark.parametrize("images", [0, 1, 3])
def test_a_prompt_is_what_the_models_own_tokenizer_makes_of_the_chat(text, images, each_tiny_folder):
    from transformers import AutoTokenizer

    encoder = PromptEncoder(each_tiny_folder)
    theirs: Any = AutoTokenizer.from_pretrained(each_tiny_folder)
    ids = encoder.encode(text, images)
    assert list(ids) == theirs.apply_chat_template(
        chat(text, images), add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert ids.count(encoder.image_token_id) == images


@pytest.mark.parametrize("images", [1, 2])
def test_an_expanded_prompt_is_what_the_models_own_processor_makes_of_the_images(images, each_tiny_folder):
    from transformers import AutoProcessor

    encoder = PromptEncoder(each_tiny_folder, {SIZE: 51 if each_tiny_folder.name == "llava_next" else 9})
    processor: Any = AutoProcessor.from_pretrained(each_tiny_folder)
    text = processor.apply_chat_template(chat(PROMPTS[0], images), add_generation_prompt=True)
    pictures = [Image.new("RGB", SIZE, "white")] * images
    (theirs,) = processor(text=[text], images=pictures)["input_ids"]
    ours = encoder.expand(encoder.encode(PROMPTS[0], images), [SIZE] * images)
    assert ours.dtype == np.int32
    assert ours.tolist() == list(theirs)


def test_the_prompt_ends_where_the_response_begins(each_tiny_folder):
    from transformers import AutoTokenizer

    response = '{"action": "+"}'
    dialogue = [*chat(PROMPTS[0]), {"role": "assistant", "content": response}]
    encoder = PromptEncoder(each_tiny_folder)
    theirs: Any = AutoTokenizer.from_pretrained(each_tiny_folder)
    ids = encoder.tokenizer.encode(response, add_special_tokens=False).ids
    whole = theirs.apply_chat_template(dialogue, tokenize=True, return_dict=False)
    assert [*encoder.encode(PROMPTS[0], 1), *ids, theirs.eos_token_id] == whole


def test_the_games_prompt_costs_few_tokens(tiny_folder):
    env, task = envs.make("gym_cards/NumberLine-v0")
    observation, info = env.reset(seed=0)
    assert len(PromptEncoder(tiny_folder).encode(task.prompt(observation, info), 1)) < 40


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [([SIZE], [9]), ([(28, 56), SIZE], [2, 9]), ([SIZE, (28, 56), SIZE], [9, 2, 9]), ([], [])],
)
def test_expand_repeats_each_placeholder_by_its_images_size(sizes, counts, tiny_folder):
    encoder = PromptEncoder(tiny_folder, {SIZE: 9, (28, 56): 2})
    ids = encoder.encode("Go on.", len(sizes))
    expected, left = [], list(counts)
    for token_id in ids:
        expected += [token_id] * (left.pop(0) if token_id == encoder.image_token_id else 1)
    assert encoder.expand(ids, sizes).tolist() == expected


def test_an_unknown_size_is_an_error_that_names_it(tiny_folder):
    encoder = PromptEncoder(tiny_folder, NINE)
    with pytest.raises(RequestRefused, match="image of 300x301 pixels takes is not known"):
        encoder.expand(encoder.encode("Go on.", 2), [SIZE, (300, 301)])


def expanded(encoder: PromptEncoder, ids: tuple[int, ...], count: int) -> np.ndarray:
    array = np.array(ids, dtype=np.int32)
    return np.repeat(array, np.where(array == encoder.image_token_id, count, 1))


@pytest.mark.parametrize(("images", "count"), [(1, 1), (1, 9), (2, 4)])
def test_the_count_of_a_size_is_learnt_from_a_servers_reply(images, count, tiny_folder):
    encoder = PromptEncoder(tiny_folder)
    ids = encoder.encode("Go on.", images)
    encoder.learn_expansion(ids, expanded(encoder, ids, count), [SIZE] * images)
    one = encoder.encode("Something else.", 1)
    np.testing.assert_array_equal(encoder.expand(one, [SIZE]), expanded(encoder, one, count))


def test_what_is_known_is_not_learnt_again(tiny_folder):
    encoder = PromptEncoder(tiny_folder, NINE)
    ids = encoder.encode("Go on.", 1)
    encoder.learn_expansion(ids, expanded(encoder, ids, 4), [SIZE])
    np.testing.assert_array_equal(encoder.expand(ids, [SIZE]), expanded(encoder, ids, 9))


@pytest.mark.parametrize(
    ("images", "spoil"),
    [
        (1, lambda ids: ids[:-1]),
        (1, lambda ids: ids[1:]),
        (1, lambda ids: np.concatenate([ids, ids[-1:]])),
        (1, lambda ids: ids[ids != ids[0]]),
        (2, lambda ids: np.repeat(ids, np.arange(len(ids)) % 2 + 1)),
        (1, lambda ids: ids[:0]),
    ],
)
def test_a_reply_that_is_no_expansion_teaches_nothing(images, spoil, tiny_folder):
    encoder = PromptEncoder(tiny_folder)
    ids = encoder.encode("Go on.", images)
    with pytest.raises(RequestRefused, match=f"A prompt of {len(ids)} tokens with {images} image"):
        encoder.learn_expansion(ids, spoil(expanded(encoder, ids, 4)), [SIZE] * images)
    with pytest.raises(RequestRefused, match="not known yet"):
        encoder.expand(ids, [SIZE] * images)


def test_nothing_is_learnt_without_images_or_from_two_new_sizes(tiny_folder):
    encoder = PromptEncoder(tiny_folder)
    text_only = encoder.encode("Go on.", 0)
    encoder.learn_expansion(text_only, np.array(text_only), [])
    np.testing.assert_array_equal(encoder.expand(text_only, []), text_only)
    two = encoder.encode("Go on.", 2)
    encoder.learn_expansion(two, expanded(encoder, two, 4), [SIZE, (28, 28)])
    with pytest.raises(RequestRefused, match="not known yet"):
        encoder.expand(two, [SIZE, (28, 28)])


def test_a_new_size_is_learnt_beside_known_ones(tiny_folder):
    encoder = PromptEncoder(tiny_folder, NINE)
    ids = encoder.encode("Go on.", 3)
    place = np.array(ids) == encoder.image_token_id
    shown = [(28, 60), SIZE, (28, 60)]
    grown = np.repeat(ids, np.where(place, 0, 1) + np.bincount(np.flatnonzero(place), [4, 9, 4], len(ids)).astype(int))
    encoder.learn_expansion(ids, grown, shown)
    np.testing.assert_array_equal(encoder.expand(ids, shown), grown)
    with pytest.raises(RequestRefused, match="do not repeat its placeholders"):
        encoder.learn_expansion(ids, grown, [(9, 9), SIZE, SIZE])


def test_prompts_are_cached(tiny_folder):
    encoder = PromptEncoder(tiny_folder)
    assert encoder.encode("Go on.", 1) is encoder.encode("Go on.", 1)
    assert encoder.encode("Go on.", 1) != encoder.encode("Go on.", 2)
    assert encoder.encode("Go on.", 1) != encoder.encode("Go on!", 1)


def test_decode_leaves_special_tokens_out(tiny_folder):
    encoder = PromptEncoder(tiny_folder)
    ids = encoder.tokenizer.encode('{"action": "\u2660"}<|im_end|>', add_special_tokens=False).ids
    assert encoder.decode(np.array(ids, dtype=np.int32)) == '{"action": "\u2660"}'


def test_a_text_that_holds_the_image_token_is_refused(tiny_folder):
    with pytest.raises(RequestRefused, match="holds 2 image placeholder.* for 1 image"):
        PromptEncoder(tiny_folder).encode("Look at <|image_pad|>", 1)


@pytest.mark.parametrize("template", ["{{ messages[0].content[-1].text }}", "<|image_pad|><|image_pad|>"])
def test_a_template_without_one_placeholder_per_image_is_refused(template, copy):
    (copy / "chat_template.jinja").write_text(template)
    with pytest.raises(RequestRefused, match="[02] image placeholder.* for 1 image"):
        PromptEncoder(copy).encode("Go on.", 1)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(name, copy):
    (copy / name).unlink()
    with pytest.raises(ModelFolderError, match=name):
        PromptEncoder(copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_an_unreadable_file_is_named(name, copy):
    (copy / name).write_text("{")
    with pytest.raises(ModelFolderError, match=name):
        PromptEncoder(copy)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelFolderError, match="nowhere"):
        PromptEncoder(tmp_path / "nowhere")


@pytest.mark.parametrize("home", ["tokenizer_config.json", "chat_template.json"])
def test_the_template_may_stand_in_older_places(home, copy):
    before = PromptEncoder(copy).encode("Go on.", 1)
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(ModelFolderError, match="no chat template"):
        PromptEncoder(copy)
    (copy / home).touch()
    (copy / home).write_text((copy / home).read_text() or "{}")
    edit_json(copy / home, lambda values: values.update(chat_template=template))
    assert PromptEncoder(copy).encode("Go on.", 1) == before


def test_the_template_file_wins_over_older_places(copy):
    before = PromptEncoder(copy).encode("Go on.", 1)
    edit_json(copy / "tokenizer_config.json", lambda values: values.update(chat_template="another"))
    assert PromptEncoder(copy).encode("Go on.", 1) == before


@pytest.mark.parametrize(
    "template",
    [
        "{{ eos_token }}{% for part in messages[0].content %}\n  {% if part.type == 'text' %}\n{{ part.text }}\n"
        "  {% endif %}\n{% endfor %}",
        "{% for part in messages[0].content %}{% if part.type == 'image' %}{% continue %}{% endif %}"
        "{{ part | tojson }}{% break %}{% endfor %}",
    ],
    ids=["blocks", "loop controls and tojson"],
)
def test_templates_are_rendered_as_transformers_does(template, copy):
    from transformers import AutoTokenizer

    (copy / "chat_template.jinja").write_text(template)
    theirs: Any = AutoTokenizer.from_pretrained(copy)
    rendered = theirs.apply_chat_template(chat("<\u2660 & \n", 0), add_generation_prompt=True, tokenize=False)
    encoder = PromptEncoder(copy)
    assert encoder.tokenizer.decode(list(encoder.encode("<\u2660 & \n", 0)), skip_special_tokens=False) == rendered


def test_a_template_may_refuse_the_conversation(copy):
    (copy / "chat_template.jinja").write_text("{{ raise_exception('no images, please') }}")
    with pytest.raises(RequestRefused, match="no images, please"):
        PromptEncoder(copy).encode("Go on.", 1)


@pytest.mark.parametrize("written", [False, True], ids=["added by the tokenizer", "written by the template"])
def test_a_beginning_of_sequence_stands_there_once_as_the_processor_has_it(written, copy):
    from transformers import AutoProcessor

    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.add_special_tokens(["<s>"])
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    tokenizer.save(str(copy / "tokenizer.json"))
    edit_json(copy / "tokenizer_config.json", lambda values: values.update(bos_token="<s>"))
    if written:
        path = copy / "chat_template.jinja"
        path.write_text("{{ bos_token }}" + path.read_text())
    processor: Any = AutoProcessor.from_pretrained(copy)
    theirs = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "text", "text": "Go on."}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
    )
    ids = PromptEncoder(copy).encode("Go on.", 0)
    assert ids.count(bos) == 1 and ids[0] == bos
    assert list(ids) == list(theirs["input_ids"][0])


def test_limits_saved_with_the_tokenizer_do_not_shorten_prompts(copy):
    before = PromptEncoder(copy).encode("Go on and on.", 1)
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(copy / "tokenizer.json"))
    assert PromptEncoder(copy).encode("Go on and on.", 1) == before
