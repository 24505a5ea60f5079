"""What all ALFWorld environments share, whatever simulates the household: rewards, ends, misuse, common info.

Rewards follow RL4VLM (arXiv 2405.10292): 50 on success, the fraction of fulfilled goal conditions, -1 for text that
names no admissible command (or another amount that is asked for). Two deliberate deviations: the fraction is paid as
differences by default, since as a level it rewards loitering in a half-finished state; and an episode ends after
exactly `max_steps` commands (there, a limit of 50 ended it after 52).
"""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from gymnasium.error import InvalidAction, ResetNeeded

from envs.alfworld.game_files import GameFile
from envs.alfworld.wording import split_intro
from envs.matching import only_name_in

GoalReward = Literal["difference", "level", "off"]

SUCCESS_REWARD = 50.0
ILLEGAL_REWARD = -1.0
NOTHING = "Nothing happens."


@dataclass(frozen=True)
class Moment:
    """One state of a household, as far as the rules need it."""

    text: str
    """What the simulator said last."""
    admissible: tuple[str, ...]
    """The commands to choose from, sorted."""
    won: bool
    fraction: float
    """Fulfilled goal conditions over all conditions, in [0, 1]."""


class Episode:
    """The episode that is going on: what was asked and answered, what it paid, whether and why it is over."""

    def __init__(self, max_steps: int, goal_reward: GoalReward, illegal_reward: float = ILLEGAL_REWARD) -> None:
        """Set the rules; there is no episode before `begin`.

        Args:
            max_steps: commands after which an unfinished episode is truncated.
            goal_reward: how the fraction of fulfilled goal conditions is paid: as "difference" to the state
                before, as "level" at every step (RL4VLM), or "off".
            illegal_reward: what a text that names no admissible command pays, at most 0.

        Raises:
            ValueError: an argument is out of its range.
        """
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, not {max_steps}")
        if goal_reward not in ("difference", "level", "off"):
            raise ValueError(f"goal_reward must be 'difference', 'level' or 'off', not {goal_reward!r}")
        if not (isfinite(illegal_reward) and illegal_reward <= 0):
            raise ValueError(f"illegal_reward must be a finite number of at most 0, not {illegal_reward!r}")
        self._max_steps, self._goal_reward, self._illegal_reward = max_steps, goal_reward, illegal_reward
        self._misuse = "before the first reset"  # why a step is refused now; "" while an episode runs
        self.game: GameFile
        self.now: Moment
        self.room = self.task = self.text = self.command = ""
        self.steps, self.legal = 0, True

    def begin(self, game: GameFile, first: Moment) -> None:
        """Start anew; the first text lists what is in the room and ends with the task.

        Raises:
            ValueError: the first text is no opening of an ALFWorld game.
        """
        self.room, self.task = split_intro(first.text)
        self.game, self.now, self.text = game, first, first.text
        self.command, self.legal, self.steps, self._misuse = "", True, 0, ""

    def forbid(self, why: str) -> None:
        """Refuse steps from now on; `why` completes the sentence "step() ..."."""
        self._misuse = why

    def read(self, action: Any) -> str | None:
        """The admissible command that the action names (see `envs.matching.only_name_in`), or None.

        Raises:
            gymnasium.error.ResetNeeded: no episode is running.
            gymnasium.error.InvalidAction: the action is no text.
        """
        if self._misuse:
            raise ResetNeeded(f"step() {self._misuse}: call reset() first")
        if not isinstance(action, str):
            raise InvalidAction(f"action must be a command as text, not {action!r}")
        return only_name_in(action, self.now.admissible)

    def advance(self, command: str | None, now: Moment) -> tuple[float, bool, bool]:
        """Count a step that led to the state `now`, which is the old one where `command` is None.

        Returns:
            Reward, whether the episode is terminated, whether it is truncated; never both.
        """
        before, self.now = self.now.fraction, now
        self.command, self.legal = command or "", command is not None
        self.text = now.text if self.legal else NOTHING
        self.steps += 1
        paid = {"difference": now.fraction - before, "level": now.fraction, "off": 0.0}[self._goal_reward]
        truncated = not now.won and self.steps >= self._max_steps
        if now.won or truncated:
            self._misuse = "after the end of the episode"
        return SUCCESS_REWARD * now.won + paid + self._illegal_reward * (not self.legal), now.won, truncated

    def info(self) -> dict[str, Any]:
        """The keys that all ALFWorld environments have in common, new at every call.

        - "task": what is asked for, "task_type", "game": the game's key, "extra.gamefile": its path;
        - "room": the sentence that lists all receptacles, which is said only once;
        - "observation": the last sentence(s); "steps": commands given so far;
        - "admissible_commands": list of str; "won": bool; "goal_condition_success_rate": float in [0, 1];
        - "legal": whether the last action named an admissible command, "command": that command ("" if none).
        """
        return {
            "task": self.task,
            "task_type": self.game.goal.task_type,
            "game": self.game.key,
            "extra.gamefile": str(self.game.path),
            "room": self.room,
            "observation": self.text,
            "steps": self.steps,
            "admissible_commands": list(self.now.admissible),
            "won": self.now.won,
            "goal_condition_success_rate": self.now.fraction,
            "command": self.command,
            "legal": self.legal,
        }
