"""Response text to an action: the deterministic post-processing function f of RL4VLM (arXiv 2405.10292).

Deviations from the original, which scanned raw text behind the key for substrings: the value of the JSON field is
looked at alone, with JSON's escapes resolved; names count as whole words, longer ones win over those they contain
("10" over "1"; see `envs.matching`); without a key nothing is found (there, the last character decided); and a
failure is a status, not a silent random action. The caller draws the random legal action of invariant 7. Total: any
text gives a result, in time proportional to its length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envs.matching import names_in
from protocol.trajectory import ParseStatus

# The key, then a string, closed or cut off, or else a bare value up to the end of the field. Letter case is
# ignored by the pattern and not by lowering the text: that can lengthen it and shift every offset.
# Possessive, since what follows the key always fits: without it a long string costs a hundred times its memory.
_ACTION = re.compile(
    r'"action":\s*+(?:"(?P<string>(?:[^"\\]++|\\.)*+)|(?P<bare>[^,}\n]*+))', re.IGNORECASE | re.ASCII | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class ParsedAction:
    """The action a text names, or why it names none."""

    name: str | None
    """Name of the action; None unless `status` is OK or ILLEGAL."""
    status: ParseStatus
    value: str = field(default="", compare=False)
    """Text of the action field, JSON's escapes resolved; empty if there is none."""


def find_action_key(text: str) -> int:
    """Character offset of the first `"action":` in `text`, in any letter case; -1 if it is not there."""
    match = _ACTION.search(text)
    return match.start() if match else -1


def parse_action(text: str, action_names: Sequence[str], legal: Sequence[str]) -> ParsedAction:
    """Find the one action that the value of the first action key names, in any letter case.

    A value that is no action's name may still hold one, such as "move left"; it must not hold two.

    Args:
        text: The sampled response.
        action_names: Every action of the environment.
        legal: The actions allowed in the state the text answers to.
    """
    match = _ACTION.search(text)
    if match is None:
        return ParsedAction(None, ParseStatus.NO_ACTION_KEY)
    value = match["bare"] or "" if match["string"] is None else _unescaped(match["string"])
    names = names_in(value, action_names)
    if len(names) != 1:
        return ParsedAction(None, ParseStatus.AMBIGUOUS if names else ParseStatus.UNKNOWN_ACTION, value)
    return ParsedAction(names[0], ParseStatus.OK if names[0] in legal else ParseStatus.ILLEGAL, value)


def _unescaped(string: str) -> str:
    """The characters that a JSON string stands for; the string as it is where it was cut off within an escape."""
    if "\\" not in string:
        return string
    try:
        text: str = json.loads(f'"{string}"', strict=False)
    except ValueError:
        return string
    return text.encode("utf-8", "replace").decode()  # an escape can name half a character, which nobody could store


def recognized(text: str, truth: Mapping[str, str]) -> dict[str, bool]:
    """For every perception field whether the response gives its true value (an unreadable response gives none).

    A value in JSON is compared as Python writes it, so that a list of numbers equals the truth "[4, 8]"; letter case
    and blanks around it do not matter.
    """
    if not truth:
        return {}
    try:
        fields = json.loads(text)
        given = fields if isinstance(fields, dict) else {}
        return {key: key in given and _plain(str(given[key])) == _plain(value) for key, value in truth.items()}
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, brackets without end
        return dict.fromkeys(truth, False)


def _plain(text: str) -> str:
    return text.strip().lower()
