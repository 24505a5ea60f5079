# pyright: reportMissingImports=false
# (alfworld is an optional extra: types are checked with and without it)
from typing import Any

import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from textworld import logic
from textworld.envs.pddl import textgen

from envs.alfworld import parse_cache

TEMPLATE = "You arrive at {r.name}. #examineReceptacle.feedback#"
QUERY = "atlocation(a, l)"


@pytest.fixture
def installed(monkeypatch):
    """The parsers with a fresh memory, and how often they ran: [templates, queries]."""
    parse_cache.install()
    counts = [0, 0]
    parse: Any = textgen._parse_and_convert
    query: Any = logic.Rule.parse_conjunctive_query

    def counted_parse(text, **kwargs):
        counts[0] += 1
        return parse.remembered.__wrapped__(text, kwargs["rule_name"])

    def counted_query(text):
        counts[1] += 1
        return query.__wrapped__(text)

    monkeypatch.setattr(textgen, "_parse_and_convert", counted_parse)
    monkeypatch.setattr(logic.Rule, "parse_conjunctive_query", counted_query)
    return parse_cache.install(), counts


def test_a_template_is_parsed_once_and_every_caller_has_its_own_symbols(installed):
    _, counts = installed
    first = textgen._parse_and_convert(TEMPLATE, rule_name="symbols")
    first[0].context = {"mine": True}
    second = textgen._parse_and_convert(TEMPLATE, rule_name="symbols", trace=False)
    assert counts[0] == 1
    assert list(map(repr, first)) == list(map(repr, second))
    assert second[0].context != {"mine": True}


def test_queries_are_remembered_until_they_are_forgotten(installed):
    forget, counts = installed
    one, two = (logic.Rule.parse_conjunctive_query(QUERY) for _ in range(2))
    assert one is two and counts[1] == 1
    forget()
    again = logic.Rule.parse_conjunctive_query(QUERY)
    assert again is not one and str(again) == str(one) and counts[1] == 2


def test_installing_again_replaces_nothing(installed):
    before = textgen._parse_and_convert, logic.Rule.parse_conjunctive_query
    parse_cache.install()
    assert (textgen._parse_and_convert, logic.Rule.parse_conjunctive_query) == before


def test_unknown_insides_are_left_alone(monkeypatch):
    monkeypatch.delattr(textgen, "_parse_and_convert")
    monkeypatch.delattr(logic.Rule, "parse_conjunctive_query")
    parse_cache.install()()
    assert not hasattr(textgen, "_parse_and_convert")
