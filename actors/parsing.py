"""Response text to an action: the deterministic post-processing function f of RL4VLM (arXiv 2405.10292).

Deviations from the original, which scanned raw text behind the key: the value of the JSON field is looked at
alone, longer action names win over the names they contain ("10" over "1"), and a failure is a status, not a
silent random action. The caller draws the random legal action of invariant 7.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protocol.trajectory import ParseStatus

# The key, then a string, closed or cut off, or else a bare value up to the end of the field. Letter case is
# ignored by the pattern and not by lowering the text: that can lengthen it and shift every offset.
_ACTION = re.compile(r'"action":\s*(?:"(?P<string>(?:[^"\\]|\\.)*)|(?P<bare>[^,}\n]*))', re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class ParsedAction:
    """The action a text names, or why it names none."""

    name: str | None
    """Name of the action; None unless `status` is OK or ILLEGAL."""
    status: ParseStatus


def find_action_key(text: str) -> int:
    """Character offset of the first `"action":` in `text`, in any letter case; -1 if it is not there."""
    match = _ACTION.search(text)
    return match.start() if match else -1


def parse_action(text: str, action_names: Sequence[str], legal: Sequence[str]) -> ParsedAction:
    """Find the one action that the value of the first action key names, in any letter case.

    A value that is no action's name may still contain one, such as "move left"; it must not contain two.

    Args:
        text: The sampled response.
        action_names: Every action of the environment.
        legal: The actions allowed in the state the text answers to.
    """
    match = _ACTION.search(text)
    if match is None:
        return ParsedAction(None, ParseStatus.NO_ACTION_KEY)
    value = match["string"] or match["bare"] or ""
    names = _names_in(value.strip().lower(), action_names)
    if not names:
        return ParsedAction(None, ParseStatus.UNKNOWN_ACTION)
    if len(names) > 1:
        return ParsedAction(None, ParseStatus.AMBIGUOUS)
    return ParsedAction(names[0], ParseStatus.OK if names[0] in legal else ParseStatus.ILLEGAL)


def _names_in(value: str, action_names: Sequence[str]) -> list[str]:
    """The action that equals the value; else every action that occurs in it, longest names first."""
    by_lower = {name.lower(): name for name in action_names}
    if value in by_lower:
        return [by_lower[value]]
    found = []
    for lower in sorted(by_lower, key=len, reverse=True):
        if lower in value:
            found.append(by_lower[lower])
            value = value.replace(lower, "\0")
    return found


def recognized(text: str, truth: Mapping[str, str]) -> bool:
    """Whether every perception field of the response has its true value (an unreadable response has none)."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, brackets without end
        return False
    if not isinstance(fields, dict):
        return False
    return all(str(fields.get(key)).strip().lower() == value.strip().lower() for key, value in truth.items())
