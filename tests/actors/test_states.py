import numpy as np
import pytest

from actors.frames import FrameEncoder
from actors.prompting import PromptEncoder
from actors.states import Answer, TaskState, describe, read_answer
from protocol.trajectory import ParseStatus, digest_of
from tests.actors.counting import SIZE, CountingEnv, CountingTask, told_state

OK, NO_KEY, ILLEGAL = ParseStatus.OK, ParseStatus.NO_ACTION_KEY, ParseStatus.ILLEGAL


def state(legal: tuple[str, ...] = ("next", "finish"), truth: dict[str, str] | None = None) -> TaskState:
    return TaskState((), (), (), legal, truth or {}, "", {})


def test_a_state_is_described_in_tokens_and_frames(tiny_folder):
    env, encoder = CountingEnv(), PromptEncoder(tiny_folder)
    env.reset(seed=0)
    observation, *_, info = env.step(0)
    described = describe(CountingTask(), encoder, FrameEncoder(), observation, info)
    assert described.prompt_token_ids == encoder.encode(f"episode {env.name} count 1", 1)
    assert [digest_of(frame.data) for frame in described.frames] == [frame.digest for frame in described.frames]
    assert (described.sizes, described.legal) == ((SIZE,), ("next", "finish"))
    assert (described.truth, described.task) == ({"count": "1"}, "odd" if env.name % 2 else "even")


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
    ("text", "answer"),
    [
        ('{"count": "1", "action": "finish"}', Answer('{"count": "1", "action": "finish"}', OK, "finish", True)),
        ('{"count": "2", "action": "next"}', Answer('{"count": "2", "action": "next"}', OK, "next", False)),
        ('{"count": "1", "action": "crash"}', Answer('{"count": "1", "action": "crash"}', ILLEGAL, "fallback", True)),
        ("finish", Answer("finish", NO_KEY, "fallback", False)),
    ],
)
def test_an_answer_is_read_in_its_state(text, answer):
    read = read_answer(text, CountingTask(), state(truth={"count": "1"}), lambda _: "fallback")
    assert read == answer
    assert read.legal is (answer.action != "fallback")


def test_without_probes_nothing_is_recognized():
    assert not read_answer('{"action": "next"}', CountingTask(), state(), lambda _: "").recognized


def test_the_fallback_is_asked_for_the_state_and_only_when_needed():
    asked = []
    here = state(legal=("next",))
    read_answer('{"action": "next"}', CountingTask(), here, lambda s: str(asked.append(s)))
    assert asked == []
    read_answer('{"action": "finish"}', CountingTask(), here, lambda s: str(asked.append(s)))
    assert asked == [here]


def test_told_state_reads_back_what_describe_wrote(tiny_folder):
    from actors.vocabulary import Vocabulary

    ids = PromptEncoder(tiny_folder).encode(CountingTask().prompt(None, {"name": 12, "count": 3}), 1)
    assert told_state(Vocabulary.from_folder(tiny_folder), ids) == (12, 3)
