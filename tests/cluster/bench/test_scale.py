"""What `scale` reports of paces, and a stub that takes its time and has only so many places."""

import asyncio

import pytest

from cluster.bench import scale
from cluster.bench.result import Findings
from cluster.bench.scale import Pace
from cluster.bench.scale_stub import Plan, StubServer
from cluster.bench.virtual_time import run_virtually
from tests.cluster.bench import test_learner

world = test_learner.world


def ratios_of(paces, plan):
    findings = Findings()
    scale._report(findings, plan, {count: Pace(rate, 0.2, 100.0) for count, rate in paces.items()})
    return {ratio.case: ratio for ratio in findings.ratios}


def test_eight_times_the_workers_are_compared_with_eight_times_the_pace():
    found = ratios_of({1: 4.0, 8: 30.0, 64: 120.0}, Plan(latency_s=2.0, capacity=1000))
    assert set(found) == {"1 -> 8 workers", "8 -> 64 workers"}
    assert found["1 -> 8 workers"].values.median == pytest.approx(30 / 32) and found["1 -> 8 workers"].met
    assert found["8 -> 64 workers"].values.median == pytest.approx(0.5) and not found["8 -> 64 workers"].met


def test_a_saturated_engine_is_no_fault_of_the_workers():
    found = ratios_of({8: 30.0, 64: 120.0}, Plan(latency_s=2.0, capacity=256))
    assert found["8 -> 64 workers"].values.median == pytest.approx(120 / 128) and found["8 -> 64 workers"].met


def test_the_stub_takes_its_time_in_as_many_places_as_it_has(world, request_for):
    async def main():
        stub = StubServer(str(world.folder), Plan(latency_s=2.0, capacity=3))
        samples = await stub.sample_batch([request_for() for _ in range(7)])
        return asyncio.get_running_loop().time(), samples

    took_s, samples = run_virtually(main())
    assert took_s == pytest.approx(6.0, abs=1e-3), "three times three places"
    assert [sample.text for sample in samples] == ['{"action": "+"}'] * 7


@pytest.fixture
def request_for():
    from actors.sampler import SampleRequest, SamplingParams

    return lambda: SampleRequest([1, 2], (), (), SamplingParams(1.0, 24), 0)
