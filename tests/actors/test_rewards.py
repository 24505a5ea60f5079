"""What is paid for a step."""

import pytest

from actors.rewards import UNSHAPED, RewardWeights


@pytest.mark.parametrize(
    ("weights", "reward", "recognized", "paid"),
    [
        (UNSHAPED, -1.0, {"a": True}, -1.0),
        (RewardWeights(0.0, 1.0), -1.0, {"a": True, "b": False}, 0.5),
        (RewardWeights(0.0, 1.0), 5.0, {"a": True, "b": True}, 1.0),
        (RewardWeights(0.0, 2.0), 5.0, {"a": False}, 0.0),
        (RewardWeights(0.5, 3.0), -1.0, {"a": True, "b": True, "c": False}, 1.5),
        (RewardWeights(0.5, 3.0), -1.0, {}, -0.5),
    ],
)
def test_the_reward_is_the_weighted_sum(weights, reward, recognized, paid):
    assert weights.pay(reward, recognized) == pytest.approx(paid)


def test_the_usual_weights_change_nothing():
    assert not UNSHAPED.shapes
    assert RewardWeights(1.0, 0.1).shapes and RewardWeights(2.0, 0.0).shapes
