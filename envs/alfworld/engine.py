# pyright: reportMissingImports=false
# (alfworld is an optional extra: types are checked with and without it)
"""ALFWorld's text engine (TextWorld's PDDL interpreter) behind two calls.

The engine's parsers are shared by a whole process and not safe to enter twice, so one lock guards every call: for
speed use processes, not threads. What the engine keeps of past games is forgotten before each new one, so that a
process stays flat over many games.
"""

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.alfworld.errors import INSTALL, EngineError
from envs.alfworld.world import Fact, World
from envs.errors import EnvSetupError

try:
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld import EnvInfos
    from textworld.envs import PddlEnv

    from envs.alfworld import parse_cache
except ModuleNotFoundError as missing:
    raise EnvSetupError(f"{INSTALL}; missing is {missing.name!r}") from missing

_forget_past_games = parse_cache.install()
_LOCK = threading.Lock()
_IDLE: "list[TextEngine]" = []
_DERIVED = "new-axiom@"  # predicates that the planner's translation invents


@dataclass(frozen=True)
class EngineState:
    """What the engine says after a reset or a command."""

    text: str
    admissible: tuple[str, ...]
    """Every command that does something now, sorted."""
    won: bool
    world: World


class TextEngine:
    """Plays one game after another.

    Every engine copies a native library of about 34 MB that is only freed with the process: load many games into
    one engine, and take it from `borrow` so that the next environment uses it again.
    """

    def __init__(self) -> None:
        with _LOCK:
            self._env: Any = AlfredDemangler(PddlEnv(EnvInfos()), shuffle=False)
        self._path = Path()

    def start(self, path: Path) -> EngineState:
        """Load a `game.tw-pddl` and return its initial state; the text lists what is in the room and the task.

        Raises:
            EngineError: the file is damaged, or the game cannot be won at all.
        """
        self._path = path
        with _LOCK:
            _forget_past_games()
            arguments = sys.argv
            try:
                self._env.load(str(path))
                return self._state(self._env.reset())
            # Damaged games end in KeyError, parse errors of two libraries, or even SystemExit.
            except (Exception, SystemExit) as error:
                raise EngineError(
                    f"the text engine cannot play {path}: {type(error).__name__}: {error}; the file is damaged or "
                    "its task impossible, generate or fetch it again"
                ) from error
            finally:
                sys.argv = arguments  # the planner's translation puts its own in their place

    def send(self, command: str) -> EngineState:
        """Play one command; anything but an admissible command changes nothing, and the text says so.

        Raises:
            EngineError: the engine broke.
        """
        with _LOCK:
            try:
                return self._state(self._env.step(command)[0])
            except (Exception, SystemExit) as error:
                raise EngineError(
                    f"the text engine broke at {command!r} in {self._path}: {type(error).__name__}: {error}"
                ) from error

    def _state(self, state: Any) -> EngineState:
        names = {key: info.name.strip().lower() for key, info in state["_entity_infos"].items()}
        facts = [_fact(fact, names) for fact in state["_facts"] if not fact.name.startswith(_DERIVED)]
        return EngineState(
            text=state["feedback"].strip(),
            admissible=tuple(state["admissible_commands"]),
            won=bool(state["won"]),
            world=World.from_facts(facts),
        )


def borrow() -> TextEngine:
    """An engine that nobody uses, made if there is none."""
    try:
        return _IDLE.pop()
    except IndexError:
        return TextEngine()


def give_back(engine: TextEngine) -> None:
    """Leave a borrowed engine to the next who needs one."""
    _IDLE.append(engine)


def _fact(fact: Any, names: dict[str, str]) -> Fact:
    arguments: Sequence[Any] = fact.arguments
    return fact.name.lower(), tuple(names[argument.name] for argument in arguments)
