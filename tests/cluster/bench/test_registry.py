"""Benchmarks by name."""

import pytest

from cluster.bench.registry import BENCHMARKS, find
from protocol.errors import ConfigError


def test_every_benchmark_can_be_loaded_by_its_name():
    assert "envs" in {benchmark.name for benchmark in BENCHMARKS}
    for benchmark in BENCHMARKS:
        assert find(benchmark.name) is benchmark
        assert callable(benchmark.load()) and benchmark.about


@pytest.mark.parametrize(("name", "cure"), [("env", "did you mean 'envs'"), ("zzz", "there are 'envs'")])
def test_an_unknown_name_is_told_with_a_suggestion(name, cure):
    with pytest.raises(ConfigError) as raised:
        find(name)
    assert repr(name) in str(raised.value) and cure in str(raised.value)


def test_benchmarks_that_need_ray_come_last():
    needs = [benchmark.uses_ray for benchmark in BENCHMARKS]
    assert needs == sorted(needs) and any(needs)
