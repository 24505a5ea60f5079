"""Which sampled tokens are thought and which are action, by character offsets of the sampled text.

The original looked for three hard-coded token ids and so never found the action under another tokenizer. Here the
key is found in the text and mapped back to tokens by decoding prefixes, which works with any tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from actors.parsing import find_action_key
from protocol.trajectory import TokenRole


def token_roles(token_ids: np.ndarray, decode: Callable[[np.ndarray], str]) -> np.ndarray:
    """Role of every sampled token, int8 [T].

    THOUGHT up to the action key, ACTION from the key to the closing brace of the object and for the end token, FORMAT
    for leading tokens that hold only a brace or blanks and for text after the object. A token that straddles the
    start of the key is ACTION. Without an action key every token but the leading FORMAT ones is THOUGHT.

    Args:
        token_ids: Sampled ids, int32 [T].
        decode: Ids to text, special tokens left out.
    """
    roles = np.full(len(token_ids), TokenRole.THOUGHT, dtype=np.int8)
    text = decode(token_ids)
    body = len(text) - len(text.lstrip(" \n\t\r{"))
    roles[: _first_token_past(body, token_ids, decode)] = TokenRole.FORMAT
    key = find_action_key(text)
    if key < 0:
        return roles
    start = _first_token_past(key, token_ids, decode)
    roles[start:] = TokenRole.ACTION
    close = text.find("}", key)
    if close >= 0:
        stop = _first_token_past(close, token_ids, decode) + 1
        # Tokens behind the brace that add no text are special (end of sequence) and belong to the action.
        trailing = [len(decode(token_ids[: i + 1])) > len(decode(token_ids[:i])) for i in range(stop, len(token_ids))]
        roles[stop:][np.array(trailing, dtype=bool)] = TokenRole.FORMAT
    return roles


def _first_token_past(offset: int, token_ids: np.ndarray, decode: Callable[[np.ndarray], str]) -> int:
    """Index of the token that holds character `offset`: the shortest prefix longer than `offset`, less one."""
    low, high = 0, len(token_ids)
    while low < high:
        middle = (low + high) // 2
        if len(decode(token_ids[: middle + 1])) > offset:
            high = middle
        else:
            low = middle + 1
    return low
