"""A scripted kitchen behind the `Simulator` protocol. It is a fake for tests of what lies around a simulator: no THOR,
no physics, and pictures of one colour per place.
"""

import os
import time

import numpy as np

from envs.alfworld.episode import NOTHING
from envs.alfworld.game_files import GameFile
from envs.alfworld.goal import Goal
from envs.alfworld.thor.state import FRAME_SHAPE, SimulatorError, SimulatorState

PLACES = ("countertop 1", "fridge 1", "microwave 1")
DOORS = ("fridge 1", "microwave 1")
HEAT = Goal("pick_heat_then_place_in_recep", "apple", "fridge", "")


class FakeHousehold:
    """An apple and a mug on a countertop; the task is to put the heated apple into the fridge.

    Args:
        sleeps_at, dies_at, breaks_at: a command, or "start", at which it hangs, kills its process or raises.
    """

    def __init__(self, sleeps_at: str = "", dies_at: str = "", breaks_at: str = "") -> None:
        self.sleeps_at, self.dies_at, self.breaks_at = sleeps_at, dies_at, breaks_at
        self.sent: list[str] = []
        self.games: list[str] = []
        self.closed = 0

    def start(self, game: GameFile) -> SimulatorState:
        self._misbehave("start")
        self.games.append(game.key)
        self.here, self.holding, self.hot = "", "", False
        self.shut: set[str] = set(DOORS)
        self.inside = {"apple 1": "countertop 1", "mug 1": "countertop 1"}
        return self._state(
            "-= Welcome to TextWorld, ALFRED! =-\n\n"
            "You are in the middle of a room. Looking quickly around you, you see a countertop 1, a fridge 1, and a "
            "microwave 1.\n\nYour task is to: put a hot apple in fridge"
        )

    def send(self, command: str) -> SimulatorState:
        self._misbehave(command)
        self.sent.append(command)
        return self._state(self._play(command.split()))

    def close(self) -> None:
        self.closed += 1

    def _play(self, words: list[str]) -> str:
        verb, target, thing = words[0], " ".join(words[-2:]), " ".join(words[1:3])
        if verb == "go":
            self.here = target
            return f"You arrive at {target}. {self._looks()}"
        if verb in ("open", "close"):
            (self.shut.discard if verb == "open" else self.shut.add)(target)
            return f"You {verb} the {target}. {self._looks()}"
        if verb == "take":
            self.holding = thing
            del self.inside[thing]
            return f"You pick up the {thing} from the {target}."
        if verb == "move":
            self.holding, self.inside[thing] = "", target
            return f"You move the {thing} to the {target}."
        if verb == "heat":
            self.hot |= thing == "apple 1"
            return f"You heat the {thing} using the {target}."
        return NOTHING

    def _looks(self) -> str:
        if self.here in self.shut:
            return f"The {self.here} is closed."
        seen = ", ".join(f"a {thing}" for thing, place in sorted(self.inside.items()) if place == self.here)
        return f"On the {self.here}, you see {seen or 'nothing'}."

    def _commands(self) -> list[str]:
        commands = ["look", *(f"go to {place}" for place in PLACES if place != self.here)]
        if self.here in DOORS:
            commands.append(f"{'open' if self.here in self.shut else 'close'} {self.here}")
        if self.holding and self.here == "microwave 1":
            commands.append(f"heat {self.holding} with microwave 1")
        if self.here and self.here not in self.shut:
            things = [thing for thing, place in self.inside.items() if place == self.here]
            commands += [f"take {thing} from {self.here}" for thing in things if not self.holding]
            commands += [f"move {self.holding} to {self.here}"] if self.holding else []
        return sorted(commands)

    def _state(self, text: str) -> SimulatorState:
        placed = self.inside.get("apple 1") == "fridge 1"
        fraction = (placed + self.hot + (placed and self.hot)) / 3
        frame = np.full(FRAME_SHAPE, (200, 100, 10 * len(self.here)), np.uint8)
        return SimulatorState(text, tuple(self._commands()), fraction == 1, fraction, frame=frame)

    def _misbehave(self, occasion: str) -> None:
        print(f"fake household: {occasion}", flush=True)
        if occasion == self.sleeps_at:
            time.sleep(600)
        if occasion == self.dies_at:
            os._exit(3)
        if occasion == self.breaks_at:
            raise SimulatorError(f"broke at {occasion}")
