import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import envs
from actors import demonstrations
from actors.demonstrations import canary_prompts, demonstrate
from actors.prompting import PromptEncoder
from actors.vocabulary import Vocabulary
from envs.gym_cards.number_line import draw
from protocol.codec import TrajectoryBatch, decode_frames, decode_steps
from protocol.errors import ConfigError, ExpertFailed, RequestRefused
from protocol.trajectory import DEMONSTRATION_VERSION, NO_DIGEST, EndReason, ParseStatus, Step, TokenRole
from protocol.validation import AdmissionRules, validate
from tests.actors.counting import SIZE, CountingEnv, CountingTask, picture_of, told_state
from tests.actors.test_frames import pixels

ENV_ID = "gym_cards/NumberLine-v0"


def play(folder: Path, num_steps: int, noise: float, seed: int = 0) -> TrajectoryBatch:
    encoder = PromptEncoder(folder, {(300, 300): 9})
    return demonstrate(lambda: envs.make(ENV_ID), encoder, num_steps=num_steps, noise=noise, seed=seed).batches[0]


def truth(row: Step) -> tuple[int, int]:
    told = json.loads(row.info)["truth"]
    return int(told["current number"]), int(told["target number"])


def optimal(rows: Sequence[Step]) -> list[bool]:
    return [row.action == ("+" if truth(row)[0] < truth(row)[1] else "-") for row in rows]


def test_demonstrations_are_rows_the_learner_takes(each_tiny_folder):
    encoder = PromptEncoder(each_tiny_folder)
    batch = play(each_tiny_folder, 40, noise=0.5)
    rules = AdmissionRules(
        vocab_size=encoder.tokenizer.get_vocab_size(),
        image_token_id=encoder.image_token_id or -1,
        published={DEMONSTRATION_VERSION: NO_DIGEST},
    )
    assert validate(batch, rules) == []
    rows = decode_steps(batch.steps)
    assert len(rows) == 40
    assert rows[-1].end_reason is not EndReason.NONE
    for row in rows:
        assert (row.policy_version, row.adapter_digest, row.temperature) == (DEMONSTRATION_VERSION, NO_DIGEST, 1.0)
        assert (row.run_id, row.worker_id, row.env_id) == ("demonstrations", "expert", ENV_ID)
        assert not row.behavior_log_probs.any()
        assert np.count_nonzero(row.prompt_token_ids == encoder.image_token_id) == 9


def test_rows_hold_the_experts_words_and_the_picture_they_are_about(tiny_folder):
    encoder = PromptEncoder(tiny_folder)
    batch = play(tiny_folder, 30, noise=0.5)
    frames = decode_frames(batch.frames)
    for row in decode_steps(batch.steps):
        current, target = truth(row)
        np.testing.assert_array_equal(pixels(frames[row.frame_digests[0]]), draw(target, current))
        words = json.loads(row.response_text)
        assert (words["current number"], words["target number"]) == (str(current), str(target))
        assert (words["action"], row.parse_status, row.legal) == (row.action, ParseStatus.OK, True)
        assert encoder.decode(row.response_token_ids) == row.response_text
        # An engine stops at the closing brace, so a demonstration ends there as well.
        assert row.response_text.endswith('"}') and row.token_roles[-1] == TokenRole.ACTION


def test_rows_become_arrow_in_portions_and_stay_the_same(tiny_folder, monkeypatch):
    encoder = PromptEncoder(tiny_folder, {(300, 300): 9})
    whole = play(tiny_folder, 50, noise=0.5)
    monkeypatch.setattr(demonstrations, "ROWS_PER_BATCH", 16)
    batches = demonstrate(lambda: envs.make(ENV_ID), encoder, num_steps=50, noise=0.5, seed=0).batches
    assert len(batches) == 4
    timeless = [replace(row, sample_s=0.0, env_s=0.0) for batch in batches for row in decode_steps(batch.steps)]
    expected = [replace(row, sample_s=0.0, env_s=0.0) for row in decode_steps(whole.steps)]
    assert list(map(repr, timeless)) == list(map(repr, expected))
    for batch in batches:
        assert {d for row in decode_steps(batch.steps) for d in row.frame_digests} == set(decode_frames(batch.frames))


