import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from actors.prompting import PromptEncoder
from actors.worker import RolloutWorker
from protocol.codec import decode_frames, decode_steps
from protocol.errors import CheckpointError
from protocol.trajectory import EndReason, Step
from tests.actors.counting import (
    CountingEnv,
    CountingSampler,
    CountingTask,
    mixed,
    moody,
    onward,
    picture_of,
    told_state,
)
from tests.actors.rollouts import (
    IMAGE_ID,
    MODES,
    VERSION,
    checked_rows,
    collect,
    contents,
    make_worker,
)


def test_the_image_token_of_the_tiny_model(tiny_folder):
    assert PromptEncoder(tiny_folder).image_token_id == IMAGE_ID


@MODES
def test_every_prompt_and_picture_is_of_the_state_it_stands_in(deterministic, tiny_folder):
    journal: list[Any] = []
    sampler = CountingSampler(tiny_folder, mixed)
    worker = make_worker(
        tiny_folder,
        sampler,
        slots=1,
        deterministic=deterministic,
        make_env=lambda: (CountingEnv(journal=journal), CountingTask()),
    )
    batch, _ = asyncio.run(worker.collect(60, VERSION, 1.0))
    rows, frames = decode_steps(batch.steps), decode_frames(batch.frames)
    steps = [entry for entry in journal if entry[0] != "reset"]
    told = [told_state(sampler.vocabulary, row.prompt_token_ids) for row in rows]
    # Where the environment stood when it took the action is what prompt and picture had told.
    assert [(row.action, *state) for row, state in zip(rows, told, strict=True)] == steps
    assert [picture_of(frames[row.frame_digests[0]]) for row in rows] == told
    assert [told_state(sampler.vocabulary, request.prompt_token_ids) for request in sampler.requests] == told
    assert [picture_of(request.images[0]) for request in sampler.requests] == told
    # In particular right after the end of an episode, where the original showed the old one.
    ends = [i for i, row in enumerate(rows[:-1]) if row.terminated or row.truncated]
    assert len(ends) > 10
    assert all(told[i + 1][0] != told[i][0] and told[i + 1][1] == 0 for i in ends)


@MODES
def test_unfinished_rows_carry_the_state_that_came_next(deterministic, tiny_folder):
    sampler = CountingSampler(tiny_folder, mixed)
    worker = make_worker(tiny_folder, sampler, slots=3, deterministic=deterministic)
    batches = [asyncio.run(worker.collect(7, VERSION, 1.0))[0] for _ in range(6)]
    frames = {k: v for batch in batches for k, v in decode_frames(batch.frames).items()}
    rows = [row for batch in batches for row in checked_rows(batch)]
    by_place = {(row.episode_id, row.step): row for row in rows}
    kinds = []
    for row in rows:
        if not row.end_reason.needs_bootstrap:
            assert row.bootstrap_prompt_token_ids is None and row.bootstrap_frame_digests == ()
            continue
        kinds.append(row.end_reason)
        name, count = told_state(sampler.vocabulary, row.prompt_token_ids)
        assert row.bootstrap_prompt_token_ids is not None
        assert told_state(sampler.vocabulary, row.bootstrap_prompt_token_ids) == (name, count + 1)
        assert picture_of(frames[row.bootstrap_frame_digests[0]]) == (name, count + 1)
        following = by_place.get((row.episode_id, row.step + 1))
        if row.end_reason is EndReason.TRUNCATED:
            assert following is None and count + 1 == 3
        elif following is not None:
            assert row.bootstrap_prompt_token_ids.tolist() == following.prompt_token_ids.tolist()
            assert row.bootstrap_frame_digests == following.frame_digests
            kinds.append("continued")
    assert set(kinds) == {EndReason.TRUNCATED, EndReason.CUT, "continued"}


@MODES
def test_pieces_of_an_episode_join_without_a_gap(deterministic, tiny_folder):
    worker = make_worker(tiny_folder, CountingSampler(tiny_folder, onward), slots=3, deterministic=deterministic)
    batches = [collect(worker, steps)[0] for steps in (4, 1, 6, 2, 9)]
    rows = [row for batch in batches for row in batch]
    pieces: dict[str, list[Step]] = {}
    for row in rows:
        pieces.setdefault(row.trajectory_id, []).append(row)
    assert all(piece[-1].end_reason is not EndReason.NONE for piece in pieces.values())
    for batch in batches:  # a name never comes back in a later batch
        assert not {row.trajectory_id for row in batch} & {
            row.trajectory_id for other in batches if other is not batch for row in other
        }
    episodes: dict[str, list[Step]] = {}
    for row in rows:
        episodes.setdefault(row.episode_id, []).append(row)
    for episode in episodes.values():
        assert [row.step for row in episode] == list(range(len(episode)))
        assert [row.reward for row in episode] == [1.0, 2.0, 3.0][: len(episode)]
    finished = [episode for episode in episodes.values() if episode[-1].truncated]
    assert finished and any(len({row.trajectory_id for row in episode}) > 1 for episode in finished)


@MODES
@pytest.mark.parametrize("num_steps", [0, 1, 5, 12])
def test_a_rollout_takes_exactly_its_steps(num_steps, deterministic, tiny_folder):
    journal: list[Any] = []
    worker = make_worker(
        tiny_folder,
        CountingSampler(tiny_folder, mixed),
        slots=4,
        deterministic=deterministic,
        make_env=lambda: (CountingEnv(journal=journal), CountingTask()),
    )
    rows, report = collect(worker, num_steps)
    assert len(rows) == report.env_steps == len([e for e in journal if e[0] != "reset"]) == num_steps


