import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from actors.roles import token_roles
from actors.vocabulary import Vocabulary
from protocol.trajectory import TokenRole

LETTERS = {"T": TokenRole.THOUGHT, "A": TokenRole.ACTION, "F": TokenRole.FORMAT}
END = "<end>"  # the special token that ends a sequence; it adds no text
KEY = '"action":'


def byte_letters() -> dict[int, str]:
    """Byte -> the printable character that byte-level tokenizers write it as."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def raw(piece: str | bytes) -> bytes:
    """The bytes that a token adds to the text."""
    if piece == END:
        return b""
    return piece.encode() if isinstance(piece, str) else piece


BYTE_LEVEL = decoders.ByteLevel()
LLAMA = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)


def sampled(tokens: Sequence[str], decoder: Any) -> tuple[Tokenizer, list[int]]:
    """A tokenizer that has just these tokens, and their ids; no merges, because nothing is encoded."""
    vocab = {token: n for n, token in enumerate(sorted(set(tokens) - {END}))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens([END])
    ids = [tokenizer.token_to_id(token) for token in tokens]
    assert None not in ids
    return tokenizer, [i for i in ids if i is not None]


def roles_of(tokenizer: Tokenizer, ids: Sequence[int]) -> list[TokenRole]:
    def decode(part: np.ndarray) -> str:
        return tokenizer.decode(part.tolist(), skip_special_tokens=True)

    roles = token_roles(np.array(ids, dtype=np.int32), decode)
    assert roles.dtype == np.int8
    return [TokenRole(role) for role in roles]


def reference(pieces: Sequence[bytes]) -> list[TokenRole]:
    """The definition, character by character; an empty piece is the end token. For valid UTF-8 only."""
    text = b"".join(pieces).decode()
    owners = [  # which piece each byte of the text comes from
        n for n, piece in enumerate(pieces) for _ in piece
    ]
    characters: list[set[int]] = [set() for _ in pieces]
    at = 0
    for index, character in enumerate(text):
        size = len(character.encode())
        for owner in owners[at : at + size]:
            characters[owner].add(index)
        at += size
    key = text.lower().find(KEY)
    if key < 0:
        return [TokenRole.THOUGHT] * len(pieces)
    brace = text.find("}", key)
    last = brace if brace >= 0 else len(text)
    body = next(index for index, character in enumerate(text) if character not in " \n\t\r{")

    def role(held: set[int]) -> TokenRole:
        if not held or any(key <= index <= last for index in held):
            return TokenRole.ACTION
        return TokenRole.FORMAT if max(held) < body or min(held) > last else TokenRole.THOUGHT

    return [role(held) for held in characters]


# Each response as its tokens, each token with its role.
RESPONSES = {
    "one token per part": [
        ("{", "F"),
        ('"thoughts": "1 < 4"', "T"),
        (", ", "T"),
        (KEY, "A"),
        (' "+"', "A"),
        ("}", "A"),
        (END, "A"),
    ],
    "a token straddles the start of the key": [
        ('{"thoughts', "T"),
        ('": "1 < 4', "T"),
        ('", "action', "A"),
        ('": "', "A"),
        ("+", "A"),
        ('"}', "A"),
    ],
    "the key in pieces": [("{", "F"), ('"a', "A"), ("ct", "A"), ("ion", "A"), ('":', "A"), ("1}", "A")],
    "a token holds everything": [('{"action": "+"}', "A")],
    "brace and key in one token": [("\n", "F"), ('{"action"', "A"), (': "+"}', "A")],
    "blanks around the brace": [(" ", "F"), ("{\n", "F"), ("  ", "F"), ('"t": 1,', "T"), (KEY, "A"), ('"-"}', "A")],
    "a blank within the thought": [('{"t":', "T"), (" ", "T"), ("1, ", "T"), (KEY, "A"), ('"-"}', "A")],
    "in capitals": [('{"t": 1, ', "T"), ('"ACTION":', "A"), ('"-"}', "A")],
    "no key": [("{", "T"), ('"thoughts": "+"', "T"), ("}", "T"), (END, "T")],
    "nothing but the end": [(END, "T")],
    "nothing but format": [("{", "T"), ("\n", "T"), (END, "T")],
    "the first key of two": [
        ("{", "F"),
        ('"t": 1, ', "T"),
        (KEY, "A"),
        (' "+", ', "A"),
        (KEY, "A"),
        (' "-"', "A"),
        ("}", "A"),
    ],
    "a later field": [("{", "F"), (KEY, "A"), (' "+", ', "A"), ('"t": 1', "A"), ("}", "A")],
    "text after the object": [("{", "F"), (KEY, "A"), ('"+"}', "A"), (" So", "F"), ("}", "F"), ("\n", "F"), (END, "A")],
    "a token that also holds the brace": [(KEY, "A"), ('"+"', "A"), ("}\n So", "A"), (" it is", "F")],
    "cut off before the brace": [("{", "F"), ('"t": 1, ', "T"), (KEY, "A"), (' "', "A"), ("+", "A")],
    "a brace in the thought": [("{", "F"), ('"t": "}{"', "T"), (", ", "T"), (KEY, "A"), ('"+"}', "A"), (".", "F")],
    "characters of several tokens": [
        ("{", "F"),
        ('"t": "', "T"),
        (b"\xf0\x9f", "T"),
        (b"\x82", "T"),
        (b"\xa1", "T"),  # the playing card U+1F0A1
        (b'" ,', "T"),
        (KEY, "A"),
        ('"+"}', "A"),
        (b"\xe2\x98", "F"),
        (b"\x83", "F"),
        (END, "A"),
    ],
    "half a character in front": [(b"\xf0\x9f", "T"), (b"\x82\xa1", "T"), (KEY, "A"), ('"+"}', "A")],
    "a character that one token begins and the key's token ends": [
        ("{", "F"),
        (b"\xe2\x98", "T"),
        (b'\x83"act', "A"),
        ('ion": "+"}', "A"),
    ],
    "bytes that are no text": [("{", "F"), (b"\xff\xff\x82", "T"), (b"\xe2", "T"), (KEY, "A"), ('"+"}', "A")],
}


@pytest.mark.parametrize("tokens", RESPONSES.values(), ids=RESPONSES.keys())
def test_roles_under_a_byte_level_tokenizer(tokens):
    letters = byte_letters()
    spelt = [END if piece == END else "".join(letters[byte] for byte in raw(piece)) for piece, _ in tokens]
    expected = [LETTERS[letter] for _, letter in tokens]
    assert roles_of(*sampled(spelt, BYTE_LEVEL)) == expected
    if not any(b"\xff" in raw(piece) for piece, _ in tokens):
        assert reference([raw(piece) for piece, _ in tokens]) == expected


SENTENCEPIECE = {
    "blanks and words": [
        ("▁{", "F"),
        ('"t":', "T"),
        ("▁", "T"),
        ("1,", "T"),
        ('▁"act', "A"),
        ('ion":', "A"),
        ('▁"+"', "A"),
        ("}", "A"),
        (END, "A"),
    ],
    "a character out of three byte tokens": [
        ("▁{", "F"),
        ("<0xE2>", "T"),
        ("<0x82>", "T"),
        ("<0xAC>", "T"),
        ('"action":', "A"),
        ('▁"+"', "A"),
        ("}", "A"),
        ("▁", "F"),
        ("<0xE2>", "F"),
        ("<0x82>", "F"),
        ("<0xAC>", "F"),
        (END, "A"),
    ],
    "more half characters than the key's offset": [
        *[(byte, "T") for byte in ("<0xF0>", "<0x9F>", "<0x82>", "<0xA1>") * 4],
        ('"action":', "A"),
        ('▁"+"', "A"),
        ("}", "A"),
    ],
    "byte tokens right before the key": [("<0xC3>", "T"), ("<0xA9>", "T"), ('"action":', "A"), ('"+"}', "A")],
    "byte tokens that are no text": [("<0xE2>", "T"), ("<0x82>", "T"), ('"action":', "A"), ('"+"}', "A")],
    "a brace as a byte token": [('{"action":', "A"), ("▁+", "A"), ("<0x7D>", "A"), ("<0x7D>", "F")],
}


@pytest.mark.parametrize("tokens", SENTENCEPIECE.values(), ids=SENTENCEPIECE.keys())
def test_roles_under_a_sentencepiece_tokenizer(tokens):
    tokenizer, ids = sampled([token for token, _ in tokens], LLAMA)
    assert roles_of(tokenizer, ids) == [LETTERS[letter] for _, letter in tokens]


TEXTS = (
    '{"current number": "1", "target number": "4", "thoughts": "1 < 4", "action": "+"}',
    '{"thoughts": "", "action": "-"}',
    '{"action": "-"}',
    '{ "thoughts": "the \u2660 and the \U0001f0a1", "action": "+"}',
    '\n{"Action": +} \u2603',
    '{"thoughts": "1 < 4", "actio',
    "+",
)


@pytest.mark.parametrize("end", [True, False], ids=["ends", "cut"])
@pytest.mark.parametrize("text", TEXTS)
def test_roles_under_the_tiny_models_tokenizer(text, end, each_tiny_folder):
    vocabulary = Vocabulary.from_folder(each_tiny_folder)
    ids = vocabulary.encode(text) + [vocabulary.eos_token_id] * end
    bytes_of = {letter: byte for byte, letter in byte_letters().items()}
    names = [vocabulary.tokenizer.id_to_token(i) or "" for i in ids]
    pieces = [bytes(bytes_of[c] for c in name) for name in names[: len(ids) - end]] + [b""] * end
    assert b"".join(pieces).decode() == text
    assert roles_of(vocabulary.tokenizer, ids) == reference(pieces)


def test_the_tiny_tokenizer_puts_thought_and_action_on_token_borders(tiny_folder):
    vocabulary = Vocabulary.from_folder(tiny_folder)
    ids = [*vocabulary.encode(TEXTS[0]), vocabulary.eos_token_id]
    roles = roles_of(vocabulary.tokenizer, ids)
    text = {role: vocabulary.decode([i for i, r in zip(ids, roles, strict=True) if r == role]) for role in TokenRole}
    assert text[TokenRole.ACTION] == '"action": "+"}'
    assert text[TokenRole.FORMAT] + text[TokenRole.THOUGHT] == TEXTS[0].removesuffix('"action": "+"}')
    assert roles[-1] == TokenRole.ACTION


def decode_pieces(pieces: Sequence[bytes], ids: np.ndarray) -> str:
    """What a byte-level decoder makes of the pieces with these numbers."""
    return b"".join(pieces[i] for i in ids).decode("utf-8", errors="replace")


def cuts_of(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Every way to split bytes into pieces."""

    def split(cuts: set[int]) -> list[bytes]:
        edges = [0, *sorted(cuts), len(data)]
        return [data[a:b] for a, b in zip(edges, edges[1:], strict=False) if b > a]

    return st.sets(st.integers(1, max(1, len(data) - 1))).map(split)