def test_without_noise_every_action_is_optimal_and_every_episode_won(tiny_folder):
    rows = decode_steps(play(tiny_folder, 60, noise=0.0).steps)
    assert all(optimal(rows))
    assert all(row.reward >= 0 for row in rows)
    ends = [row for row in rows[:-1] if row.end_reason is not EndReason.NONE]
    assert len(ends) > 10
    assert all(row.end_reason is EndReason.TERMINATED and row.reward == 1.0 for row in ends)


@pytest.mark.parametrize(("noise", "low", "high"), [(1.0, 0.42, 0.58), (0.5, 0.67, 0.83)])
def test_noise_spoils_actions_and_leaves_perception_right(noise, low, high, tiny_folder):
    truth_keys = ("current number", "target number")
    rows = decode_steps(play(tiny_folder, 400, noise=noise).steps)
    assert low < np.mean(optimal(rows)) < high
    assert 0.35 < np.mean([row.action == "+" for row in rows]) < 0.65
    assert all(json.loads(row.info)["recognized"] == dict.fromkeys(truth_keys, True) for row in rows)


def test_the_seed_decides_everything(tiny_folder):
    def texts(seed: int) -> list[str]:
        return [row.response_text for row in decode_steps(play(tiny_folder, 30, noise=0.5, seed=seed).steps)]

    assert texts(1) == texts(1) != texts(2)


def test_episodes_are_played_one_after_the_other(tiny_folder):
    rows = decode_steps(play(tiny_folder, 50, noise=0.3).steps)
    expected = 0
    for row in rows:
        assert row.step == expected
        expected = 0 if row.end_reason is not EndReason.NONE else expected + 1
    assert len({row.episode_id for row in rows}) > 10


@pytest.mark.parametrize(("noise", "complaint"), [(-0.1, "noise"), (1.5, "noise")])
def test_noise_is_a_probability_and_the_environment_is_closed_in_the_end(noise, complaint, tiny_folder):
    journal: list[Any] = []

    def make_env() -> tuple[gymnasium.Env, CountingTask]:
        return CountingEnv(journal=journal), CountingTask()

    encoder = PromptEncoder(tiny_folder, {(28, 28): 1})
    with pytest.raises(ValueError, match=complaint):
        demonstrate(make_env, encoder, num_steps=3, noise=noise, seed=0)
    assert journal == [], "refused before an environment is made"
    demonstrate(make_env, encoder, num_steps=3, noise=0.0, seed=0)
    assert journal[-1] == "close"


def test_the_token_count_of_the_pictures_must_be_known(tiny_folder):
    with pytest.raises(RequestRefused, match="300x300 pixels takes is not known"):
        demonstrate(lambda: envs.make(ENV_ID), PromptEncoder(tiny_folder), num_steps=1, noise=0.0, seed=0)


def test_canaries_are_first_states_with_the_experts_answer(tiny_folder):
    encoder = PromptEncoder(tiny_folder)
    prompts = canary_prompts(lambda: (CountingEnv(), CountingTask()), encoder, count=4, seed=0)
    vocabulary = Vocabulary.from_folder(tiny_folder)
    told = [told_state(vocabulary, prompt.prompt_token_ids) for prompt in prompts]
    assert [count for _, count in told] == [0, 0, 0, 0]
    assert len({name for name, _ in told}) == 4
    assert [picture_of(prompt.images[0]) for prompt in prompts] == told
    for prompt in prompts:
        assert list(prompt.prompt_token_ids).count(encoder.image_token_id or -1) == 1
        assert encoder.decode(np.array(prompt.response_token_ids)) == '{"count": "0", "action": "next"}'
    again = canary_prompts(lambda: (CountingEnv(), CountingTask()), encoder, count=4, seed=0)
    assert [tuple(p.prompt_token_ids) for p in again] == [tuple(p.prompt_token_ids) for p in prompts]


class Baffled(CountingTask):
    """The expert knows an answer only while `knows` says so."""

    def __init__(self, knows: Callable[[dict[str, Any]], bool]) -> None:
        self.knows = knows

    def expert(self, info, rng, noise=0.0):
        if not self.knows(info):
            raise ValueError(f"no idea at {info['count']}")
        return super().expert(info, rng, noise)


def baffled(knows: Callable[[dict[str, Any]], bool]) -> Callable[[], tuple[gymnasium.Env, CountingTask]]:
    return lambda: (CountingEnv(), Baffled(knows))


