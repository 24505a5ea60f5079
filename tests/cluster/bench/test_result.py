"""Results are typed, summed up rightly, and survive JSON."""

import json

import pytest
from pydantic import ValidationError

from cluster.bench.result import BenchResult, Findings, Summary
from tests.cluster.bench.findings import some_findings, some_result


@pytest.mark.parametrize(
    ("samples", "median", "low", "high"),
    [([3.0], 3.0, 3.0, 3.0), ([5.0, 1.0, 2.0], 2.0, 1.0, 5.0), ([4.0, 1.0, 2.0, 9.0], 3.0, 1.0, 9.0)],
)
def test_a_summary_keeps_the_samples_in_their_order(samples, median, low, high):
    summary = Summary.of(samples)
    assert (summary.samples, summary.median, summary.low, summary.high) == (tuple(samples), median, low, high)


def test_samples_have_six_digits():
    assert Summary.of([0.000123456789, 123456.789]).samples == (0.000123457, 123457.0)


@pytest.mark.parametrize("samples", [[], [float("nan")], [float("inf"), 1.0]])
def test_what_was_not_measured_is_no_summary(samples):
    with pytest.raises(ValueError):
        Summary.of(samples)


def test_a_ratio_is_taken_pair_by_pair():
    (ratio,) = some_findings().ratios
    assert ratio.values.samples == (100.0, 300.0, 100.0)
    assert ratio.values.median == 100.0, "not the ratio of the medians, which is 150"


def test_a_ratio_of_what_is_not_paired_is_refused():
    with pytest.raises(ValueError):
        Findings().ratio("p", "c", "a / b", [1.0, 2.0], [1.0])


def test_goals_are_judged_by_the_median_and_only_where_there_is_one():
    found = some_findings()
    assert [row.met for row in found.rows] == [None, None, False, None]
    assert [ratio.met for ratio in found.ratios] == [True]
    found.row("p", "c", "v", "s", [1.0, 2.0, 9.0], at_least=2.0)
    assert found.rows[-1].met is True


def test_json_round_trip():
    result = some_result()
    text = json.dumps(result.to_json(), allow_nan=False)
    assert BenchResult.model_validate_json(text) == result
    assert json.loads(text)["rows"][0]["values"]["median"] == 0.02


@pytest.mark.parametrize("change", [{"more": 1}, {"rows": [{}]}, {"machine": None}])
def test_other_json_is_refused(change):
    with pytest.raises(ValidationError):
        BenchResult.model_validate({**some_result().to_json(), **change})