PARTS = st.sampled_from(
    ["{", "}", " ", "\n", '"', ":", "action", KEY, '"Action":', "1", "\u00e9", "\u2660", "\U0001f0a1"]
)
SPLIT_TEXTS = st.lists(PARTS, max_size=12).map("".join).flatmap(lambda text: cuts_of(text.encode()))


@settings(max_examples=300, deadline=None)
@given(SPLIT_TEXTS, st.booleans())
@example([b"{", b"\xe2\x99", b'\xa0"action":', b"}"], True)
@example([b'"action":}\xf0', b"\x9f", b"\x82\xa1"], True)
def test_roles_agree_with_the_definition_however_the_text_is_split(pieces, ends):
    pieces = pieces + [b""] * ends
    decode: Callable[[np.ndarray], str] = partial(decode_pieces, pieces)
    roles = token_roles(np.arange(len(pieces), dtype=np.int32), decode)
    assert [TokenRole(role) for role in roles] == reference(pieces)


def test_long_responses_need_few_decodings():
    thought = json.dumps({"thoughts": "1 " * 500})[:-1].encode()
    pieces = [*(thought[i : i + 2] for i in range(0, len(thought), 2)), b', "action"', b': "+"', b"}", b""]
    calls = 0

    def decode(ids: np.ndarray) -> str:
        nonlocal calls
        calls += 1
        return decode_pieces(pieces, ids)

    roles = token_roles(np.arange(len(pieces), dtype=np.int32), decode)
    assert [TokenRole(role) for role in roles] == reference(pieces)
    assert calls < 40, f"{len(pieces)} tokens took {calls} decodings"
