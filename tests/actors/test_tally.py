import json
from dataclasses import asdict

import pytest

from actors.tally import EpisodeTally
from envs import Component, make, mix
from protocol.trajectory import EndReason
from tests.actors.counting import CountingTask

READ = [{"card": False, "sum": True}, {"card": True, "sum": True}, {"card": True}, {}]


def tally(*rewards: float) -> EpisodeTally:
    sums = EpisodeTally()
    for index, (reward, recognized) in enumerate(zip(rewards, READ, strict=False)):
        sums.add(reward, legal=index != 0, recognized=recognized)
    return sums


def test_every_step_counts():
    sums = tally(1.0, -0.5, 2.0, 0.25)
    counts = {"steps": 4, "invalid_steps": 1, "recognized_steps": 2, "recognition_steps": 3}
    fields = {"field_rights": {"card": 2, "sum": 2}, "field_probes": {"card": 3, "sum": 2}}
    assert asdict(sums) == {"episode_return": 2.75, **counts, **fields}


def test_a_tally_is_restored_from_json():
    sums = tally(1.0, -0.5)
    assert EpisodeTally(**json.loads(json.dumps(asdict(sums)))) == sums
    older = {k: v for k, v in asdict(sums).items() if not k.startswith("field_")}
    assert EpisodeTally(**older).recognition_steps == 2, "as a checkpoint from before the fields were counted"


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
    assert result.recognition == {"card": (1, 2), "sum": (2, 2)}


def test_in_a_mixture_the_component_gives_its_name():
    env, task = mix({"dots": Component(*make("docs.examples.dots:DotEnv"))})
    info = env.reset(seed=0)[1]
    result = tally(1.0).result(task, EndReason.TERMINATED, info, seed=None)
    assert (result.env_id, result.task) == ("docs.examples.dots:DotEnv", "dots")
