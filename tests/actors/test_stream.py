"""Slots that play on between portions: what is under way is lost to nobody, and nobody waits for it."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.sampler import Sample, SampleRequest
from actors.stream import StepStream
from protocol.codec import decode_steps
from protocol.errors import RequestRefused
from protocol.trajectory import EndReason
from tests.actors.counting import CountingSampler, mixed, onward
from tests.actors.rollouts import VERSION, checked_rows
from tests.actors.rollouts import make_streaming_worker as make_worker


class Gated(CountingSampler):
    """Answers only as many requests as it was allowed to."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.allowed = asyncio.Semaphore(0)

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        for _ in requests:
            await self.allowed.acquire()
        return await super().sample_batch(requests)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


def of(portion):
    return decode_steps(portion[0].steps)


def test_a_portion_is_complete_while_slots_are_still_under_way(tiny_folder):
    async def run():
        sampler = Gated(tiny_folder, mixed)
        worker = make_worker(tiny_folder, sampler, slots=4)
        first, second = (asyncio.create_task(worker.stream(5, VERSION, 1.0)) for _ in range(2))
        await settle()
        for _ in range(5):
            sampler.allowed.release()
            await settle()
        assert first.done() and not second.done()
        for _ in range(5):
            sampler.allowed.release()
        return await first, await second

    first, second = asyncio.run(run())
    assert [len(of(portion)) for portion in (first, second)] == [5, 5]
    assert first[1].env_steps == second[1].env_steps == 5
    assert first[1].sampled_tokens > 0 and second[1].sampled_tokens > 0


