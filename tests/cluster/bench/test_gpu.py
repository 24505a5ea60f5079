"""Utilisation of GPUs: arithmetic and names only, no GPU is needed."""

import pytest

from cluster.bench.gpu import peak_flops, update_flops, work_clock


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA L40S", 362e12), ("Z9", None)],
)
def test_known_gpus_have_a_peak(name, peak):
    assert peak_flops(name) == peak


def test_frozen_weights_cost_four_operations_per_token():
    assert update_flops(7, 10) == 280


def test_the_clock_goes_on():
    before = work_clock()
    sum(range(100_000))
    assert work_clock() > before
