"""The loops that are compared do the same work; the simulation obeys what can be worked out by hand."""

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest

from cluster.bench import loop, loop_runs
from cluster.bench.learner_cases import PPO_SETTINGS, Case
from cluster.bench.loop import measure
from cluster.bench.loop_original import original_loop
from cluster.bench.loop_runs import RunFailed, Speed, train_speed
from cluster.bench.loop_simulated import (
    ASYNCHRONOUS,
    BOUND,
    CASES,
    LOCK_STEP,
    RUNS,
    TWO_VERSIONS,
    Engine,
    Times,
    rate,
    sampling_rate,
    simulate,
)
from cluster.bench.registry import BenchSettings
from cluster.bench.virtual_time import run_virtually
from cluster.record.progress import RunProgress
from tests.cluster.bench import test_learner

EVEN = Times("even", rows=64, workers=2, slots=8, env_s=0.0, spread=0.0, mean_tokens=9.5, row_step_s=0.0, publish_s=0.0)
"""Every response takes 10 tokens of 10 ms, so that 16 slots take 160 rows a second."""

world = test_learner.world


def test_the_original_loop_plays_and_learns(world):
    shares = original_loop(world, Case("EZPoints", "0.34M").env, PPO_SETTINGS, 3, 24)
    assert shares.steps == 3 and 3 <= shares.tokens <= 72
    assert shares.took_s > shares.update_s > 0 < shares.sample_s


def test_responses_are_scored_again_as_they_were_sampled(world):
    from actors.sampler import SampleRequest, SamplingParams
    from actors.vocabulary import Vocabulary
    from cluster.bench.learner_plain import PlainPPO
    from cluster.bench.loop_original import BatchOfOne

    vocabulary, rows = Vocabulary.from_folder(world.folder), world.rows
    sampler = BatchOfOne(PlainPPO(world, PPO_SETTINGS), vocabulary, 9)
    is_image = rows.prompts[0] == vocabulary.image_token_id
    prompt = rows.prompts[0][~is_image | ~np.r_[False, is_image[:-1]]].tolist()
    (digest,) = rows.digests[0]
    request = SampleRequest(prompt, (rows.frames[digest],), (digest,), SamplingParams(1.0, 12), 0)
    sample = asyncio.run(sampler.sample(request))
    assert sample.prompt_token_ids.tolist() == rows.prompts[0].tolist(), "expanded as the learner's rows are"
    assert len(sample.token_ids) == len(sample.log_probs) <= 12
    assert (sample.log_probs < 0).all() and not set(sample.token_ids.tolist()) & set(vocabulary.banned_token_ids)


def test_the_engine_gives_every_live_request_a_token_per_step():
    async def main():
        engine, ended = Engine(Times("", step_s=1.0, row_step_s=0.5)), {}

        async def one(tokens):
            await engine.sample(tokens)
            ended[tokens] = asyncio.get_running_loop().time()

        await asyncio.gather(one(1), one(3))
        return ended

    assert run_virtually(main()) == pytest.approx({1: 2.0, 3: 5.0}, abs=1e-3)


def test_the_simulation_agrees_with_what_can_be_worked_out():
    assert sampling_rate(EVEN, 10) == pytest.approx(160, rel=0.01)
    took_s = 64 / 160
    assert rate(EVEN, 0, took_s, 10) == pytest.approx(80, rel=0.01), "one after the other"
    assert rate(EVEN, 1, took_s / 2, 10) == pytest.approx(160, rel=0.01), "the sampler is the slower one"
    assert rate(EVEN, 1, took_s * 2, 10) == pytest.approx(80, rel=0.01), "the learner is"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_running_ahead_helps_and_never_beats_the_slower_part(case):
    found = simulate(case, updates=6)
    assert found[LOCK_STEP] < found[ASYNCHRONOUS] <= found[TWO_VERSIONS] * 1.02
    assert found[TWO_VERSIONS] <= found[BOUND] * 1.1, "up to the noise of response lengths"


@pytest.mark.slow
def test_a_run_that_fails_is_told_with_its_last_words(tmp_path: Path):
    with pytest.raises(RunFailed, match=r"(?s)ended with 2.*no-such-model"):
        train_speed(tmp_path / "no-such-model", tmp_path, 3, 0, quick=True)


def test_speeds_are_turned_into_rows_ratios_and_goals(monkeypatch, tmp_path):
    causes = {"learner": 0.2, "transport": 0.05, "other": 0.0}
    speeds = iter(Speed(rate, 10 * rate, 0.5, 0.25, causes) for rate in (2.0, 40.0, 80.0))
    monkeypatch.setattr(loop, "_original", lambda *_: next(speeds))
    monkeypatch.setattr(loop, "train_speed", lambda *_: next(speeds))
    monkeypatch.setattr(loop, "fine_tuned_model", lambda folder, quick: folder)
    findings = measure(BenchSettings(quick=True), RunProgress())
    ratios = {(r.part, r.of): r for r in findings.ratios if r.part == loop.REAL}
    assert ratios[loop.REAL, "asynchronous / original's loop"].values.median == 40.0
    assert ratios[loop.REAL, "asynchronous / original's loop"].met
    assert ratios[loop.REAL, "asynchronous / lock-step"].values.median == 2.0
    assert len([r for r in findings.ratios if r.part == loop.SIMULATED]) == 4 * len(CASES)
    assert all(math.isfinite(row.values.median) for row in findings.rows)
    told = {row.variant: row.values.median for row in findings.rows if row.case == "engine idle for"}
    assert told == {f"{who}, {cause}": 100 * causes[cause] for who in RUNS[:2] for cause in ("learner", "transport")}
    assert loop_runs.RECIPE.is_file()
