import pytest

from actors.tally import EpisodeTally
from protocol.trajectory import EndReason
from tests.actors.counting import CountingTask


def tally(*rewards: float) -> EpisodeTally:
    sums = EpisodeTally()
    for index, reward in enumerate(rewards):
        sums.add(reward, legal=index != 0, recognized=index == 1, probed=index < 3)
    return sums


def test_every_step_counts():
    sums = tally(1.0, -0.5, 2.0, 0.25)
    assert sums == EpisodeTally(2.75, steps=4, invalid_steps=1, recognized_steps=1, recognition_steps=3)


@pytest.mark.parametrize(
    ("end", "rewards", "success", "truncated", "env_error"),
    [
        (EndReason.TERMINATED, (-1.0, 2.0), True, False, False),
        (EndReason.TERMINATED, (-1.0, 1.0), False, False, False),
        (EndReason.TRUNCATED, (-1.0, 2.0), True, True, False),
        (EndReason.ENV_ERROR, (-1.0, 2.0), False, False, True),  # whatever it earned, the episode is lost
    ],
)
def test_results(end, rewards, success, truncated, env_error):
    result = tally(*rewards).result(CountingTask(), end, {"name": 3, "count": 2}, seed=9)
    assert (result.success, result.truncated, result.env_error) == (success, truncated, env_error)
    assert (result.env_id, result.task, result.seed) == ("test/Counting-v0", "odd", 9)
    assert (result.episode_return, result.length_steps) == (sum(rewards), 2)
    assert (result.invalid_steps, result.recognized_steps, result.recognition_steps) == (1, 1, 2)
