"""Gaps between tokens that a span of time holds or cuts."""

import pytest

from cluster.bench.publish_stream import Span, gaps_in

STREAM = [1.0, 1.1, 1.2, 2.0, 2.1]


@pytest.mark.parametrize(
    ("began_s", "ended_s", "gaps"),
    [
        (0.0, 9.0, [0.1, 0.1, 0.8, 0.1]),
        (1.3, 1.4, [0.8]),  # nothing came during it: the gap around it counts whole
        (1.15, 1.25, [0.1, 0.8]),
        (2.05, 9.0, [0.1]),
        (0.0, 1.0, []),
        (2.1, 9.0, []),
    ],
)
def test_a_gap_that_reaches_into_the_span_counts_whole(began_s, ended_s, gaps):
    assert gaps_in(Span(began_s, ended_s), [STREAM]) == pytest.approx(gaps)


def test_no_gap_lies_between_two_requests():
    assert gaps_in(Span(0.0, 9.0), [[1.0, 1.5], [4.0, 4.25], [], [7.0]]) == [0.5, 0.25]


def test_a_span_has_a_length():
    assert Span(1.5, 4.0).length_s == 2.5
