"""ALFWorld's text games as a gymnasium environment: commands in, sentences and rewards out.

Rules and rewards are those of all ALFWorld environments (`envs.alfworld.episode`).
"""

from collections.abc import Collection, Mapping
from string import printable
from typing import Any, ClassVar, Literal

import gymnasium
from gymnasium.spaces import Text

from envs.alfworld.engine import EngineState, TextEngine, borrow, give_back
from envs.alfworld.episode import ILLEGAL_REWARD, Episode, GoalReward, Moment
from envs.alfworld.expert import advise
from envs.alfworld.game_files import GameFile
from envs.alfworld.game_pool import GamePool
from envs.alfworld.goal import TASK_TYPES, goal_fraction
from envs.alfworld.search import Search
from envs.alfworld.view import view


class AlfworldText(gymnasium.Env[str, str]):
    """One household game per episode, drawn from `np_random`; the action is a command as text.

    Terminated when the task is completed, truncated after `max_steps` commands otherwise. The observation is the
    engine's last sentence(s). Info, new at every step: the keys of `envs.alfworld.episode.Episode.info`, and

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
        illegal_reward: float = ILLEGAL_REWARD,
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
            illegal_reward: what a text that names no admissible command pays, at most 0.
            expert: a player who "search"es, or an "oracle" who knows where everything is.
            render_mode: None or "ansi".

        Raises:
            envs.alfworld.errors.GameFilesError: there are no such games.
            ValueError: another argument is out of its range.
        """
        if expert not in ("search", "oracle"):
            raise ValueError(f"expert must be 'search' or 'oracle', not {expert!r}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise gymnasium.error.UnsupportedMode(f"render_mode must be None or 'ansi', not {render_mode!r}")
        self.render_mode = render_mode
        self.observation_space = Text(10_000, min_length=0, charset=printable)
        self.action_space = Text(1_000, min_length=0, charset=printable)
        self._episode = Episode(max_steps, goal_reward, illegal_reward)
        self._games = GamePool(games, split, task_types)
        self._oracle = expert == "oracle"
        self._engine: TextEngine | None = None
        self._state: EngineState
        self._search: Search

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start a game drawn at random, or the one that `options` names.

        Raises:
            envs.errors.ResetOptionsError: the options are unknown, or name no game of this environment.
            envs.alfworld.errors.EngineError: the game's files are damaged.
        """
        super().reset(seed=seed)
        game = self._games.choose(options, self.np_random)
        self._episode.forbid("after a failed reset")
        self._engine = self._engine or borrow()
        self._state = self._engine.start(game.path)
        self._search = Search()
        self._episode.begin(game, self._moment(game))
        return self._episode.text, self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Play the admissible command that the text names (see `envs.matching.only_name_in`), or nothing at all.

        Raises:
            gymnasium.error.ResetNeeded: no episode is running.
            gymnasium.error.InvalidAction: the action is no text.
        """
        command = self._episode.read(action)
        if command is not None and self._engine is not None:
            self._state = self._engine.send(command)
            self._search.learn(command, self._state.world)
        ends = self._episode.advance(command, self._moment(self._episode.game))
        return self._episode.text, *ends, self._info()

    def render(self) -> str | None:
        """The last sentence(s) for render mode "ansi", else None."""
        return self._episode.text if self.render_mode else None

    def close(self) -> None:
        """Leave the engine to other environments of this process; a later reset takes one again."""
        if self._engine is not None:
            give_back(self._engine)
        self._engine = None
        self._episode.forbid("after close()")

    def _moment(self, game: GameFile) -> Moment:
        state = self._state
        return Moment(state.text, state.admissible, state.won, goal_fraction(state.world, game.goal))

    def _info(self) -> dict[str, Any]:
        return {**self._episode.info(), "expert": self._advice(), "view": view(self._state.world)}

    def _advice(self) -> tuple[str, str]:
        if self._state.won:
            return "", ""
        searched = None if self._oracle else self._search.searched
        try:
            advice = advise(self._state.world, self._episode.game.goal, self._state.admissible, searched)
        except ValueError:  # a game from elsewhere may be beyond the scripted player; it is playable all the same
            return "", ""
        return advice.command, advice.reason