class Stalled(CountingSampler):
    """The request that is made first is answered last."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.asked = 0
        self.released = asyncio.Event()

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        self.asked += 1
        if self.asked == 1:
            await self.released.wait()
        return await super().sample_batch(requests)


def test_no_row_is_of_an_older_version_than_the_one_it_was_ordered_under(tiny_folder):
    async def run():
        sampler = Stalled(tiny_folder, mixed)
        worker = make_worker(tiny_folder, sampler, slots=3)
        first = asyncio.create_task(worker.stream(4, VERSION, 1.0))
        await settle()
        later = [await worker.stream(4, VERSION + at, 1.0) for at in (1, 2)]
        assert not first.done(), "its slowest step is still under way; it is not passed on to a later order"
        sampler.released.set()
        return [of(portion) for portion in (await first, *later)]

    portions = asyncio.run(run())
    assert [len(portion) for portion in portions] == [4] * 3
    for at, rows in enumerate(portions):
        assert {row.policy_version for row in rows} == {VERSION + at}


def test_pieces_that_were_cut_with_a_request_under_way_join_without_a_gap(tiny_folder):
    async def run():
        worker = make_worker(tiny_folder, CountingSampler(tiny_folder, mixed), slots=3)
        orders = [asyncio.create_task(worker.stream(4, VERSION, 1.0)) for _ in range(12)]
        return [checked_rows((await order)[0]) for order in orders]

    portions = asyncio.run(run())
    assert [len(portion) for portion in portions] == [4] * 12
    by_place = {(row.episode_id, row.step): row for portion in portions for row in portion}
    assert len(by_place) == 48
    cuts = [row for row in by_place.values() if row.end_reason is EndReason.CUT]
    followed = [
        (row, by_place[row.episode_id, row.step + 1]) for row in cuts if (row.episode_id, row.step + 1) in by_place
    ]
    assert len(followed) > 5
    for row, following in followed:
        assert row.bootstrap_prompt_token_ids is not None
        assert row.bootstrap_prompt_token_ids.tolist() == following.prompt_token_ids.tolist()
        assert row.trajectory_id != following.trajectory_id


def test_new_versions_reach_the_next_requests_at_once(tiny_folder):
    async def run():
        sampler = Gated(tiny_folder, mixed)
        worker = make_worker(tiny_folder, sampler, slots=2)
        worker.advance_to(VERSION)  # known before anything is ordered
        order = asyncio.create_task(worker.stream(6, VERSION - 1, 1.0))
        await settle()
        worker.advance_to(VERSION + 1)
        worker.advance_to(VERSION)  # never back
        for _ in range(6):
            sampler.allowed.release()
        return of(await order)

    versions = [row.policy_version for row in asyncio.run(run())]
    assert sorted(versions) == [VERSION] * 2 + [VERSION + 1] * 4, "two requests were under way"


class Unhurried(CountingSampler):
    """Lets everybody else have a turn before it answers."""

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        await asyncio.sleep(0)
        return await super().sample_batch(requests)


async def stream_ahead(worker, versions, steps):
    """Portions of so many steps, one per version; each is ordered before the one before it is complete."""
    orders, portions = [], []
    for version in versions:
        orders.append(asyncio.create_task(worker.stream(steps, version, 1.0)))
        if len(orders) > 1:
            portions.append(await orders.pop(0))
    return [*portions, await orders.pop(0)]


@pytest.mark.parametrize("carry", [False, True])
def test_open_episodes_are_carried_over_to_a_portion_that_they_are_new_enough_for(carry, tiny_folder):
    versions = [VERSION + at // 2 for at in range(12)]
    worker = make_worker(tiny_folder, Unhurried(tiny_folder, onward), slots=2, carry_episodes=carry)
    portions = [of(portion) for portion in asyncio.run(stream_ahead(worker, versions, 4))]
    assert sum(map(len, portions)) == 12 * 4, "nothing is left behind"
    kept = 0
    for version, portion in zip(versions, portions, strict=True):
        assert all(row.policy_version >= version for row in portion)
        ends = {row.trajectory_id for row in portion if row.end_reason is not EndReason.NONE}
        assert {row.trajectory_id for row in portion} == ends, "only whole pieces are handed over"
        kept += len(portion) != 4
    assert bool(kept) == carry
    places = [(row.episode_id, row.step) for portion in portions for row in portion]
    assert len(places) == len(set(places))


def test_the_frames_of_what_is_carried_over_come_with_it(tiny_folder):
    worker = make_worker(tiny_folder, Unhurried(tiny_folder, onward), slots=3, carry_episodes=True)
    for batch, _ in asyncio.run(stream_ahead(worker, [VERSION] * 6, 4)):
        frames = set(batch.frames.column("digest").to_pylist())
        named = {d for row in decode_steps(batch.steps) for d in (*row.frame_digests, *row.bootstrap_frame_digests)}
        assert named == frames


def test_a_failure_ends_all_orders_and_the_next_one_begins_anew(tiny_folder):
    class Failing(CountingSampler):
        broken = True

        async def sample_batch(self, requests):
            if self.broken:
                raise RequestRefused("no")
            return await super().sample_batch(requests)

    async def run():
        sampler = Failing(tiny_folder, mixed)
        worker = make_worker(tiny_folder, sampler, slots=2)
        orders = [asyncio.create_task(worker.stream(4, VERSION, 1.0)) for _ in range(2)]
        failed = await asyncio.gather(*orders, return_exceptions=True)
        sampler.broken = False
        return failed, of(await worker.stream(4, VERSION, 1.0))

    failed, rows = asyncio.run(run())
    assert [type(error) for error in failed] == [RequestRefused] * 2
    assert len(rows) == 4


class Clockwork:
    """Slots that count; a step takes some turns of the loop, by default one. A row is its slot, number and version."""

    def __init__(self, slots, turns=lambda: 1):
        self.steps = [0] * slots
        self.rows = [[] for _ in range(slots)]
        self.turns = turns
        self.idle_s = []
        self.stream = StepStream(range(slots), self.advance, self.leave, self.hand_over)

    async def advance(self, slot, version, temperature):
        for _ in range(self.turns()):
            await asyncio.sleep(0)
        self.rows[slot].append((slot, self.steps[slot], version))
        self.steps[slot] += 1
        return []

    def leave(self, slot, next_version):
        rows, self.rows[slot] = self.rows[slot], []
        return rows

    def hand_over(self, parts, idle_s):
        self.idle_s.append(idle_s)
        return [row for part in parts for row in part]


@pytest.mark.parametrize("ahead", [1, 2, 4])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), slots=st.integers(1, 6), steps=st.integers(1, 9))
def test_portions_are_exact_and_none_holds_a_row_older_than_its_order(ahead, seed, slots, steps):
    rng = random.Random(seed)

    async def run():
        work, version = Clockwork(slots, lambda: 60 if rng.random() < 0.1 else rng.randint(1, 4)), 0
        orders, portions = [], []
        for _ in range(24):
            version, asked = version + (rng.random() < 0.5), rng.randint(1, steps)
            orders.append((version, asked, asyncio.create_task(work.stream.collect(asked, version, 1.0))))
            for _ in range(rng.randint(0, 3)):
                await asyncio.sleep(0)
            if len(orders) == ahead:
                await asyncio.wait([order for *_, order in orders], return_when=asyncio.FIRST_COMPLETED)
            portions += [one for one in orders if one[2].done()]
            orders = [one for one in orders if not one[2].done()]
        portions = [(version, asked, await order) for version, asked, order in portions + orders]
        work.stream.close()
        return portions, work.steps

    portions, taken = asyncio.run(asyncio.wait_for(run(), 20))
    for version, asked, rows in portions:
        assert len(rows) == asked
        assert all(row[2] >= version for row in rows)
    places = {row[:2] for *_, rows in portions for row in rows}
    assert len(places) == sum(taken) == sum(asked for _, asked, _ in portions), "no step is lost or handed over twice"


def test_slots_take_turns_and_orders_are_served_in_turn():
    async def run():
        work = Clockwork(3)
        portions = await asyncio.gather(*(work.stream.collect(6, 0, 1.0) for _ in range(4)))
        work.stream.close()
        return portions

    portions = asyncio.run(run())
    for number, rows in enumerate(portions):
        assert sorted(rows) == sorted((slot, step, 0) for slot in range(3) for step in (2 * number, 2 * number + 1))


def test_waiting_for_room_is_counted_as_idle():
    async def run():
        work = Clockwork(2)
        await work.stream.collect(4, 0, 1.0)
        await asyncio.sleep(0.05)
        await work.stream.collect(4, 0, 1.0)
        return work.idle_s[1]

    assert asyncio.run(run()) >= 0.04


def test_a_closed_stream_leaves_nobody_waiting():
    async def run():
        stream = StepStream([0], lambda *_: asyncio.Event().wait(), lambda *_: None, lambda *_: None)  # type: ignore[arg-type]
        order = asyncio.create_task(stream.collect(1, 0, 1.0))
        await settle()
        stream.close()
        with pytest.raises(asyncio.CancelledError):
            await order
        with pytest.raises(ValueError, match="at least 1 step, not 0"):
            await stream.collect(0, 0, 1.0)

    asyncio.run(run())


def test_the_longest_episode_of_an_order_holds_up_nobody_else(tiny_folder):
    async def run():
        sampler = Gated(tiny_folder, mixed)
        worker = make_worker(tiny_folder, sampler, slots=2)
        first, second = (asyncio.create_task(worker.stream_episodes(seeds, VERSION, 1.0)) for seeds in ([5, 5, 9], [7]))
        await settle()
        for _ in range(40):
            sampler.allowed.release()
            await settle()
        return await first, await second, [len(r.prompt_token_ids) for r in sampler.requests]

    first, second, requests = asyncio.run(run())
    rows = [checked_rows(portion[0]) for portion in (first, second)]
    starts = [{row.episode_id: row.reset_seed for row in own} for own in rows]
    assert sorted(starts[0].values()) == [5, 5, 9] and list(starts[1].values()) == [7]
    assert [len(portion[1].episodes) for portion in (first, second)] == [3, 1]
    assert all(row.end_reason is not EndReason.CUT for own in rows for row in own)
    assert sum(portion[1].env_steps for portion in (first, second)) == sum(map(len, rows)) == len(requests)


def test_orders_of_episodes_overlap(tiny_folder):
    async def run():
        sampler = Gated(tiny_folder, onward)  # three steps each
        worker = make_worker(tiny_folder, sampler, slots=2)
        orders = [asyncio.create_task(worker.stream_episodes([seed], VERSION, 1.0)) for seed in (1, 2, 3)]
        await settle()
        for _ in range(2 * 3):  # both slots play their first episode to its end
            sampler.allowed.release()
            await settle()
        assert [order.done() for order in orders] == [True, True, False]
        worker.advance_to(VERSION + 1)
        for _ in range(3):
            sampler.allowed.release()
            await settle()
        return [of(await order) for order in orders]

    portions = asyncio.run(run())
    assert [{row.reset_seed for row in portion} for portion in portions] == [{1}, {2}, {3}]
    assert [row.policy_version for row in portions[2]] == [VERSION, VERSION + 1, VERSION + 1], "one was under way"
    assert len({row.episode_id for portion in portions for row in portion}) == 3


def test_an_order_without_episodes_is_refused(tiny_folder):
    worker = make_worker(tiny_folder, CountingSampler(tiny_folder, mixed))
    with pytest.raises(ValueError, match="at least 1 episode"):
        asyncio.run(worker.stream_episodes([], VERSION, 1.0))
