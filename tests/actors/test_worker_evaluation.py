import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest

from protocol.errors import DeadlineExceeded
from tests.actors.counting import (
    CountingEnv,
    CountingSampler,
    CountingTask,
    crash_at,
    mixed,
    moody,
    onward,
)
from tests.actors.rollouts import (
    MODES,
    VERSION,
    Silent,
    collect,
    contents,
    crashing_worker,
    make_worker,
)

SEEDS = [50, 3, 41, 8, 7, 22, 19]


@MODES
def test_evaluation_leaves_the_training_slots_alone(deterministic, tiny_folder):
    def rows(evaluate: bool) -> list[dict[str, Any]]:
        sampler = CountingSampler(tiny_folder, mixed)
        worker = make_worker(tiny_folder, sampler, deterministic=deterministic)
        before, _ = collect(worker, 7)
        if evaluate:
            asyncio.run(worker.run_episodes(SEEDS, VERSION, 0.0))
        after, _ = collect(worker, 9)
        return contents([*before, *after])

    assert rows(evaluate=True) == rows(evaluate=False)


def evaluated(folder: Any, answer: Any, seeds: Sequence[int] = SEEDS, **settings: Any) -> list[dict[str, Any]]:
    worker = make_worker(folder, CountingSampler(folder, answer), **settings)
    return [asdict(result) for result in asyncio.run(worker.run_episodes(seeds, VERSION, 0.7))]


def test_results_come_in_the_order_of_the_seeds(tiny_folder):
    results = evaluated(tiny_folder, mixed, slots=3)
    assert [result["seed"] for result in results] == SEEDS
    for seed, result in zip(SEEDS, results, strict=True):
        env = CountingEnv()
        env.reset(seed=seed)
        assert result["task"] == ("odd" if env.name % 2 else "even")
    assert {result["length_steps"] for result in results} == {2, 3}


def test_an_evaluations_slots_wait_for_one_another_in_deterministic_mode_alone(tiny_folder):
    class OneIsSlow(CountingSampler):
        """Answers the first request of all when no other is left to answer."""

        answered = 0

        async def sample_batch(self, requests: Sequence[Any]) -> Any:
            first, self.answered = self.answered == 0, self.answered + len(requests)
            if first:
                for _ in range(1000):
                    await asyncio.sleep(0)
                self.seen_by_first = self.answered
            return await super().sample_batch(requests)

    def seen_by_the_slowest(**settings: Any) -> int:
        sampler = OneIsSlow(tiny_folder, mixed)
        results = asyncio.run(make_worker(tiny_folder, sampler, slots=2, **settings).run_episodes(SEEDS, VERSION, 0.0))
        assert [result.seed for result in results] == SEEDS
        return sampler.seen_by_first

    assert seen_by_the_slowest(deterministic=True) == 2, "both slots' first requests, in one batch"
    assert seen_by_the_slowest(deterministic=False) > 2 * (len(SEEDS) - 1), "the other slot played all but one episode"


def test_evaluation_may_play_another_environment(tiny_folder):
    trained: list[Any] = []
    played: list[Any] = []
    worker = make_worker(
        tiny_folder,
        CountingSampler(tiny_folder, mixed),
        make_env=lambda: (CountingEnv(journal=trained), CountingTask()),
        make_evaluated_env=lambda: (CountingEnv(journal=played), CountingTask()),
    )
    begun = len(trained)
    results = asyncio.run(worker.run_episodes(SEEDS, VERSION, 0.0))
    assert len(results) == len(SEEDS) == sum(entry[0] == "reset" for entry in played)
    assert len(trained) == begun, "the training slots were not touched"
    collect(worker, 5)
    assert len(trained) > begun


@pytest.mark.parametrize(
    "settings",
    [{"slots": 1}, {"slots": 3}, {"slots": 20}, {"worker_id": "worker-7"}, {"seed": 9}],
    ids=str,
)
@pytest.mark.parametrize("answer", [moody, lambda state, request: "?"], ids=["sampled", "fallback"])
def test_results_depend_on_the_panels_seeds_alone(answer, settings, tiny_folder):
    seeds = list(range(12))
    expected = evaluated(tiny_folder, answer, seeds, slots=2, deterministic=True)
    assert len({(r["length_steps"], r["episode_return"]) for r in expected}) > 2
    assert evaluated(tiny_folder, answer, seeds, **({"slots": 2} | settings), deterministic=True) == expected


def test_a_seed_may_be_asked_for_twice_and_none_at_all(tiny_folder):
    twice = evaluated(tiny_folder, moody, [5, 6, 5], deterministic=True)
    assert twice[0] == twice[2] and [r["seed"] for r in twice] == [5, 6, 5]
    assert evaluated(tiny_folder, moody, []) == []


def test_evaluation_closes_what_it_opened(tiny_folder):
    journals: list[list[Any]] = []

    def make_env() -> tuple[CountingEnv, CountingTask]:
        journals.append([])
        return CountingEnv(journal=journals[-1]), CountingTask()

    worker = make_worker(tiny_folder, CountingSampler(tiny_folder, onward), slots=3, make_env=make_env)
    asyncio.run(worker.run_episodes(SEEDS, VERSION, 0.0))
    failing = make_worker(tiny_folder, Silent(), make_env=make_env, slots=1, sample_deadline_s=0.01)
    with pytest.raises(DeadlineExceeded):
        asyncio.run(failing.run_episodes(SEEDS, VERSION, 0.0))
    # Three training slots, three of the evaluation, one training slot, one of its evaluation.
    assert [journal.count("close") for journal in journals] == [0, 0, 0, 1, 1, 1, 0, 1]
    worker.close()
    assert [journal.count("close") for journal in journals[:3]] == [1, 1, 1]


def test_an_evaluation_counts_a_broken_episode_as_lost(tiny_folder):
    worker = crashing_worker(tiny_folder, CountingSampler(tiny_folder, crash_at(2)))
    results = asyncio.run(worker.run_episodes([1, 2, 3], VERSION, 0.0))
    assert [(r.seed, r.env_error, r.success, r.length_steps) for r in results] == [
        (seed, True, False, 2) for seed in (1, 2, 3)
    ]
