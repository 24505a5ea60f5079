"""A stand-in for the text engine: worlds follow the commands by table. It is a fake."""

from pathlib import Path
from typing import Any

import pytest

from envs.alfworld import text_env
from envs.alfworld.engine import EngineState
from tests.envs.alfworld.test_game_files import write_game
from tests.envs.alfworld.worlds import at, holding, kitchen

COMMANDS = ("go to cabinet 1", "go to countertop 1", "take mug 1 from countertop 1", "look", "win")
INTRO = "You are in the middle of a room. You see a countertop 1.\nYour task is to: look at mug under the desklamp."


class ScriptedEngine:
    """Answers every admissible command; "win" completes the task."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def start(self, path: Path) -> EngineState:
        self.changes: tuple[str, ...] = ()
        return EngineState(INTRO, COMMANDS, False, kitchen())

    def send(self, command: str) -> EngineState:
        self.sent.append(command)
        if command.startswith("take"):
            self.changes = (*at("loc 3"), *holding("mug 1", "countertop 1"))
        elif command == "look":
            self.changes = at("loc 3")
        if command == "win":
            self.changes = (*at("loc 3"), *holding("mug 1", "countertop 1"), "istoggled desklamp 1")
        return EngineState(f"You did: {command}.", COMMANDS, command == "win", kitchen(*self.changes))


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let text environments run on one scripted engine; returns the arguments that find its three games."""
    params = {"object_target": "Mug", "parent_target": "", "toggle_target": "DeskLamp"}
    for name in "abc":
        write_game(folder / name, "look_at_obj_in_light", params=params)
    engine = ScriptedEngine()
    monkeypatch.setenv("CROUPIER_CACHE", str(folder / "cache"))
    monkeypatch.setattr(text_env, "borrow", lambda: engine)
    monkeypatch.setattr(text_env, "give_back", lambda engine: None)
    return {"games": str(folder)}
