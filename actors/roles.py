"""Which sampled tokens are thought and which are action, by character offsets of the sampled text.

The original looked for three hard-coded token ids and so never found the action under another tokenizer. Here
the key is found in the text and mapped back to tokens by decoding prefixes, which works with any tokenizer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import numpy as np

from actors.parsing import find_action_key
from protocol.trajectory import TokenRole

_LEADING_FORMAT = " \n\t\r{"
_HALF_CHARACTER = "\ufffd"
"""What decoders show for the bytes of a character whose last byte is yet to come."""


def token_roles(token_ids: np.ndarray, decode: Callable[[np.ndarray], str]) -> np.ndarray:
    """Role of every sampled token, int8 [T].

    ACTION from the first action key to the closing brace of the object, and the end token; FORMAT for leading
    tokens that hold only a brace or blanks and for text after the object; THOUGHT for the rest. A token that
    straddles the start of the key is ACTION. Without an action key every token is THOUGHT.

    Args:
        token_ids: Sampled ids, int32 [T].
        decode: Ids to text, special tokens left out.
    """
    roles = np.full(len(token_ids), TokenRole.THOUGHT, dtype=np.int8)
    text = decode(token_ids)
    key = find_action_key(text)
    if key < 0:
        return roles
    roles[: _leading_format_tokens(token_ids, decode)] = TokenRole.FORMAT
    roles[_token_of(key, token_ids, decode) :] = TokenRole.ACTION
    brace = text.find("}", key)
    if brace >= 0:
        close = _token_of(brace, token_ids, decode)
        for behind in range(close + 1, len(token_ids)):
            if _adds_text(behind, close, token_ids, decode):
                roles[behind] = TokenRole.FORMAT  # so it is not the end token
    return roles


def _leading_format_tokens(token_ids: np.ndarray, decode: Callable[[np.ndarray], str]) -> int:
    count = 0
    while not decode(token_ids[: count + 1]).strip(_LEADING_FORMAT):
        count += 1
    return count


def _adds_text(index: int, before: int, token_ids: np.ndarray, decode: Callable[[np.ndarray], str]) -> bool:
    """Whether a token that stands behind another one shows in the text."""
    # A blank may show nothing on its own, and a byte of a long character nothing behind another such byte.
    alone, pair = decode(token_ids[[index]]), decode(token_ids[[before, index]])
    return alone != "" or pair != decode(token_ids[[before]])


def _token_of(offset: int, token_ids: np.ndarray, decode: Callable[[np.ndarray], str]) -> int:
    """Index of the token that completes character `offset` of the text."""

    def characters(tokens: int) -> int:
        return len(decode(token_ids[:tokens]).rstrip(_HALF_CHARACTER))

    return bisect_right(range(1, len(token_ids) + 1), offset, key=characters)
