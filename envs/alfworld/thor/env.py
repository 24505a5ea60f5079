"""ALFWorld's rendered households (AI2-THOR) as a gymnasium environment: commands in, pictures and rewards out.

Rules, rewards and infos are those of the text games (`envs.alfworld.episode`); the picture is the observation. THOR
itself runs behind `state.Simulator`, by default in a process of its own.
"""

import os
import sys
from collections.abc import Callable, Collection, Mapping
from string import printable
from typing import Any, ClassVar, TypeVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Text

from envs.alfworld.episode import ILLEGAL_REWARD, Episode, GoalReward
from envs.alfworld.errors import GameFilesError
from envs.alfworld.expert import advise
from envs.alfworld.game_files import TRAJ_FILE, GameFile, read_json
from envs.alfworld.game_pool import GamePool
from envs.alfworld.goal import TASK_TYPES
from envs.alfworld.thor.notes import Notes
from envs.alfworld.thor.process import SimulatorProcess
from envs.alfworld.thor.simulator import BUILD, INSTALL, missing_packages
from envs.alfworld.thor.state import FRAME_SHAPE, Simulator, SimulatorError, SimulatorState
from envs.errors import EnvSetupError

_Answer = TypeVar("_Answer")

MAX_DEATHS = 3
"""How many simulators may die one after another, without a finished episode, before `reset` starts no more."""

PYTHON_VARIABLE = "CROUPIER_THOR_PYTHON"

START_HELP = (
    f"the first start fetches the Unity build {BUILD} (about 390 MB) into ~/.ai2thor and needs the network; every "
    "start needs an X server with GL: see docs/thor.md"
)