def test_an_episode_ends_where_the_expert_knows_no_more(tiny_folder):
    encoder = PromptEncoder(tiny_folder, {(28, 28): 1})
    shown = demonstrate(baffled(lambda info: info["count"] < 2), encoder, num_steps=9, noise=0.0, seed=0)
    rows = decode_steps(shown.batches[0].steps)
    assert [row.step for row in rows] == [0, 1] * 4 + [0]
    assert [row.end_reason for row in rows] == [EndReason.NONE, EndReason.CUT] * 4 + [EndReason.CUT]
    assert len({row.episode_id for row in rows}) == 5
    assert shown.given_up == 4
    rules = AdmissionRules(
        encoder.tokenizer.get_vocab_size(), encoder.image_token_id or -1, {DEMONSTRATION_VERSION: NO_DIGEST}
    )
    assert validate(shown.batches[0], rules) == []


def test_episodes_that_the_expert_cannot_begin_are_left_out(tiny_folder):
    encoder = PromptEncoder(tiny_folder, {(28, 28): 1})
    knows = baffled(lambda info: info["name"] % 3 == 0)
    shown = demonstrate(knows, encoder, num_steps=12, noise=0.0, seed=0)
    rows = decode_steps(shown.batches[0].steps)
    assert len(rows) == 12 and {row.reward for row in rows} == {1.0, 2.0, 3.0}
    assert shown.given_up > 0
    assert demonstrate(baffled(lambda info: True), encoder, num_steps=9, noise=0.5, seed=0).given_up == 0


def test_an_expert_that_never_says_anything_is_given_up(tiny_folder):
    encoder = PromptEncoder(tiny_folder, {(28, 28): 1})
    silent = baffled(lambda info: False)
    message = "expert of test/Counting-v0 had nothing to say at the start of 100 episodes in a row, last: no idea at 0"
    with pytest.raises(ExpertFailed, match=message):
        demonstrate(silent, encoder, num_steps=1, noise=0.0, seed=0)


def test_canaries_need_no_expert(tiny_folder):
    encoder = PromptEncoder(tiny_folder)
    prompts = canary_prompts(baffled(lambda info: info["name"] % 2 == 0), encoder, count=8, seed=0)
    said = {encoder.decode(np.array(prompt.response_token_ids)) for prompt in prompts}
    assert said == {'{"count": "0", "action": "next"}', '{"action": "next"}'}


def test_every_component_of_a_mixture_is_demonstrated(tiny_folder):
    encoder = PromptEncoder(tiny_folder, {(300, 300): 9, (64, 64): 9})

    def make() -> Any:
        dots, lines = envs.make("docs.examples.dots:DotEnv"), envs.make(ENV_ID)
        return envs.mix({"dots": envs.Component(*dots), "lines": envs.Component(*lines)})

    rows = decode_steps(demonstrate(make, encoder, num_steps=60, noise=0.5, seed=0).batches[0].steps)
    assert {(row.task, row.env_id) for row in rows} == {("dots", "docs.examples.dots:DotEnv"), ("lines", ENV_ID)}
    assert all(row.legal for row in rows)


class _Stumbling(CountingTask):
    def mistake(self, info, rng):
        return json.dumps({"action": "stumble"})


def _stumbles(tiny_folder: Path, task: CountingTask, mistakes: float) -> Sequence[Step]:
    encoder = PromptEncoder(tiny_folder, {SIZE: 9})
    made = demonstrate(lambda: (CountingEnv(), task), encoder, num_steps=80, noise=0.0, seed=0, mistakes=mistakes)
    return decode_steps(made.batches[0].steps)


def test_mistakes_are_played_and_marked_as_not_legal(tiny_folder):
    rows = _stumbles(tiny_folder, _Stumbling(), 0.25)
    wrong = [row for row in rows if "stumble" in row.response_text]
    assert 5 < len(wrong) < 40
    assert [row.legal for row in rows] == ["stumble" not in row.response_text for row in rows]
    assert all(row.legal for row in _stumbles(tiny_folder, _Stumbling(), 0.0))


def test_a_task_without_mistakes_says_so(tiny_folder):
    with pytest.raises(ConfigError, match="0.25, but .* has no mistakes to show"):
        _stumbles(tiny_folder, CountingTask(), 0.25)
