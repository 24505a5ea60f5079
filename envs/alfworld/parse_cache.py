# pyright: reportMissingImports=false
# (alfworld is an optional extra: types are checked with and without it)
"""What TextWorld should remember, and what it should forget.

Its text grammar parses every template anew at every step: here it remembers them, which changes nothing but time,
since equal text gives equal symbols. And it keeps every proposition it has ever seen, about a megabyte for a game of
official size: here it forgets them. `engine` installs this once per process; it reaches into textworld 1.7's
internals and leaves alone what looks different.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from typing import Any

from textworld import logic
from textworld.envs.pddl import textgen

_ENTRIES = 4096  # a game has some hundred texts; tasks add one each


def install() -> Callable[[], None]:
    """Put the memory in place; a second call replaces nothing.

    Returns:
        What forgets the propositions of past games, and with them the parsed queries, which hold some. A game that
        is being played goes on undisturbed.
    """
    parse = getattr(textgen, "_parse_and_convert", None)
    query = getattr(logic.Rule, "parse_conjunctive_query", None)
    if parse is not None and not hasattr(parse, "remembered"):
        textgen._parse_and_convert = _copying(parse)
    if query is not None and not hasattr(query, "cache_clear"):
        query = lru_cache(_ENTRIES)(query)
        logic.Rule.parse_conjunctive_query = query

    def forget() -> None:
        propositions().clear()
        if query is not None:
            query.cache_clear()

    return forget


def propositions() -> dict[Any, Any]:
    """TextWorld's memory of propositions; an empty stand-in where it has none."""
    factory = getattr(logic, "memento_factory", None)
    return getattr(factory, "__globals__", {}).get("_memento_cache", {})


def _copying(parse: Callable[..., Any]) -> Callable[..., Any]:
    """The parser with a memory; callers get copies, since they write into the symbols."""

    @lru_cache(_ENTRIES)
    def remembered(text: str, rule_name: str) -> Any:
        return parse(text, rule_name=rule_name)

    def parse_again(text: str, rule_name: str, trace: bool = False) -> Any:
        if trace:
            return parse(text, rule_name=rule_name, trace=trace)
        return deepcopy(remembered(text, rule_name))

    parse_again.remembered = remembered  # type: ignore[attr-defined]
    return parse_again
