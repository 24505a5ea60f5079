import io
import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from actors.rewards import RewardWeights
from envs import PromptSwitches
from protocol.errors import CheckpointError, EnvironmentFailed, RequestRefused
from protocol.trajectory import EndReason, ParseStatus
from tests.actors.counting import CountingEnv, CountingTask, CrashingTask, say, told_state
from tests.actors.playing import DIGEST, PARAMS, Play


def test_a_row_holds_what_was_asked_answered_and_done(tiny_folder):
    play = Play(tiny_folder)
    name, request = play.env.name, play.slot.request(PARAMS, 3, seeded=False)
    sample = play.sample(say("next", count="0"))
    assert play.slot.apply(sample, temperature=0.5, sample_s=0.25) is None
    play.slot.cut()
    (row,) = play.rows()
    assert (row.run_id, row.worker_id, row.env_id) == ("run", "w", "test/Counting-v0")
    assert (row.trajectory_id, row.episode_id, row.step) == ("w-0-0-0", "w-0-0", 0)
    assert row.task == ("odd" if name % 2 else "even")
    assert (row.policy_version, row.adapter_digest) == (3, DIGEST)
    assert play.told(row.prompt_token_ids) == (name, 0)
    for mine, sampled in (
        (row.prompt_token_ids, sample.prompt_token_ids),
        (row.response_token_ids, sample.token_ids),
        (row.behavior_log_probs, sample.log_probs),
    ):
        np.testing.assert_array_equal(mine, sampled)
    assert row.frame_digests == request.image_digests
    assert row.response_text == '{"count": "0", "action": "next"}'
    assert (row.action, row.parse_status, row.legal) == ("next", ParseStatus.OK, True)
    assert (row.reward, row.terminated, row.truncated) == (1.0, False, False)
    assert (row.temperature, row.sample_s) == (0.5, 0.25)
    assert row.env_s > 0
    assert json.loads(row.info) == {"truth": {"count": "0"}, "recognized": {"count": True}}
    assert json.loads(row.prompt_switches) == asdict(PromptSwitches(memory=0))
    assert set(row.token_roles.tolist()) == {0, 1, 2}


def test_a_request_shows_the_state_and_is_seeded_on_demand(tiny_folder):
    play = Play(tiny_folder)
    request = play.slot.request(PARAMS, 7, seeded=False)
    assert (request.policy_version, request.params, request.seed) == (7, PARAMS, None)
    assert list(request.prompt_token_ids).count(play.vocabulary.image_token_id or -1) == len(request.images) == 1
    assert told_state(play.vocabulary, request.prompt_token_ids) == (play.env.name, 0)
    seeds = {play.slot.request(PARAMS, 7, seeded=True).seed for _ in range(2)}
    assert len(seeds) == 1
    play.say(say("next"))
    seeds.add(play.slot.request(PARAMS, 7, seeded=True).seed)
    assert len(seeds) == 2


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", ParseStatus.NO_ACTION_KEY),
        ("I would finish", ParseStatus.NO_ACTION_KEY),
        ('{"action": "wait"}', ParseStatus.UNKNOWN_ACTION),
        ('{"action": "next or finish"}', ParseStatus.AMBIGUOUS),
        ('{"action": "crash"}', ParseStatus.ILLEGAL),
        ("[" * 3000, ParseStatus.NO_ACTION_KEY),
        ("\ufffd\u2660\n", ParseStatus.NO_ACTION_KEY),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_text_that_is_no_legal_action_is_data(text, status, tiny_folder):
    play = Play(tiny_folder, CountingEnv(limit=40))
    play.say(say("next"))  # from here on there are two legal actions
    play.say(text)
    play.slot.cut()
    row = play.rows()[-1]
    assert (row.parse_status, row.legal, row.response_text) == (status, False, text)
    assert row.action in ("next", "finish")
    assert json.loads(row.info)["recognized"] == {"count": False}


def fallbacks(folder: Any, **identity: Any) -> list[str]:
    """The actions taken when the model says nothing, over 40 episodes."""
    play = Play(folder, CountingEnv(limit=100), **identity)
    for _ in range(40):
        play.say(say("next"))
        if play.say("?") is None:
            play.slot.cut()
        play.slot.reset()
    return [row.action for row in play.rows() if row.response_text == "?"]


