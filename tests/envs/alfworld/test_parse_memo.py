# pyright: reportMissingImports=false
# (alfworld is an optional extra: types are checked with and without it)
"""The memory of parsed templates changes nothing but time: whole games with and without it, word for word."""

from typing import Any

import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from textworld import logic
from textworld.envs.pddl import textgen

from envs.alfworld import engine as engine_module
from envs.alfworld.engine import borrow, give_back
from envs.alfworld.expert import advise
from envs.alfworld.game_files import find_games
from envs.alfworld.generator import DATA_FOLDER
from envs.alfworld.goal import TASK_TYPES
from tests.envs.alfworld.official_like import age_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ASIDES = ("look", "inventory", "help", "examine")


def play(folder):
    """Texts and admissible commands of every state, over all games, with everything that can be said on the way."""
    engine, heard = borrow(), []
    for game in find_games(folder):
        state = engine.start(game.path)
        heard.append((state.text, state.admissible))
        while not state.won:
            for command in state.admissible:
                if command.startswith(ASIDES):
                    state = engine.send(command)
                    heard.append((state.text, state.admissible))
            state = engine.send(advise(state.world, game.goal, state.admissible, None).command)
            heard.append((state.text, state.admissible))
    give_back(engine)
    return heard


@pytest.fixture(params=["generated", "in the old wording"])
def folder(request, tree, tmp_path):
    source = tree / DATA_FOLDER / "train"
    if request.param == "generated":
        return source
    age_tree(source, tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture
def uninstall(monkeypatch):
    """What takes the memory away; it returns the list of templates that are parsed from then on."""
    remembering: Any = textgen._parse_and_convert
    query: Any = logic.Rule.parse_conjunctive_query
    assert hasattr(remembering, "remembered") and hasattr(query, "cache_clear"), "the memory is not in place"
    parsed = []

    def parse(text, rule_name, trace=False):
        parsed.append(text)
        return remembering.remembered.__wrapped__(text, rule_name)

    def take_away():
        monkeypatch.setattr(textgen, "_parse_and_convert", parse)
        monkeypatch.setattr(logic.Rule, "parse_conjunctive_query", query.__wrapped__)
        monkeypatch.setattr(engine_module, "_forget_past_games", lambda: None)
        return parsed

    return take_away


def test_every_text_and_every_command_stays_the_same(folder, uninstall):
    quick = play(folder)
    parsed = uninstall()
    assert play(folder) == quick
    assert len(quick) > 10 * len(TASK_TYPES)
    assert len(parsed) > 10 * len(set(parsed))  # it did parse the same templates again and again
