"""ALFWorld's text games as a gymnasium environment: commands in, sentences and rewards out.

Rewards follow RL4VLM (arXiv 2405.10292): 50 on success, the fraction of fulfilled goal conditions, -1 for text that
names no admissible command. Two deliberate deviations: the fraction is paid as differences by default, since as a
level it rewards loitering in a half-finished state; and an episode ends after exactly `max_steps` commands.
"""

from collections import deque
from collections.abc import Collection, Mapping
from string import printable
from typing import Any, ClassVar, Literal

import gymnasium
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import Text

from envs.alfworld.cache import cache_folder
from envs.alfworld.engine import EngineState, TextEngine, borrow, give_back
from envs.alfworld.expert import advise
from envs.alfworld.game_files import GameFile, find_games, select
from envs.alfworld.game_index import indexed
from envs.alfworld.goal import TASK_TYPES, goal_fraction
from envs.alfworld.matching import match_command
from envs.alfworld.search import Search
from envs.alfworld.sources import games_folder
from envs.alfworld.view import view
from envs.alfworld.wording import split_intro
from envs.errors import ResetOptionsError

GoalReward = Literal["difference", "level", "off"]

SUCCESS_REWARD = 50.0
ILLEGAL_REWARD = -1.0
NOTHING = "Nothing happens."
QUOTED_CHARS = 200
"""How much of a text that names no command is kept in the history."""