def test_the_fallback_is_a_random_legal_action_of_its_own_stream(tiny_folder):
    first = fallbacks(tiny_folder)
    assert 8 <= first.count("finish") <= 32
    assert fallbacks(tiny_folder) == first
    assert fallbacks(tiny_folder, seed=1) != first
    assert fallbacks(tiny_folder, slot=1) != first


def test_an_illegal_action_is_not_taken(tiny_folder):
    play = Play(tiny_folder)
    play.say(say("finish"))  # not legal in the first state, where only "next" is
    assert play.env.journal[-1] == ("next", play.env.name, 0)


@pytest.mark.parametrize(
    ("texts", "end", "rewards"),
    [
        (("next", "finish"), EndReason.TERMINATED, [1.0, 10.0]),
        (("next", "next", "next"), EndReason.TRUNCATED, [1.0, 2.0, 3.0]),
        # Terminated at the limit, where the environment says truncated as well.
        (("next", "next", "finish"), EndReason.TERMINATED, [1.0, 2.0, 10.0]),
    ],
)
def test_an_episode_ends_as_the_environment_says(texts, end, rewards, tiny_folder):
    play = Play(tiny_folder)
    name, steps = play.env.name, len(texts)
    results = [play.say(say(text, count=str(i))) for i, text in enumerate(texts)]
    assert results[:-1] == [None] * (steps - 1)
    result = results[-1]
    assert (result.episode_return, result.length_steps) == (sum(rewards), steps)
    assert (result.success, result.truncated) == (True, end is EndReason.TRUNCATED)
    assert (result.recognized_steps, result.recognition_steps, result.invalid_steps) == (steps, steps, 0)
    assert result.recognition == {"count": (steps, steps)}
    assert result.seed is None
    rows = play.rows()
    assert [row.reward for row in rows] == rewards
    assert [row.end_reason for row in rows] == [EndReason.NONE] * (steps - 1) + [end]
    assert [row.terminated for row in rows] == [False] * (steps - 1) + [end is EndReason.TERMINATED]
    assert [row.truncated for row in rows] == [False] * (steps - 1) + [end is EndReason.TRUNCATED]
    assert [play.told(row.prompt_token_ids) for row in rows] == [(name, i) for i in range(steps)]
    if end is EndReason.TRUNCATED:
        assert play.told(rows[-1].bootstrap_prompt_token_ids) == (name, 3)


def test_truncated_and_cut_rows_carry_the_picture_of_the_real_next_state(tiny_folder):
    play = Play(tiny_folder, CountingEnv(limit=2))
    play.say(say("next"))
    play.slot.cut()
    shown = play.slot.request(PARAMS, 3, seeded=False)
    play.say(say("next"))
    cut, truncated = play.rows()
    assert (cut.end_reason, truncated.end_reason) == (EndReason.CUT, EndReason.TRUNCATED)
    assert cut.bootstrap_frame_digests == truncated.frame_digests == shown.image_digests
    np.testing.assert_array_equal(cut.bootstrap_prompt_token_ids, truncated.prompt_token_ids)
    assert (cut.trajectory_id, truncated.trajectory_id) == ("w-0-0-0", "w-0-0-1")
    assert cut.episode_id == truncated.episode_id
    last = play.slot.state.frames[0]
    assert truncated.bootstrap_frame_digests == (last.digest,)
    assert np.asarray(Image.open(io.BytesIO(last.data)))[0, 0, 2] == 2


def test_a_cut_without_rows_leaves_no_trace(tiny_folder):
    play = Play(tiny_folder)
    play.slot.cut()
    play.say(say("next"))
    play.slot.cut()
    play.slot.cut()
    assert [row.trajectory_id for row in play.rows()] == ["w-0-0-0"]


def test_after_an_end_the_next_prompt_is_of_the_new_episode(tiny_folder):
    play = Play(tiny_folder)
    play.say(say("next"))
    old = play.env.name
    play.say(say("finish"))
    play.slot.reset()
    assert play.env.name != old
    request = play.slot.request(PARAMS, 3, seeded=False)
    assert told_state(play.vocabulary, request.prompt_token_ids) == (play.env.name, 0)
    play.say(say("next"))
    play.slot.cut()
    assert [(row.episode_id, row.step) for row in play.rows()] == [("w-0-0", 0), ("w-0-0", 1), ("w-0-1", 0)]


