"""What a task's language does to the rows of a slot: memory, switches, fallbacks, mixtures."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import envs
from actors.frames import FrameEncoder
from envs import Component, PromptSwitches, TaskAdapter, mix
from envs.marks import grid
from envs.memory import EpisodeMemory
from protocol.errors import CheckpointError, EnvironmentFailed
from protocol.trajectory import EndReason, ParseStatus
from tests.actors.counting import CountingEnv, CountingTask, CrashingTask, picture_of, say
from tests.actors.playing import PARAMS, Play


class Recalling(CountingTask):
    def recall(self, observation, info):
        return f"It was {info['count']}."


def remembering(folder: Path, memory: int, frames: bool = False, limit: int = 4, **identity: Any) -> Play:
    """A slot of the counting environment, written without a thought of memory, and with one."""
    task = Recalling()
    task.switches = PromptSwitches(memory=memory, memory_frames=frames)
    return Play(folder, EpisodeMemory(CountingEnv(limit), task), task, **identity)


def prompt_of(play: Play, row: Any) -> str:
    ids = row.prompt_token_ids
    return play.vocabulary.decode(ids[ids != play.vocabulary.image_token_id].tolist())


def asked(play: Play) -> dict[str, Any]:
    """The next request: prompt, pictures and seed, not how long it took to make."""
    request = asdict(play.slot.request(PARAMS, 3, seeded=True))
    del request["delays"]
    return request


def test_past_steps_stand_in_the_prompts_of_the_rows(tiny_folder):
    play = remembering(tiny_folder, memory=2)
    for _ in range(4):
        play.say(say("next"))
    rows = play.rows()
    told = [[f"- It was {count}. You gave: next" in prompt_of(play, row) for count in range(4)] for row in rows]
    assert told == [
        [False, False, False, False],
        [True, False, False, False],
        [True, True, False, False],
        [False, True, True, False],
    ]
    assert rows[-1].end_reason is EndReason.TRUNCATED
    assert rows[-1].bootstrap_prompt_token_ids is not None
    last = play.vocabulary.decode(rows[-1].bootstrap_prompt_token_ids.tolist())
    assert "It was 3." in last and "It was 1." not in last
    assert all(json.loads(row.prompt_switches)["memory"] == 2 for row in rows)


def test_earlier_frames_come_before_the_present_one(tiny_folder):
    play = remembering(tiny_folder, memory=2, frames=True)
    name, shown = play.env.unwrapped.name, []
    for _ in range(4):
        shown.append([picture_of(image) for image in play.slot.request(PARAMS, 3, seeded=False).images])
        play.say(say("next"))
    assert shown == [
        [(name, 0)],
        [(name, 0), (name, 1)],
        [(name, 0), (name, 1), (name, 2)],
        [(name, 1), (name, 2), (name, 3)],
    ]
    rows = play.rows()  # checked against the number of placeholders in each prompt
    assert [len(row.frame_digests) for row in rows] == [1, 2, 3, 3]
    assert rows[1].frame_digests[0] == rows[0].frame_digests[0], "the same picture, sent once"
    assert rows[3].bootstrap_frame_digests[:2] == rows[3].frame_digests[1:]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_restored_slot_remembers_what_the_saved_one_did(steps, tiny_folder):
    play = remembering(tiny_folder, memory=2, frames=True, limit=9)
    for step in range(steps):
        play.say("?" if step == 1 else say("next"))
    play.slot.cut()
    play.rows()
    other = remembering(tiny_folder, memory=2, frames=True, limit=9)
    other.slot.load_state_dict(json.loads(json.dumps(play.slot.state_dict())))
    assert asked(other) == asked(play)
    for one in (play, other):
        one.say(say("next"))
        one.slot.cut()
    (mine,), (theirs,) = play.rows(), other.rows()
    np.testing.assert_array_equal(mine.prompt_token_ids, theirs.prompt_token_ids)
    assert mine.frame_digests == theirs.frame_digests


def test_the_next_episode_begins_without_memory(tiny_folder):
    play = remembering(tiny_folder, memory=2, frames=True)
    play.say(say("next"))
    play.say(say("finish"))
    play.slot.reset()
    assert len(play.slot.request(PARAMS, 3, seeded=False).images) == 1
    play.say(say("next"))
    play.slot.cut()
    assert "Earlier" not in prompt_of(play, play.rows()[-1])


@pytest.mark.parametrize(
    "switches",
    [
        PromptSwitches(),
        PromptSwitches(thoughts=False, key_state=False),
        PromptSwitches(formula=False, marks="envs.marks:grid"),
        PromptSwitches(text_only=True, memory=3),
    ],
    ids=lambda switches: switches.to_json()[:60],
)
def test_every_row_says_which_language_made_it(switches, tiny_folder):
    env, task = envs.make("gym_cards/EZPoints-v0", prompt=switches)
    play = Play(tiny_folder, env, task)
    shown = task.query(*env.reset(seed=play.slot._env_seed))
    play.slot.reset()
    text = task.expert(play.slot.state.info, np.random.default_rng(0))
    play.say(text)
    play.slot.cut()
    (row,) = play.rows()
    assert json.loads(row.prompt_switches) == {**asdict(switches), "memory": switches.memory or 0}
    assert len(row.frame_digests) == len(shown.images) == (not switches.text_only)
    info = json.loads(row.info)
    assert set(info["truth"]) == {"cards", "current formula"}, "for probes, whatever the response must state"
    assert set(info["recognized"]) == set(task.recognition(play.slot.state.info))
    assert all(info["recognized"].values())


def test_marks_are_in_the_frames(tiny_folder):
    env, task = envs.make("gym_cards/NumberLine-v0", prompt=PromptSwitches(marks="envs.marks:grid"))
    play = Play(tiny_folder, env, task)
    plain = envs.make("gym_cards/NumberLine-v0")[0].reset(seed=play.slot._env_seed)[0]
    (frame,) = play.slot.state.frames
    assert frame != FrameEncoder().encode(plain)
    assert frame == FrameEncoder().encode(grid(plain, {}))


class Charged(CountingTask):
    """What names no legal action is sent as it is, and costs one."""

    action_names = ()

    def legal_actions(self, info):
        return ("next", "finish")

    def fallback(self, value, info):
        return value

    def env_action(self, name, info):
        return 0 if name == "next" else 1 if name == "finish" else name


class ChargingEnv(CountingEnv):
    def step(self, action):
        if not isinstance(action, str):
            return super().step(action)
        observation, _, _, _, info = super().step(0)
        return observation, -1.0, False, False, info


@pytest.mark.parametrize(
    ("text", "sent", "status"),
    [
        (say("fly away"), "fly away", ParseStatus.UNKNOWN_ACTION),
        (say("next or finish"), "next or finish", ParseStatus.AMBIGUOUS),
        ("next", "", ParseStatus.NO_ACTION_KEY),
        (r'{"action": "half \ud83c"}', "half ?", ParseStatus.UNKNOWN_ACTION),
        ('{"action": "\u2660\x00', "\u2660\x00", ParseStatus.UNKNOWN_ACTION),
    ],
)
def test_a_fallback_of_the_task_is_what_the_row_says_was_played(text, sent, status, tiny_folder):
    play = Play(tiny_folder, ChargingEnv(limit=9), Charged())
    play.say(say("next"))
    play.say(text)
    play.slot.cut()
    row = play.rows()[-1]
    assert (row.action, row.legal, row.reward, row.parse_status) == (sent, False, -1.0, status)
    again = Play(tiny_folder, ChargingEnv(limit=9), Charged())
    again.slot.load_state_dict(json.loads(json.dumps(play.slot.state_dict())))
    assert again.env.count == play.env.count == 2


def mixture(**tasks: TaskAdapter) -> Any:
    return mix({name: Component(CountingEnv(limit=9), task) for name, task in tasks.items()})


def test_rows_of_a_mixture_carry_the_components_tags(tiny_folder):
    words = PromptSwitches(text_only=True, memory=1)
    env, task = mix(
        {
            "dots": Component(*envs.make("docs.examples.dots:DotEnv")),
            "lines": Component(*envs.make("gym_cards/NumberLine-v0", prompt=words)),
            "counts": Component(CountingEnv(), CountingTask()),
        }
    )
    play = Play(tiny_folder, env, task)
    seen: dict[str, set[str]] = {}
    for _ in range(12):
        ended = None
        while ended is None:
            ended = play.say(task.expert(play.slot.state.info, np.random.default_rng(0)))
        assert ended.task.split("/")[0] in env.names
        play.slot.reset()
    for row in play.rows():
        assert row.legal
        component = row.task.split("/")[0]
        seen.setdefault(row.env_id, set()).add(component)
        assert (json.loads(row.prompt_switches)["text_only"], row.frame_digests == ()) == (component == "lines",) * 2
        if component == "counts":
            assert row.task in ("counts/odd", "counts/even")
    assert seen == {
        "docs.examples.dots:DotEnv": {"dots"},
        "gym_cards/NumberLine-v0": {"lines"},
        "test/Counting-v0": {"counts"},
    }


def test_an_open_episode_of_a_mixture_is_restored(tiny_folder):
    def start() -> Play:
        return Play(tiny_folder, *mixture(a=Recalling(), b=CountingTask()))

    play, other = start(), start()
    play.say(say("next"))
    play.slot.cut()
    other.slot.reset()  # perhaps another component
    other.slot.load_state_dict(json.loads(json.dumps(play.slot.state_dict())))
    assert asked(other) == asked(play)
    assert other.slot.state.task == play.slot.state.task


def test_a_panels_seed_decides_the_component_too(tiny_folder):
    def tasks(worker_id: str) -> list[str]:
        play = Play(tiny_folder, *mixture(a=CountingTask(), b=CountingTask()), worker_id=worker_id)
        played = []
        for seed in range(20):
            play.slot.reset_to_panel(seed)
            played.append(play.slot.state.task.split("/")[0])
        return played

    assert tasks("v") == tasks("w")
    assert set(tasks("v")) == {"a", "b"}


def test_failures_of_a_mixture_name_the_component(tiny_folder):
    play = Play(tiny_folder, *mixture(a=CrashingTask()))
    with pytest.raises(EnvironmentFailed, match="test/Counting-v0 raised at 3 steps in a row") as caught:
        for _ in range(3):
            play.say(say("crash"))
            play.slot.reset()
    assert "croupier check-env test/Counting-v0" in caught.value.cure
    play = Play(tiny_folder, *mixture(a=CountingTask()))
    play.say(say("next"))
    saved = play.slot.state_dict()
    saved["tally"]["episode_return"] += 1
    with pytest.raises(CheckpointError, match="of test/Counting-v0 again"):
        play.slot.load_state_dict(saved)
