import asyncio
from collections import Counter

import pytest

from actors.report import RolloutReport
from protocol.trajectory import EndReason, Step
from tests.actors.counting import CountingEnv, CountingSampler, crash_at, mixed, moody, told_state
from tests.actors.rollouts import MODES, VERSION, checked_rows, collect, contents, crashing_worker, make_worker

GROUPS = [7, 7, 7, 41, 41, 41, 9, 9, 9]


def played(worker, seeds=GROUPS) -> tuple[list[Step], RolloutReport]:
    batch, report = asyncio.run(worker.collect_episodes(seeds, VERSION, 1.0))
    return checked_rows(batch), report


def episodes_of(rows: list[Step]) -> list[list[Step]]:
    return [[row for row in rows if row.episode_id == name] for name in dict.fromkeys(row.episode_id for row in rows)]


@MODES
@pytest.mark.parametrize("slots", [1, 2, 20])
def test_one_whole_episode_per_seed(deterministic, slots, tiny_folder):
    sampler = CountingSampler(tiny_folder, mixed)
    rows, report = played(make_worker(tiny_folder, sampler, slots=slots, deterministic=deterministic))
    episodes = episodes_of(rows)
    assert Counter(episode[0].reset_seed for episode in episodes) == Counter(GROUPS)
    for episode in episodes:
        assert [row.step for row in episode] == list(range(len(episode)))
        assert len({row.trajectory_id for row in episode}) == 1
        assert episode[-1].end_reason in (EndReason.TERMINATED, EndReason.TRUNCATED)
        env = CountingEnv()
        env.reset(seed=episode[0].reset_seed)
        assert told_state(sampler.vocabulary, episode[0].prompt_token_ids) == (env.name, 0), "equal starts"
    assert (report.env_steps, len(report.episodes)) == (len(rows), len(GROUPS))


def test_members_of_a_group_are_sampled_apart(tiny_folder):
    worker = make_worker(tiny_folder, CountingSampler(tiny_folder, moody), slots=9, deterministic=True)
    rows, _ = played(worker, [7] * 9)
    assert len({tuple(row.response_text for row in episode) for episode in episodes_of(rows)}) > 1


@MODES
def test_open_episodes_are_given_up_and_new_ones_begin_afterwards(deterministic, tiny_folder):
    worker = make_worker(tiny_folder, CountingSampler(tiny_folder, mixed), slots=2, deterministic=deterministic)
    before, _ = collect(worker, 3)
    between, _ = played(worker)
    after, _ = collect(worker, 5)
    names = [{row.episode_id for row in rows} for rows in (before, between, after)]
    assert not names[0] & names[1] and not names[1] & names[2]
    assert {row.step for row in after} >= {0}


def test_a_restored_worker_goes_on_as_if_nothing_had_happened(tiny_folder):
    def worker():
        return make_worker(tiny_folder, CountingSampler(tiny_folder, moody), slots=2, deterministic=True)

    first = worker()
    played(first)
    saved = first.state_dict()
    expected, _ = played(first, [3, 3, 5])
    second = worker()
    second.load_state_dict(saved)
    rows, _ = played(second, [3, 3, 5])
    assert contents(rows) == contents(expected)


def test_an_episode_that_the_environment_breaks_off_is_told_apart(tiny_folder):
    worker = crashing_worker(tiny_folder, CountingSampler(tiny_folder, crash_at(1)), slots=1)
    rows, report = played(worker, [1, 2])
    assert [row.end_reason for row in rows] == [EndReason.ENV_ERROR] * 2
    assert report.env_errors == 2 and all(episode.env_error for episode in report.episodes)


def test_no_seeds_no_rows(tiny_folder):
    rows, report = played(make_worker(tiny_folder, CountingSampler(tiny_folder, mixed)), [])
    assert rows == [] and report.env_steps == 0
