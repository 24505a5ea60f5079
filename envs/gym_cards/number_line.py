"""NumberLine: walk a number to a target, one step at a time, seeing both only in the picture.

Rules, rewards and initial distribution follow gym_cards' NumberLine (RL4VLM, arXiv 2405.10292), its uneven
choice of the target included; the drawing is our own.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from envs.errors import ResetOptionsError
from envs.gym_cards.drawing import BLACK, WHITE, canvas, pixels, write
from envs.gym_cards.game import Game
from envs.gym_cards.options import check_keys, integer

MINUS, PLUS = 0, 1


class NumberLine(Game):
    """Positions are 0..max_position. Action 0 is minus one, 1 is plus one; a move into a wall stays put.

    Reward +1 for reaching the target, -1 for a move that brings the number no nearer, 0 otherwise. Terminated
    on the target; truncated after 2 x max_position steps elsewhere. Info: "Target" and "Current", both int.
    `reset(options={"target": 4, "current": 1, "steps": 0})` starts from that state; "steps" (those already
    made) may be left out.
    """

    def __init__(self, max_position: int = 5, render_mode: str | None = None) -> None:
        """Make a line from 0 to `max_position`.

        Raises:
            ValueError: `max_position` is below 2, where the repair of an equal start and target fails, above
                9, where a number no longer is one digit, or no int.
        """
        super().__init__(actions=2, render_mode=render_mode)
        if not isinstance(max_position, int) or not 2 <= max_position <= 9:
            raise ValueError(f"max_position must be an integer from 2 to 9, not {max_position!r}")
        self._max_position = max_position
        self._max_steps = 2 * max_position
        self._target = self._current = self._steps = 0

    def _deal(self) -> None:
        self._current = int(self.np_random.integers(self._max_position + 1))
        self._target = int(self.np_random.integers(self._max_position + 1))
        if self._target == self._current:
            # Modulo max_position, not max_position + 1: as in the original, the top is the rarest target.
            self._target = (self._target + 1) % self._max_position
        self._steps = 0

    def _place(self, options: Mapping[str, Any]) -> None:
        check_keys(options, required=("target", "current"), optional=("steps",))
        target = integer(options, "target", 0, self._max_position)
        current = integer(options, "current", 0, self._max_position)
        steps = integer(options, "steps", 0, self._max_steps - 1, default=0)
        if target == current:
            raise ResetOptionsError(
                f"reset options 'target' and 'current' are both {target}: that is an end; let them differ"
            )
        self._target, self._current, self._steps = target, current, steps

    def _play(self, action: int) -> tuple[float, bool, bool]:
        distance = abs(self._target - self._current)
        move = 1 if action == PLUS else -1
        self._current = min(max(self._current + move, 0), self._max_position)
        self._steps += 1
        if self._current == self._target:
            return 1.0, True, False
        nearer = abs(self._target - self._current) < distance
        return (0.0 if nearer else -1.0), False, self._steps >= self._max_steps

    def _info(self) -> dict[str, Any]:
        return {"Target": self._target, "Current": self._current}

    def _frame(self) -> np.ndarray:
        return draw(self._target, self._current).copy()


@cache
def draw(target: int, current: int) -> np.ndarray:
    """The picture of a state, shared and read-only: labels left, large digits right, target above current.

    The digits are centred in the corner cells of a 3 x 3 grid, so that a model that sees the picture as
    84 x 84 in image tokens of 28 x 28 finds each digit whole in one token.
    """
    picture = canvas(WHITE)
    for label, digit, baseline in (("Target:", target, 90), ("Current:", current, 290)):
        write(picture, (14, baseline), label, size=44, colour=BLACK, bold=1)
        write(picture, (250, baseline), str(digit), size=112, colour=BLACK, bold=3, anchor="ms")
    frame = pixels(picture)
    frame.setflags(write=False)
    return frame
