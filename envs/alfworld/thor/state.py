"""The boundary to whatever simulates and draws a household: three calls and a plain state.

The environment knows this file and nothing behind it, so that a scripted fake can stand in for THOR.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs.alfworld.episode import Moment
from envs.alfworld.errors import EngineError
from envs.alfworld.game_files import GameFile

FRAME_SHAPE = (300, 300, 3)
"""Height, width, channels; 300 is also the smallest window that the package accepts."""


class SimulatorError(EngineError):
    """The simulator could not be started, refused a game, broke, or did not answer in time; it is of no more use."""


@dataclass(frozen=True, eq=False)
class SimulatorState(Moment):
    """What a simulator says and shows after the start of a game or after a command."""

    frame: np.ndarray
    """What the agent sees, uint8 [300, 300, 3], RGB."""


class Simulator(Protocol):
    """Plays one game after another."""

    def start(self, game: GameFile) -> SimulatorState:
        """Begin a game; the text lists what is in the room and ends with the task, the same for every start.

        Raises:
            SimulatorError: it could not.
        """
        ...

    def send(self, command: str) -> SimulatorState:
        """Play one admissible command of the last state.

        Raises:
            SimulatorError: it could not.
        """
        ...

    def close(self) -> None:
        """End it with everything that it started; may be called twice."""
        ...