def test_a_server_that_expands_otherwise_is_refused(tiny_folder):
    play = Play(tiny_folder)
    play.say(say("next"))
    with pytest.raises(RequestRefused, match=r"saw a prompt of \d+ tokens where the worker expected"):
        play.slot.apply(play.sample(say("next"), image_tokens=5), temperature=1.0)
    other = play.sample(say("next"))
    changed = other.prompt_token_ids.copy()
    changed[-1] += 1
    with pytest.raises(RequestRefused, match="or other ids"):
        play.slot.apply(replace(other, prompt_token_ids=changed), temperature=1.0)
    play.say(say("next"))  # neither was taken


def test_an_environment_that_raises_ends_the_trajectory_where_it_stood(tiny_folder):
    play = Play(tiny_folder, task=CrashingTask())
    name = play.env.name
    play.say(say("next"))
    result = play.say(say("crash"))
    assert (result.env_error, result.success, result.truncated) == (True, False, False)
    assert (result.episode_return, result.length_steps) == (1.0, 1)
    (row,) = play.rows()
    assert (row.end_reason, row.terminated, row.truncated) == (EndReason.ENV_ERROR, False, False)
    assert play.told(row.bootstrap_prompt_token_ids) == (name, 1)
    assert play.slot.env_errors == 1


def test_a_failure_at_the_first_step_leaves_no_row(tiny_folder):
    play = Play(tiny_folder, task=CrashingTask())
    result = play.say(say("crash"))
    assert (result.env_error, result.length_steps) == (True, 0)
    assert play.rows() == []


def test_failures_in_a_row_end_the_slot_others_do_not(tiny_folder):
    play = Play(tiny_folder, CountingEnv(limit=9), task=CrashingTask())
    for action in ("crash", "crash", "next", "crash", "crash"):
        if play.say(say(action)) is not None:
            play.slot.reset()
    with pytest.raises(
        EnvironmentFailed, match="test/Counting-v0 raised at 3 steps in a row.*simulator is gone"
    ) as caught:
        play.say(say("crash"))
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert "croupier check-env test/Counting-v0" in caught.value.cure


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_restored_slot_goes_on_where_the_saved_one_stood(steps, tiny_folder):
    play = Play(tiny_folder)
    play.say(say("next"))
    play.say(say("finish"))
    play.slot.reset()
    for _ in range(steps):
        play.say("?" if steps == 1 else say("next"))
    play.slot.cut()
    play.rows()
    saved = json.loads(json.dumps(play.slot.state_dict()))
    other = Play(tiny_folder)
    other.say(say("next"))  # what an unsaved slot had begun is forgotten
    other.slot.load_state_dict(saved)
    assert other.slot.state_dict() == play.slot.state_dict()
    assert (other.env.name, other.env.count) == (play.env.name, play.env.count)
    assert other.slot.request(PARAMS, 3, seeded=True).seed == play.slot.request(PARAMS, 3, seeded=True).seed
    for one in (play, other):
        one.say(say("next"))
        one.slot.cut()
    (mine,), (theirs,) = play.rows(), other.rows()
    assert (theirs.trajectory_id, theirs.step) == (mine.trajectory_id, mine.step) == (f"w-0-1-{steps}", steps)
    np.testing.assert_array_equal(mine.prompt_token_ids, theirs.prompt_token_ids)


def test_a_slot_restored_under_another_name_stands_in_the_same_episode(tiny_folder):
    play = Play(tiny_folder)
    play.say(say("next"))
    play.slot.cut()
    other = Play(tiny_folder, worker_id="w2", seed=99)
    other.slot.load_state_dict(play.slot.state_dict())
    assert (other.env.name, other.env.count) == (play.env.name, 1)


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        (CountingEnv(limit=2), "ended the episode; the saved return is 3"),
        (CountingEnv(limit=3), "earned 3; the saved return is 4"),
    ],
)
def test_an_environment_that_does_not_repeat_itself_cannot_be_resumed(env, complaint, tiny_folder):
    play = Play(tiny_folder)
    play.say(say("next"))
    play.say(say("next"))
    saved = play.slot.state_dict()
    saved["tally"]["episode_return"] += env.limit - 2
    with pytest.raises(CheckpointError, match=complaint):
        Play(tiny_folder, env).slot.load_state_dict(saved)


