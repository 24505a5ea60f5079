import asyncio
from collections.abc import Sequence

import pytest

from actors.prompting import PromptEncoder
from actors.sampler import Sample, SampleRequest
from protocol.errors import DeadlineExceeded, EnvironmentFailed, RequestRefused, ServerDied
from protocol.trajectory import EndReason
from tests.actors.counting import (
    CountingSampler,
    crash_at,
    onward,
    told_state,
)
from tests.actors.rollouts import (
    MODES,
    VERSION,
    Silent,
    collect,
    crashing_worker,
    make_worker,
)


def test_text_of_any_kind_is_no_exception(tiny_folder):
    texts = ["", "?", '{"action": "crash"}', '{"action": 7}', "[" * 500, '{"action": "\u2660', "}" * 9]
    sampler = CountingSampler(tiny_folder, lambda state, request: texts[len(sampler.requests) % len(texts)])
    rows, report = collect(make_worker(tiny_folder, sampler, max_tokens=600), 70)
    assert report.invalid_steps == 70
    assert not any(row.legal for row in rows)
    assert {row.action for row in rows} == {"next", "finish"}
    assert {row.parse_status for row in rows} == {"no_action_key", "illegal", "unknown_action"}


@MODES
def test_an_environment_that_raises_costs_its_episode_and_no_more(deterministic, tiny_folder):
    sampler = CountingSampler(tiny_folder, crash_at(1))
    worker = crashing_worker(tiny_folder, sampler, deterministic=deterministic)
    rows, report = collect(worker, 20)
    assert [row.end_reason for row in rows] == [EndReason.ENV_ERROR] * 10
    for row in rows:
        name, count = told_state(sampler.vocabulary, row.prompt_token_ids)
        assert row.bootstrap_prompt_token_ids is not None
        assert told_state(sampler.vocabulary, row.bootstrap_prompt_token_ids) == (name, count + 1)
    assert (report.env_steps, report.env_errors, len(report.episodes)) == (10, 10, 10)
    assert all(e.env_error and not e.success and e.episode_return == 1.0 for e in report.episodes)
    assert collect(worker, 4)[1].env_errors == 2  # counted per rollout


def test_an_environment_that_always_raises_ends_the_worker(tiny_folder):
    worker = crashing_worker(tiny_folder, CountingSampler(tiny_folder, crash_at(0)), slots=1)
    with pytest.raises(EnvironmentFailed, match="raised at 3 steps in a row"):
        collect(worker, 20)


@MODES
def test_a_server_that_expands_otherwise_is_refused(deterministic, tiny_folder):
    encoder = PromptEncoder(tiny_folder, {(28, 28): 9})
    sampler = CountingSampler(tiny_folder, onward, image_tokens=4)
    worker = make_worker(tiny_folder, sampler, encoder=encoder, deterministic=deterministic)
    with pytest.raises(RequestRefused, match="what is sampled must be what is scored"):
        collect(worker, 4)


@pytest.mark.parametrize(("deterministic", "count"), [(False, 1), (True, 2)])
def test_a_deadline_names_what_it_waited_for(deterministic, count, tiny_folder):
    worker = make_worker(tiny_folder, Silent(), deterministic=deterministic, sample_deadline_s=0.05)
    with pytest.raises(DeadlineExceeded, match=rf"Waited 0.05 s for {count} response\(s\) of policy 3"):
        collect(worker, 4)
    with pytest.raises(DeadlineExceeded, match=r"of policy 4"):
        asyncio.run(worker.run_episodes([1], 4, 0.0))


class Failing(Silent):
    """The second of the callers fails while the others wait."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        if self.waiting == 1:
            self.waiting += 1
            await asyncio.sleep(0.01)
            raise self._error
        return await super().sample_batch(requests)


@pytest.mark.parametrize(
    "error",
    [ServerDied("The engine is gone."), DeadlineExceeded("Waited 9 s for the engine.", "ask it"), KeyError("bug")],
    ids=lambda e: type(e).__name__,
)
def test_a_failure_in_one_slot_stops_the_others_and_is_raised_as_it_is(error, tiny_folder):
    sampler = Failing(error)
    worker = make_worker(tiny_folder, sampler, slots=4)

    async def attempt() -> None:
        with pytest.raises(type(error)) as caught:
            await worker.collect(8, VERSION, 1.0)
        assert caught.value is error
        # All others have ended by the time the error comes out, and none is left behind.
        assert (sampler.waiting, sampler.cancelled) == (4, 3)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(attempt())


def test_a_cancelled_rollout_leaves_no_slot_waiting(tiny_folder):
    sampler = Silent()
    worker = make_worker(tiny_folder, sampler, slots=3)

    async def attempt() -> None:
        rollout = asyncio.create_task(worker.collect(8, VERSION, 1.0))
        await asyncio.sleep(0.01)
        rollout.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rollout
        assert (sampler.waiting, sampler.cancelled) == (3, 3)

    asyncio.run(attempt())


def test_a_worker_goes_on_after_a_failed_rollout(tiny_folder):
    answering = CountingSampler(tiny_folder, onward)
    worker = make_worker(tiny_folder, answering, slots=2, sample_deadline_s=0.05)
    answering.sample_batch, answer = Silent().sample_batch, answering.sample_batch
    with pytest.raises(DeadlineExceeded):
        collect(worker, 4)
    answering.sample_batch = answer
    rows, _ = collect(worker, 6)
    assert len(rows) == 6