class AlfworldText(gymnasium.Env[str, str]):
    """One household game per episode, drawn from `np_random`; the action is a command as text.

    Terminated when the task is completed, truncated after `max_steps` commands otherwise. The observation is the
    engine's last sentence(s). Info, new at every step:

    - "task": what is asked for, "task_type", "game": the game's key, "extra.gamefile": its path;
    - "room": the sentence that lists all receptacles, which the engine says only once;
    - "observation": the same as the observation; "steps": commands given so far; "history": the last `memory`
      pairs (command, answer);
    - "admissible_commands": list of str; "won": bool; "goal_condition_success_rate": float in [0, 1];
    - "legal": whether the last action named an admissible command, "command": that command ("" if none);
    - "view": what is in front of the agent, for pictures (see `envs.alfworld.view`);
    - "expert": (command, reason) of the scripted player, ("", "") where it knows none or the game is won.

    `reset(options={"game": key})` plays that very game.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"]}

    def __init__(
        self,
        games: str = "tiny",
        split: str = "train",
        task_types: Collection[str] = TASK_TYPES,
        max_steps: int = 50,
        goal_reward: GoalReward = "difference",
        memory: int = 2,
        expert: Literal["search", "oracle"] = "search",
        render_mode: str | None = None,
    ) -> None:
        """Find the games; nothing is loaded before the first reset.

        Args:
            games: "official" for ALFWorld's data below $ALFWORLD_DATA, the name of a generated panel (made on
                first use), or a folder.
            split: "train", "valid_seen" or "valid_unseen"; ignored for a folder that has no such subfolder.
            task_types: kinds of task to play.
            max_steps: commands after which an unfinished episode is truncated.
            goal_reward: how the fraction of fulfilled goal conditions is paid: as "difference" to the state
                before, as "level" at every step (RL4VLM), or "off".
            memory: number of (command, answer) pairs in info["history"].
            expert: a player who "search"es, or an "oracle" who knows where everything is.
            render_mode: None or "ansi".

        Raises:
            envs.alfworld.errors.GameFilesError: there are no such games.
            ValueError: another argument is out of its range.
        """
        if max_steps < 1 or memory < 0:
            raise ValueError(f"max_steps must be at least 1 and memory at least 0, not {max_steps} and {memory}")
        if goal_reward not in ("difference", "level", "off"):
            raise ValueError(f"goal_reward must be 'difference', 'level' or 'off', not {goal_reward!r}")
        if expert not in ("search", "oracle"):
            raise ValueError(f"expert must be 'search' or 'oracle', not {expert!r}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise gymnasium.error.UnsupportedMode(f"render_mode must be None or 'ansi', not {render_mode!r}")
        self.render_mode = render_mode
        self.observation_space = Text(10_000, min_length=0, charset=printable)
        self.action_space = Text(1_000, min_length=0, charset=printable)
        found = indexed(games_folder(games, split), cache_folder(), find_games)
        self._games = select(found, task_types)
        self._by_key = {game.key: game for game in self._games}
        self._max_steps, self._goal_reward, self._oracle = max_steps, goal_reward, expert == "oracle"
        self._engine: TextEngine | None = None
        self._history: deque[tuple[str, str]] = deque(maxlen=memory)
        self._misuse = "before the first reset"  # why a step is refused now; "" while an episode runs
        self._game: GameFile
        self._state: EngineState
        self._search: Search
        self._steps, self._fraction, self._text, self._room, self._task = 0, 0.0, "", "", ""

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start a game drawn at random, or the one that `options` names.

        Raises:
            envs.errors.ResetOptionsError: the options are unknown, or name no game of this environment.
            envs.alfworld.errors.EngineError: the game's files are damaged.
        """
        super().reset(seed=seed)
        self._game = self._choose(options or {})
        self._misuse = "after a failed reset"
        self._engine = self._engine or borrow()
        self._state = self._engine.start(self._game.path)
        self._text = self._state.text
        self._room, self._task = split_intro(self._text)
        self._search = Search()
        self._history.clear()
        self._steps, self._misuse = 0, ""
        self._fraction = goal_fraction(self._state.world, self._game.goal)
        return self._text, self._info(command="", legal=True)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play the admissible command that the text names (see `match_command`), or nothing at all.

        Raises:
            gymnasium.error.ResetNeeded: no episode is running.
            gymnasium.error.InvalidAction: the action is no text.
        """
        if self._misuse or self._engine is None:
            raise ResetNeeded(f"step() {self._misuse}: call reset() first")
        if not isinstance(action, str):
            raise InvalidAction(f"action must be a command as text, not {action!r}")
        command = match_command(action, self._state.admissible)
        self._text = NOTHING
        if command is not None:
            self._state = self._engine.send(command)
            self._search.learn(command, self._state.world)
            self._text = self._state.text
        self._steps += 1
        self._history.append((command or " ".join(action.split())[:QUOTED_CHARS], self._text))
        reward = self._reward(legal=command is not None)
        terminated = self._state.won
        truncated = not terminated and self._steps >= self._max_steps
        if terminated or truncated:
            self._misuse = "after the end of the episode"
        return self._text, reward, terminated, truncated, self._info(command or "", command is not None)

    def render(self) -> str | None:
        """The last sentence(s) for render mode "ansi", else None."""
        return self._text if self.render_mode else None

    def close(self) -> None:
        """Leave the engine to other environments of this process; a later reset takes one again."""
        if self._engine is not None:
            give_back(self._engine)
        self._engine, self._misuse = None, "after close()"

    def _choose(self, options: Mapping[str, Any]) -> GameFile:
        unknown = sorted(set(options) - {"game"})
        if unknown:
            raise ResetOptionsError(f"reset option {unknown[0]!r} is unknown; there is only 'game'")
        if "game" not in options:
            return self._games[int(self.np_random.integers(len(self._games)))]
        if options["game"] not in self._by_key:
            raise ResetOptionsError(
                f"there is no game {options['game']!r} among {len(self._games)}; the first is {self._games[0].key!r}"
            )
        return self._by_key[options["game"]]

    def _reward(self, legal: bool) -> float:
        before, self._fraction = self._fraction, goal_fraction(self._state.world, self._game.goal)
        paid = {"difference": self._fraction - before, "level": self._fraction, "off": 0.0}[self._goal_reward]
        return SUCCESS_REWARD * self._state.won + paid + ILLEGAL_REWARD * (not legal)

    def _info(self, command: str, legal: bool) -> dict[str, Any]:
        return {
            "task": self._task,
            "task_type": self._game.goal.task_type,
            "game": self._game.key,
            "extra.gamefile": str(self._game.path),
            "room": self._room,
            "observation": self._text,
            "steps": self._steps,
            "history": list(self._history),
            "admissible_commands": list(self._state.admissible),
            "won": self._state.won,
            "goal_condition_success_rate": self._fraction,
            "command": command,
            "legal": legal,
            "expert": self._advice(),
            "view": view(self._state.world),
        }

    def _advice(self) -> tuple[str, str]:
        if self._state.won:
            return "", ""
        searched = None if self._oracle else self._search.searched
        try:
            advice = advise(self._state.world, self._game.goal, self._state.admissible, searched)
        except ValueError:  # a game from elsewhere may be beyond the scripted player; it is playable all the same
            return "", ""
        return advice.command, advice.reason