def test_the_draws_of_a_panels_episode_depend_on_its_seed_alone(tiny_folder):
    one, two = Play(tiny_folder), Play(tiny_folder, worker_id="v", slot=3, seed=9)
    two.say(say("next"))
    for play in (one, two):
        play.slot.reset_to_panel(77)
    assert one.env.journal[-1] == two.env.journal[-1] == ("reset", 77)
    for purpose in ("sample", "fallback", "expert"):
        draws = [play.slot.draw(purpose).integers(2**31) for play in (one, two)]
        assert draws[0] == draws[1]
    one.slot.reset_to_panel(78)
    assert one.slot.draw("sample").integers(2**31) != two.slot.draw("sample").integers(2**31)


def test_no_two_uses_share_their_random_numbers(tiny_folder):
    drawn = []
    for slot in range(2):
        play = Play(tiny_folder, CountingEnv(limit=99), slot=slot)
        for _ in range(2):
            drawn.append(play.slot.draw("reset").integers(2**62))
            for _ in range(3):
                drawn += [play.slot.draw(use).integers(2**62) for use in ("sample", "fallback", "expert")]
                play.say(say("next"))
            play.slot.cut()
            play.slot.reset()
    assert len(set(drawn)) == len(drawn) == 40


class TextOnly(CountingTask):
    def image(self, observation, info):
        return None

    def recognition(self, info):
        return {}


def test_a_task_without_pictures_or_probes(tiny_folder):
    play = Play(tiny_folder, task=TextOnly())
    assert play.slot.request(PARAMS, 3, seeded=False).images == ()
    for _ in range(3):
        result = play.say(say("next"))
    assert result.recognition_steps == 0
    rows = play.rows()
    assert [row.frame_digests for row in rows] == [()] * 3
    assert json.loads(rows[0].info) == {"truth": {}, "recognized": {}}
    assert play.told(rows[-1].bootstrap_prompt_token_ids)[1] == 3


class NoNames(CountingTask):
    """Names are known per state only, as in a text game."""

    action_names = ()

    def legal_actions(self, info):
        return (f"go to {info['count']}", "go")

    def env_action(self, name, info):
        assert name in self.legal_actions(info)
        return 0


def test_actions_may_be_named_per_state(tiny_folder):
    play = Play(tiny_folder, task=NoNames())
    for count in range(3):
        play.say(say(f"go to {count}"))
    assert [row.action for row in play.rows()] == ["go to 0", "go to 1", "go to 2"]


def infos_of(play: Play) -> list[dict[str, Any]]:
    return [json.loads(row.info) for row in play.rows()]


@pytest.mark.parametrize("texts", [("next", "finish"), ("next", "next", "next")], ids=["terminated", "truncated"])
def test_the_last_row_of_an_episode_says_whether_the_task_counts_it(texts, tiny_folder):
    play = Play(tiny_folder)
    results = [play.say(say(text)) for text in texts]
    infos = infos_of(play)
    assert ["success" in info for info in infos] == [False] * (len(texts) - 1) + [True]
    assert infos[-1]["success"] is results[-1].success


def test_a_shaped_reward_leaves_the_environments_own_visible(tiny_folder):
    play = Play(tiny_folder, rewards=RewardWeights(0.0, 1.0))
    play.say(say("next", count="0"))
    play.say(say("next", count="7"))
    result = play.say(say("finish", count="2"))
    rows = play.rows()
    assert [row.reward for row in rows] == [1.0, 0.0, 1.0]
    assert [json.loads(row.info)["environment_reward"] for row in rows] == [1.0, 2.0, 10.0]
    assert result.episode_return == 13.0, "what an episode is worth does not depend on what is paid"


def test_an_open_episode_under_a_shaped_reward_is_restored(tiny_folder):
    play = Play(tiny_folder, rewards=RewardWeights(0.0, 1.0))
    play.say(say("next"))
    play.slot.cut()
    again = Play(tiny_folder, rewards=RewardWeights(0.0, 1.0))
    again.slot.load_state_dict(play.slot.state_dict())
    assert again.slot.tally == play.slot.tally
