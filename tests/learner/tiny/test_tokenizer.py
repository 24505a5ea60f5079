import pytest
from transformers import PreTrainedTokenizerFast

from learner.tiny.corpus import TinyCorpus
from learner.tiny.tokenizer import ACTION_MARKER, train_tokenizer
from tests.learner.tiny.number_line import PROMPT, STATES, corpus, response


def train(texts: TinyCorpus, vocab_size: int = 512) -> PreTrainedTokenizerFast:
    return train_tokenizer(
        texts,
        vocab_size=vocab_size,
        pad_token="<pad>",
        eos_token="</s>",
        image_tokens={"image_token": "<image>"},
        template="",
    )


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train(corpus())


def pieces(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    """Text of each token."""
    encoding = tokenizer(text, return_offsets_mapping=True)
    return [text[start:end] for start, end in encoding["offset_mapping"]]


def test_special_ids_come_first(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["<pad>", "</s>", "<image>"]) == [0, 1, 2]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (0, 1, None)
    assert set(tokenizer.all_special_ids) == {0, 1, 2}
    assert tokenizer("a").input_ids == tokenizer("a", add_special_tokens=False).input_ids


@pytest.mark.parametrize("state", STATES)
def test_numbers_operators_marker_and_action_are_tokens_of_their_own(tokenizer, state):
    current, target = map(str, state)
    sign, action = ("<", "+") if current < target else (">", "-")
    found = pieces(tokenizer, response(*state))
    assert found[-3:] == [ACTION_MARKER, action, '"}']
    assert [piece for piece in found if piece in (current, target)] == [current, target] * 2
    assert sign in found
    assert len(found) <= 16


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ('"action": "stand"}', "stand"),
        ('"action": "hit"}', "hit"),
        ("(10+2)*6 = 24", "*"),
        ("the hit counts", "hit"),
        ("1,234", "1"),
    ],
)
def test_isolated_words_stand_alone(tokenizer, text, alone):
    assert alone in pieces(tokenizer, text)


def test_an_isolated_word_inside_another_is_left_alone():
    texts = TinyCorpus(prompts=("white understand",) * 50, responses=("x",), isolated=("hit", "stand"))
    assert pieces(train(texts), "white understand") == ["white understand"]


def test_the_longer_isolated_word_wins():
    texts = TinyCorpus(prompts=(), responses=("x",), isolated=("go", "go to desk"))
    assert pieces(train(texts), "go to desk") == ["go to desk"]
    assert pieces(train(texts), "go")[0] == "go"


@pytest.mark.parametrize("text", [PROMPT, response(1, 4), " two  blanks ", "tab\tline\r\n", "Zürich 数字 ♠🂡", "\x00~"])
def test_any_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_no_merge_crosses_from_prompt_to_response(tokenizer):
    prompt, answer = PROMPT + "\n", response(1, 4)
    apart = tokenizer(prompt).input_ids + tokenizer(answer).input_ids
    assert tokenizer(prompt + answer).input_ids == apart


def test_the_prompt_is_short(tokenizer):
    assert len(tokenizer(PROMPT).input_ids) <= 10


def test_training_depends_on_the_corpus_alone(tokenizer):
    again = train(corpus())
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    fewer = TinyCorpus(corpus().prompts, corpus().responses[:3])
    assert train(fewer).get_vocab() != tokenizer.get_vocab()


def test_vocabulary_keeps_its_bound():
    assert len(train(corpus(), vocab_size=330)) <= 330


@pytest.mark.parametrize("word", ["move-left", "go to desk 1", "1+2", "é", ">="])
def test_any_text_may_be_isolated(word):
    texts = TinyCorpus(prompts=(), responses=("x",), isolated=(word,))
    assert pieces(train(texts), f'"action": "{word}"}}')[1] == word


def test_a_vocabulary_without_room_for_an_isolated_word_is_refused():
    texts = TinyCorpus(prompts=(), responses=("x",), isolated=("stand",))
    with pytest.raises(ValueError, match="'stand' takes . tokens .* vocabulary of 262.* raise vocab_size"):
        train(texts, vocab_size=262)
