import json
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import TinyVLMConfig
from learner.tiny.corpus import TinyCorpus
from tests.learner.tiny.conftest import FAMILIES
from tests.learner.tiny.number_line import corpus, frame, messages

# What goes into the weights and the token ids; the other files hold neither.
EXACT_FILES = ("model.safetensors", "tokenizer.json", "config.json", "chat_template.jinja")


def inputs_of(folder, picture: Image.Image):
    processor = AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(messages(), add_generation_prompt=True)
    return processor(text=[text], images=[picture], return_tensors="pt")


def test_the_folder_loads_whole(folder):
    loaded: Any = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    model, report = loaded
    assert {name: value for name, value in report.items() if value} == {}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert 0.2e6 < model.num_parameters() < 0.45e6
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.get_input_embeddings().num_embeddings == len(AutoTokenizer.from_pretrained(folder))


def test_ids_agree_in_every_file(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wanted = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert wanted == (None, 1, 0)
    for ids in (model.config.text_config, model.generation_config):
        assert (ids.bos_token_id, ids.eos_token_id, ids.pad_token_id) == wanted
    assert model.config.image_token_id == tokenizer.image_token_id
    assert model.config.image_token_id == AutoProcessor.from_pretrained(folder).image_token_id
    assert tokenizer.image_token_id in tokenizer.all_special_ids


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(300, 300), (84, 84), (28, 28), (1000, 1000)])
def test_a_square_frame_takes_the_tokens_of_its_family(family, folder_of, size):
    folder = folder_of(family)
    inputs = inputs_of(folder, Image.new("RGB", size))
    model_config = json.loads((folder / "config.json").read_text())
    image_token_id = model_config.get("image_token_id", model_config.get("image_token_index"))
    assert (inputs["input_ids"] == image_token_id).sum() == _tokens_of(family, size)


def _tokens_of(family: str, size: tuple[int, int]) -> int:
    """LLaVA-NeXT takes two tiles for a picture no larger than one (half of an odd padding stays), four for others."""
    if family != "llava_next":
        return 9
    return 9 + 3 * (4 + 1) if max(size) <= 84 else 9 + 6 * (6 + 1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("image_px", [28, 112, 168, 224])
def test_other_resolutions_give_the_tokens_they_promise(family, image_px, tmp_path):
    config = TinyVLMConfig(family=family, image_px=image_px)
    folder = build_tiny_vlm(config, corpus(), 0, tmp_path / "model")
    inputs = inputs_of(folder, frame(1, 4))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == config.image_tokens
    assert model(**inputs).logits.isfinite().all()


def test_the_answer_depends_on_the_image(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    one, other = (model(**inputs_of(folder, frame(*state))).logits[0, -1] for state in ((1, 4), (3, 2)))
    assert (one - other).abs().max() > 1e-3


def test_generate_answers_with_new_tokens(folder):
    model: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = inputs_of(folder, frame(1, 4))
    generated = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4)
    assert generated.shape == (1, inputs["input_ids"].shape[1] + 4)


def test_positions_of_qwen_need_the_token_types(folder_of):
    folder = folder_of("qwen2_5_vl")
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = inputs_of(folder, frame(1, 4))
    right = model(**inputs).logits[0, -1]
    is_image = inputs["input_ids"] == model.config.image_token_id
    assert torch.equal(inputs["mm_token_type_ids"], is_image.int())
    del inputs["mm_token_type_ids"]
    assert (model(**inputs).logits[0, -1] - right).abs().max() > 1e-2


@pytest.mark.parametrize(("family", "own"), [("llava", set()), ("llava_next", {"image_newline"})])
def test_llava_keys_have_the_layout_of_the_hub(family, own, folder_of):
    keys = load_file(folder_of(family) / "model.safetensors").keys()
    assert {key.split(".")[0] for key in keys} == {"vision_tower", "multi_modal_projector", "language_model"} | own
    tower = [key for key in keys if key.startswith("vision_tower.")]
    assert tower
    assert [key for key in tower if not key.startswith("vision_tower.vision_model.")] == []


def test_weights_have_the_spread_that_was_asked_for(folder):
    weights = load_file(folder / "model.safetensors")
    spread = {key: weight.std().item() for key, weight in weights.items() if weight.dim() > 1}
    wanted = TinyVLMConfig().initializer_range
    # CLIP scales its attention and MLP by its own rule, whatever the configuration says.
    by_own_rule = ("vision_model.encoder", "class_embedding")
    off = {
        key: value
        for key, value in spread.items()
        if not any(part in key for part in by_own_rule) and abs(value - wanted) > 0.1 * wanted
    }
    assert off == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_same_arguments_give_the_same_bytes(family, folder_of, tmp_path):
    again = build_tiny_vlm(TinyVLMConfig(family=family), corpus(), 0, tmp_path / "again")
    other = build_tiny_vlm(TinyVLMConfig(family=family), corpus(), 1, tmp_path / "other")
    for name in EXACT_FILES:
        assert (again / name).read_bytes() == (folder_of(family) / name).read_bytes(), name
    assert (other / "model.safetensors").read_bytes() != (again / "model.safetensors").read_bytes()
    assert (other / "tokenizer.json").read_bytes() == (again / "tokenizer.json").read_bytes()


def test_the_global_generator_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    build_tiny_vlm(TinyVLMConfig(), corpus(), 0, tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)


def test_an_existing_folder_is_never_overwritten(tmp_path):
    (tmp_path / "model").mkdir()
    folder = build_tiny_vlm(TinyVLMConfig(), corpus(), 0, tmp_path / "model")
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="no empty folder"):
        build_tiny_vlm(TinyVLMConfig(), corpus(), 1, folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    words = tuple(f"word{chr(97 + number % 26)}{chr(97 + number // 26)}" for number in range(200))
    with pytest.raises(ValueError, match="raise vocab_size"):
        build_tiny_vlm(TinyVLMConfig(vocab_size=320), TinyCorpus((), ("x",), words), 0, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