def test_a_report_sums_up_its_rows(tiny_folder):
    worker = make_worker(tiny_folder, CountingSampler(tiny_folder, mixed, pause_s=0.002), slots=3)
    rows, report = collect(worker, 40, temperature=0.5)
    assert report.worker_id == "worker-0"
    assert report.sampled_tokens == sum(len(row.response_token_ids) for row in rows)
    assert report.invalid_steps == sum(not row.legal for row in rows) > 0
    assert report.env_s == pytest.approx(sum(row.env_s for row in rows), rel=1e-4)
    assert report.sample_s == pytest.approx(sum(row.sample_s for row in rows), rel=1e-4)
    assert 0 < report.sample_s <= 3 * report.wall_s
    assert all(row.sample_s >= 0.002 for row in rows)
    assert {row.temperature for row in rows} == {0.5}
    assert report.env_errors == 0
    ends = [row for row in rows if row.terminated or row.truncated]
    assert len(report.episodes) == len(ends)
    assert sum(e.truncated for e in report.episodes) == sum(row.truncated for row in ends)
    whole = {row.episode_id for row in ends}
    returns = sorted(sum(r.reward for r in rows if r.episode_id == episode) for episode in whole)
    assert sorted(e.episode_return for e in report.episodes) == returns


def test_free_slots_wait_at_the_same_time_and_are_not_seeded(tiny_folder):
    sampler = CountingSampler(tiny_folder, onward, pause_s=0.001)
    collect(make_worker(tiny_folder, sampler, slots=4), 24)
    assert set(sampler.batches) == {1} and sampler.most_in_flight == 4
    assert {request.seed for request in sampler.requests} == {None}


def test_deterministic_slots_go_in_rounds_and_seed_every_request(tiny_folder):
    sampler = CountingSampler(tiny_folder, onward)
    worker = make_worker(tiny_folder, sampler, slots=4, deterministic=True)
    collect(worker, 10)
    collect(worker, 5)
    assert sampler.batches == [4, 4, 2, 4, 1]
    seeds = [request.seed for request in sampler.requests]
    assert None not in seeds and len(set(seeds)) == 15


def test_requests_carry_version_and_limits(tiny_folder):
    sampler = CountingSampler(tiny_folder, onward)
    rows, _ = collect(make_worker(tiny_folder, sampler, max_tokens=5), 4, temperature=0.5)
    assert {request.policy_version for request in sampler.requests} == {VERSION}
    assert {(r.params.temperature, r.params.max_tokens, r.params.stop) for r in sampler.requests} == {(0.5, 5, ("}",))}
    assert {len(row.response_token_ids) for row in rows} == {5}


def test_the_same_seed_gives_the_same_rows(tiny_folder):
    runs = [
        collect(make_worker(tiny_folder, CountingSampler(tiny_folder, moody), slots=3, deterministic=True, seed=5), 50)
        for _ in range(2)
    ]
    (first, report), (second, again) = runs
    assert contents(first) == contents(second)
    assert report.episodes == again.episodes
    assert {row.end_reason for row in first} == {
        EndReason.NONE,
        EndReason.TERMINATED,
        EndReason.TRUNCATED,
        EndReason.CUT,
    }


@pytest.mark.parametrize("change", [{"seed": 6}, {"worker_id": "worker-1"}, {"worker_id": "worker-0r1"}])
def test_another_seed_or_worker_plays_other_episodes(change, tiny_folder):
    def names(**settings: Any) -> set[int]:
        sampler = CountingSampler(tiny_folder, onward)
        collect(make_worker(tiny_folder, sampler, **({"seed": 5} | settings)), 30)
        return {told_state(sampler.vocabulary, request.prompt_token_ids)[0] for request in sampler.requests}

    assert len(names()) >= 10
    assert len(names() & names(**change)) <= 1


def test_the_slots_of_a_worker_play_different_episodes(tiny_folder):
    sampler = CountingSampler(tiny_folder, onward)
    collect(make_worker(tiny_folder, sampler, slots=8, deterministic=True), 8)
    assert len({told_state(sampler.vocabulary, r.prompt_token_ids) for r in sampler.requests}) == 8


def test_a_restored_worker_goes_on_bit_equal(tiny_folder):
    def worker() -> RolloutWorker:
        return make_worker(tiny_folder, CountingSampler(tiny_folder, moody), slots=3, deterministic=True)

    stopped, resumed = worker(), worker()
    collect(stopped, 17)
    saved = json.loads(json.dumps(stopped.state_dict()))
    collect(resumed, 4)  # whatever it did before is forgotten
    resumed.load_state_dict(saved)
    for num_steps in (1, 9, 14):
        (mine, report), (theirs, again) = collect(stopped, num_steps), collect(resumed, num_steps)
        assert contents(mine) == contents(theirs)
        assert report.episodes == again.episodes
    assert stopped.state_dict() == resumed.state_dict()


def test_a_state_of_another_number_of_slots_is_refused(tiny_folder):
    two, three = (make_worker(tiny_folder, None, slots=slots) for slots in (2, 3))
    with pytest.raises(CheckpointError, match="holds 2 environment slots, this worker has 3"):
        three.load_state_dict(two.state_dict())


def test_a_worker_has_at_least_one_slot(tiny_folder):
    with pytest.raises(ValueError, match="at least 1 environment slot, got 0"):
        make_worker(tiny_folder, None, slots=0)


def test_steps_of_an_episode_count_up_in_each_batch(tiny_folder):
    rows, _ = collect(make_worker(tiny_folder, CountingSampler(tiny_folder, mixed), slots=3), 40)
    for earlier, later in pairwise(rows):
        if earlier.trajectory_id == later.trajectory_id:
            assert later.step == earlier.step + 1
