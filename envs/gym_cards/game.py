"""What the gym_cards environments share: a picture as observation, the life of an episode, misuse errors."""

import operator
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded, UnsupportedMode
from gymnasium.spaces import Box, Discrete

from envs.gym_cards.drawing import SIZE

_BEFORE_RESET = "before the first reset"


class Game(gymnasium.Env[np.ndarray, int]):
    """A game seen as a uint8 picture [300, 300, 3] and played by a Discrete action.

    A game states its rules in `_deal`, `_place`, `_play`, `_info` and `_frame`. All chance comes from
    `np_random`, which belongs to the instance: `reset(seed=)` reproduces all that follows. Observations and
    infos are copies, safe to keep.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 1}

    def __init__(self, actions: int, render_mode: str | None = None) -> None:
        """Make a game with `actions` actions; `render_mode` may be None or "rgb_array".

        Raises:
            gymnasium.error.UnsupportedMode: any other render mode.
        """
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UnsupportedMode(f"render_mode must be None or 'rgb_array', not {render_mode!r}")
        self.render_mode = render_mode
        self.observation_space = Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.action_space = Discrete(actions)
        self._actions = actions
        self._misuse = _BEFORE_RESET  # why a step is refused now; "" while an episode runs

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode from a random state, or from the very state that `options` describes.

        Raises:
            envs.errors.ResetOptionsError: the options are incomplete, unknown or describe no possible state.
        """
        super().reset(seed=seed)
        if options:
            self._place(options)
        else:
            self._deal()
        self._misuse = ""
        return self._frame(), self._info()

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play one action.

        Raises:
            gymnasium.error.ResetNeeded: no episode is running.
            gymnasium.error.InvalidAction: the action is not an index of the action space.
        """
        if self._misuse:
            raise ResetNeeded(f"step() {self._misuse}: call reset() first")
        reward, terminated, truncated = self._play(self._index(action))
        if terminated or truncated:
            self._misuse = "after the end of the episode"
        return self._frame(), reward, terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """The current picture for render mode "rgb_array", else None; raises ResetNeeded before the first reset."""
        if self._misuse == _BEFORE_RESET:
            raise ResetNeeded(f"render() {self._misuse}: call reset() first")
        return self._frame() if self.render_mode else None

    def _index(self, action: Any) -> int:
        """The action as an int. Not `Discrete.contains`, which lets True pass and overflows at 2 ** 63."""
        try:
            index = operator.index(action)
        except TypeError:
            index = -1
        if isinstance(action, bool) or not 0 <= index < self._actions:
            raise InvalidAction(f"action must be an integer from 0 to {self._actions - 1}, not {action!r}")
        return index

    @abstractmethod
    def _deal(self) -> None:
        """Draw an initial state from `np_random`."""

    @abstractmethod
    def _place(self, options: Mapping[str, Any]) -> None:
        """Take the state from `options`; raise ResetOptionsError without touching the old one."""

    @abstractmethod
    def _play(self, action: int) -> tuple[float, bool, bool]:
        """Apply a valid action; return reward, terminated, truncated."""

    @abstractmethod
    def _info(self) -> dict[str, Any]:
        """A new info that shares nothing mutable with the state."""

    @abstractmethod
    def _frame(self) -> np.ndarray:
        """A new picture of the state."""