class AlfworldThor(gymnasium.Env[np.ndarray, str]):
    """One rendered household per episode, drawn from `np_random`; the action is a command as text.

    Terminated when the task is completed, truncated after `max_steps` commands otherwise. The observation is the
    picture after the last command, uint8 [300, 300, 3], RGB. Info, new at every step: the keys of
    `envs.alfworld.episode.Episode.info` (the simulator's sentences in "observation"), and "expert": (command,
    reason) of a scripted player who knows only what those sentences told, ("", "") where the game is won.

    `reset(options={"game": key})` plays that very game. A simulator that dies or hangs is an error of the step or
    reset at which it did; the next reset starts another one.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        games: str = "official",
        split: str = "train",
        task_types: Collection[str] = TASK_TYPES,
        max_steps: int = 50,
        goal_reward: GoalReward = "difference",
        illegal_reward: float = ILLEGAL_REWARD,
        python: str = "",
        unity: str = "",
        display: str = "",
        start_timeout_s: float = 900.0,
        answer_timeout_s: float = 120.0,
        launch: Callable[[], Simulator] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Find the games; nothing is started before the first reset.

        Args:
            games: "official" for ALFWorld's data below $ALFWORLD_DATA, or a folder of such games. Generated games
                have no scene to render.
            split: "train", "valid_seen" or "valid_unseen"; ignored for a folder that has no such subfolder.
            task_types: kinds of task to play.
            max_steps: commands after which an unfinished episode is truncated.
            goal_reward: how the fraction of fulfilled goal conditions is paid: as "difference" to the state
                before, as "level" at every step (RL4VLM), or "off".
            illegal_reward: what a text that names no admissible command pays, at most 0.
            python: interpreter of the environment with `alfworld[vis]`; "" for the one that $CROUPIER_THOR_PYTHON
                names, or this one if that is unset.
            unity: path of the Unity executable; "" for the build that ai2thor fetches.
            display: X display to draw on, like ":0"; "" for $DISPLAY, or ":0.0" if that is unset.
            start_timeout_s: for a simulator to start; the first start may have to fetch the build.
            answer_timeout_s: for a game to begin and for the answer to a command.
            launch: starts a simulator; by default THOR in a process of its own, which the five arguments before
                this one are for.
            render_mode: None or "rgb_array".

        Raises:
            EnvSetupError: packages are missing in this interpreter, and no other one is given.
            envs.alfworld.errors.GameFilesError: there are no such games, or they have no scene to render.
            ValueError: another argument is out of its range.
        """
        if min(start_timeout_s, answer_timeout_s) <= 0:
            raise ValueError(f"timeouts must be positive, not {start_timeout_s:g} and {answer_timeout_s:g} s")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise gymnasium.error.UnsupportedMode(f"render_mode must be None or 'rgb_array', not {render_mode!r}")
        self.render_mode = render_mode
        self.observation_space = Box(0, 255, FRAME_SHAPE, np.uint8)
        self.action_space = Text(1_000, min_length=0, charset=printable)
        self._episode = Episode(max_steps, goal_reward, illegal_reward)
        if launch is None:
            python = python or os.environ.get(PYTHON_VARIABLE, "")
            if not python and (lacking := missing_packages()):
                raise EnvSetupError(f"{INSTALL}; missing is {', '.join(lacking)}")
            launch = _thor(python or sys.executable, unity, display, start_timeout_s, answer_timeout_s)
        self._launch = launch
        self._games = GamePool(games, split, task_types)
        _check_scene(self._games.games[0])
        self._simulator: Simulator | None = None
        self._deaths = 0
        self._state: SimulatorState
        self._notes: Notes

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a game drawn at random, or the one that `options` names, and before it a simulator if none is alive.

        Raises:
            envs.errors.ResetOptionsError: the options are unknown, or name no game of this environment.
            EnvSetupError: the simulator's interpreter lacks packages.
            SimulatorError: the simulator did not start, refused the game or did not answer in time, or
                MAX_DEATHS of them died without a finished episode between them.
        """
        super().reset(seed=seed)
        game = self._games.choose(options, self.np_random)
        self._episode.forbid("after a failed reset")
        simulator = self._simulator or self._start_simulator()
        self._state = self._ask(lambda: simulator.start(game))
        self._episode.begin(game, self._state)
        self._notes = Notes(self._episode.room)
        return self._state.frame.copy(), self._info()

    def step(self, action: str) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play the admissible command that the text names (see `envs.matching.only_name_in`), or nothing at all.

        Raises:
            gymnasium.error.ResetNeeded: no episode is running.
            gymnasium.error.InvalidAction: the action is no text.
            SimulatorError: the simulator broke or did not answer in time; the episode is over.
        """
        command, simulator = self._episode.read(action), self._simulator
        if command is not None and simulator is not None:
            self._state = self._ask(lambda: simulator.send(command))
            self._notes.learn(command, self._state.text, self._state.admissible)
        reward, terminated, truncated = self._episode.advance(command, self._state)
        if terminated or truncated:
            self._deaths = 0
        return self._state.frame.copy(), reward, terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """The picture for render mode "rgb_array", else None."""
        return self._state.frame.copy() if self.render_mode else None

    def close(self) -> None:
        """End the simulator; a later reset starts another one."""
        self._episode.forbid("after close()")
        self._deaths = 0
        self._end_simulator()

    def _start_simulator(self) -> Simulator:
        if self._deaths >= MAX_DEATHS:
            raise SimulatorError(
                f"{self._deaths} simulators died one after another without a finished episode, so no more are started; "
                "the errors before this one say why, close() allows new attempts"
            )
        self._simulator = self._ask(self._launch)
        return self._simulator

    def _ask(self, call: Callable[[], _Answer]) -> _Answer:
        """The result of the call; a simulator that failed is of no more use."""
        try:
            return call()
        except BaseException as error:  # after an interrupt, too: its answer would be taken for the next one's
            self._deaths += isinstance(error, SimulatorError)
            self._episode.forbid("after the simulator died")
            self._end_simulator()
            raise

    def _end_simulator(self) -> None:
        simulator, self._simulator = self._simulator, None
        if simulator is not None:
            simulator.close()

    def _info(self) -> dict[str, Any]:
        return {**self._episode.info(), "expert": self._advice()}

    def _advice(self) -> tuple[str, str]:
        if self._state.won:
            return "", ""
        for _ in range(2):
            try:
                goal, notes = self._episode.game.goal, self._notes
                advice = advise(notes.world(), goal, self._state.admissible, notes.searched)
                return advice.command, advice.reason
            except ValueError:
                self._notes.forgive()  # something was overlooked, or refused for a reason that may have passed
        fallback = "look" if "look" in self._state.admissible else self._state.admissible[0]
        return fallback, "nothing that was told is left to do"


def _check_scene(game: GameFile) -> None:
    described = read_json(game.path.parent / TRAJ_FILE)
    lacking = [key for key in ("scene", "plan") if key not in described]
    if lacking:
        raise GameFilesError(
            f"game {game.key!r} has no {' and no '.join(lacking)} in its {TRAJ_FILE}, so THOR cannot render it; "
            "generated games are text only, use games='official'"
        )


def _thor(
    python: str, unity: str, display: str, start_timeout_s: float, answer_timeout_s: float
) -> Callable[[], Simulator]:
    def launch() -> Simulator:
        try:
            return SimulatorProcess(
                "envs.alfworld.thor.simulator:ThorSimulator",
                {"unity": unity, "display": display},
                python=python,
                start_timeout_s=start_timeout_s,
                answer_timeout_s=answer_timeout_s,
            )
        except SimulatorError as error:
            raise SimulatorError(f"{error}\n({START_HELP})") from error

    return launch
