import pytest

from actors.vocabulary import Vocabulary, banned_token_ids
from protocol.errors import ModelFolderError
from tests.actors.toy_folder import (
    BEGIN,
    EOS,
    IMAGE,
    PAD,
    PADDED_ROWS,
    PLAIN,
    SIZE,
    SPECIAL,
    write_toy_folder,
)

PADDING_ROWS = tuple(range(SIZE, PADDED_ROWS))


def plain(token: str) -> int:
    return len(SPECIAL) + PLAIN.index(token)


def test_special_ids_placeholders_and_padding_rows_are_banned_but_not_the_end(tmp_path):
    assert banned_token_ids(write_toy_folder(tmp_path)) == (PAD, BEGIN, IMAGE, *PADDING_ROWS)


def test_the_first_configured_end_counts_where_the_tokenizer_names_none(tmp_path):
    folder = write_toy_folder(tmp_path, {"eos_token_id": [BEGIN, EOS]}, {"eos_token": None})
    vocabulary = Vocabulary.from_folder(folder)
    assert vocabulary.eos_token_id == BEGIN
    assert vocabulary.banned_token_ids == (EOS, PAD, IMAGE, *PADDING_ROWS)


def test_tokens_named_special_in_the_tokenizer_configuration_are_banned(tmp_path):
    names = {"unk_token": {"content": "a"}, "additional_special_tokens": ["b"], "eos_token": {"content": "<eos>"}}
    banned = banned_token_ids(write_toy_folder(tmp_path, names=names))
    assert {plain("a"), plain("b")} <= set(banned)
    assert plain("c") not in banned and EOS not in banned


def test_sizes_and_image_id(tmp_path):
    vocabulary = Vocabulary.from_folder(write_toy_folder(tmp_path))
    assert (vocabulary.size, vocabulary.embedding_rows, vocabulary.image_token_id) == (SIZE, PADDED_ROWS, IMAGE)


def test_every_token_that_holds_the_character_stops(tmp_path):
    vocabulary = Vocabulary.from_folder(write_toy_folder(tmp_path))
    brace = {EOS, plain("}"), plain('"}'), plain("<0x7D>")}
    assert vocabulary.stop_token_ids(("}",)) == tuple(sorted(brace))
    assert vocabulary.stop_token_ids(()) == (EOS,)
    assert vocabulary.stop_token_ids(("}", "a")) == tuple(sorted(brace | {plain("a")}))


def test_text_there_and_back_without_special_tokens(tmp_path):
    vocabulary = Vocabulary.from_folder(write_toy_folder(tmp_path))
    ids = vocabulary.encode('{a"}')
    assert ids == [plain("{"), plain("a"), plain('"}')]
    assert vocabulary.decode([*ids, EOS]) == '{a"}'


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(tmp_path, missing):
    (write_toy_folder(tmp_path) / missing).unlink()
    with pytest.raises(ModelFolderError, match=missing):
        banned_token_ids(tmp_path)


def test_a_broken_file_is_named(tmp_path):
    (write_toy_folder(tmp_path) / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelFolderError, match="tokenizer.json is not a tokenizer"):
        banned_token_ids(tmp_path)


def test_no_end_of_sequence_anywhere(tmp_path):
    with pytest.raises(ModelFolderError, match="end-of-sequence"):
        banned_token_ids(write_toy_folder(tmp_path, names={"eos_token": None}))
