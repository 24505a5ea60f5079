import json
from typing import Any

import numpy as np
import pytest

from actors.frames import FrameEncoder
from actors.prompting import PromptEncoder
from actors.states import Answer, TaskState, describe, read_answer
from envs import Component, PromptSwitches, make, mix
from envs.mixture import Mixture, MixtureTask
from protocol.trajectory import ParseStatus, digest_of
from tests.actors.counting import SIZE, CountingEnv, CountingTask, told_state

OK, NO_KEY, ILLEGAL = ParseStatus.OK, ParseStatus.NO_ACTION_KEY, ParseStatus.ILLEGAL


def state(legal: tuple[str, ...] = ("next", "finish"), probes: dict[str, str] | None = None, **more: Any) -> TaskState:
    return TaskState((), (), (), legal, probes or {}, more.get("adapter", CountingTask()), "", more.get("info", {}))


def test_a_state_is_described_in_tokens_and_frames(tiny_folder):
    env, encoder = CountingEnv(), PromptEncoder(tiny_folder)
    env.reset(seed=0)
    observation, *_, info = env.step(0)
    described = describe(CountingTask(), encoder, FrameEncoder(), observation, info)
    assert described.prompt_token_ids == encoder.encode(f"episode {env.name} count 1", 1)
    assert [digest_of(frame.data) for frame in described.frames] == [frame.digest for frame in described.frames]
    assert (described.sizes, described.legal) == ((SIZE,), ("next", "finish"))
    assert (described.probes, described.task) == ({"count": "1"}, "odd" if env.name % 2 else "even")
    assert isinstance(described.adapter, CountingTask)


def test_a_description_does_not_change_with_the_environments_own_objects(tiny_folder):
    info = {"name": 4, "count": 0}
    picture = np.zeros((*SIZE, 3), np.uint8)
    frames = FrameEncoder()
    described = describe(CountingTask(), PromptEncoder(tiny_folder), frames, picture, info)
    info["count"] = 1
    picture[:] = 255
    assert described.info == {"name": 4, "count": 0}
    assert described.frames == (frames.encode(np.zeros((*SIZE, 3), np.uint8)),)


@pytest.mark.parametrize(
    ("text", "status", "action", "right"),
    [
        ('{"count": "1", "action": "finish"}', OK, "finish", True),
        ('{"count": "2", "action": "next"}', OK, "next", False),
        ('{"count": "1", "action": "crash"}', ILLEGAL, "random", True),
        ("finish", NO_KEY, "random", False),
    ],
)
def test_an_answer_is_read_in_its_state(text, status, action, right):
    read = read_answer(text, state(probes={"count": "1"}), lambda _: "random")
    assert read == Answer(text, status, action, {"count": right})
    assert read.legal is (action != "random")


def test_without_probes_nothing_is_recognized():
    assert read_answer('{"action": "next"}', state(), lambda _: "").recognized == {}


def test_a_random_action_is_asked_for_the_state_and_only_when_needed():
    asked = []
    here = state(legal=("next",))
    read_answer('{"action": "next"}', here, lambda s: str(asked.append(s)))
    assert asked == []
    read_answer('{"action": "finish"}', here, lambda s: str(asked.append(s)))
    assert asked == [here]


class Charging(CountingTask):
    """Hands the text itself on where it names no legal action, and tells what it was asked."""

    def fallback(self, value, info):
        return f"{value} in {info['count']}"


@pytest.mark.parametrize(
    ("text", "sent"),
    [('{"action": "crash"}', "crash in 4"), ('{"action": "fly away"}', "fly away in 4"), ("next", " in 4")],
)
def test_the_tasks_own_fallback_comes_before_a_random_action(text, sent):
    here = state(adapter=Charging(), info={"count": 4})
    read = read_answer(text, here, lambda _: pytest.fail("a random action was asked for"))
    assert (read.action, read.legal) == (sent, False)
    assert read_answer('{"action": "next"}', here, lambda _: "").action == "next"


def dots_and_lines() -> tuple[Mixture, MixtureTask]:
    switches = PromptSwitches(text_only=True)
    return mix(
        {
            "dots": Component(*make("docs.examples.dots:DotEnv")),
            "lines": Component(*make("gym_cards/NumberLine-v0", prompt=switches)),
        }
    )


def test_in_a_mixture_a_state_belongs_to_its_component(tiny_folder):
    env, task = dots_and_lines()
    encoder, frames = PromptEncoder(tiny_folder), FrameEncoder()
    seen = {}
    for name in env.names:
        observation, info = env.reset(seed=0, options={"component": name})
        seen[name] = describe(task, encoder, frames, observation, info)
    dots, lines = seen["dots"], seen["lines"]
    assert (dots.adapter.env_id, lines.adapter.env_id) == ("docs.examples.dots:DotEnv", "gym_cards/NumberLine-v0")
    assert (dots.legal, lines.legal) == (("left", "right"), ("-", "+"))
    assert (dots.sizes, lines.sizes) == (((64, 64),), ())
    assert (list(dots.probes), dict(lines.probes)) == (["dot"], {})
    assert (dots.task, lines.task) == ("dots", "lines")
    assert json.loads(lines.adapter.switches.to_json())["text_only"] is True
    # The names are those of the component: a plus is no action of the dots, not one that is illegal now.
    assert read_answer('{"action": "+"}', lines, lambda _: "").status is OK
    assert read_answer('{"action": "+"}', dots, lambda _: "").status is ParseStatus.UNKNOWN_ACTION


def test_told_state_reads_back_what_describe_wrote(tiny_folder):
    from actors.vocabulary import Vocabulary

    ids = PromptEncoder(tiny_folder).encode(CountingTask().prompt(None, {"name": 12, "count": 3}), 1)
    assert told_state(Vocabulary.from_folder(tiny_folder), ids) == (12, 3)
