"""What is paid for a step: the environment's reward, the reading of the state, or a weighted sum of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """The reward column of a row is environment * reward + recognition * share of perception fields read rightly.

    What an episode is worth (its return, its success) is always told in the environment's own rewards.
    """

    environment: float = 1.0
    recognition: float = 0.0

    @property
    def shapes(self) -> bool:
        """Whether anything but the environment's own reward is paid."""
        return self != UNSHAPED

    def pay(self, reward: float, recognized: Mapping[str, bool]) -> float:
        """Reward of a step.

        Args:
            reward: The environment's.
            recognized: For every perception field whether it was right; empty where nothing has to be read, which
                pays nothing.
        """
        if not self.shapes:
            return reward
        share = sum(recognized.values()) / len(recognized) if recognized else 0.0
        return self.environment * reward + self.recognition * share


UNSHAPED = RewardWeights()
"""The environment's reward as it is."""
