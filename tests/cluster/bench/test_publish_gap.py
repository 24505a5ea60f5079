"""The longest gap is taken from each span, and the first round does not count."""

import pytest

from cluster.bench import publish_gap
from cluster.bench.publish_gap import EXPORTING, PART, REPEATS, SERVING, WITHOUT, measure_gap
from cluster.bench.publish_round import Parts, Published
from cluster.bench.publish_stream import Span
from cluster.bench.result import Findings
from cluster.record.progress import RunProgress
from protocol.adapter import CanaryPrompt


class FakeCrew:
    def __init__(self):
        self.published = self.retired = 0

    def publish(self) -> Published:
        self.published += 1
        return Published(Parts(*[0.0] * 7), 1, exporting=Span(0.0, 1.0), serving=Span(2.0, 2.5))

    def retire_older(self) -> None:
        self.retired += 1


class FakeServer:
    """Gaps of 40 ms in the first round, of 20, none and 4 ms later."""

    def __init__(self):
        self.rounds = 0
        self.spans: list[Span] = []
        self.talk = self.gaps = self

    def remote(self, *arguments):
        if len(arguments) == 3:
            return None
        (self.spans,) = arguments
        self.rounds += 1
        return [[0.04], [0.04], [0.04]] if self.rounds == 1 else [[0.01, 0.02], [], [0.004, 0.002, 0.003]]


def test_gaps_with_and_without_a_publish(monkeypatch):
    monkeypatch.setattr(publish_gap, "get", lambda ref, *_: ref)
    slept: list[float] = []
    monkeypatch.setattr(publish_gap.time, "sleep", slept.append)
    findings, crew, server = Findings(), FakeCrew(), FakeServer()
    measure_gap(findings, crew, server, "engine 1", CanaryPrompt([1], (), [2]), RunProgress())  # type: ignore[arg-type]
    assert crew.published == crew.retired == server.rounds == REPEATS + 1
    assert 0.5 in slept, "the span without a publish lasts as long as the server's part"
    assert server.spans[:2] == [Span(2.0, 2.5), Span(0.0, 1.0)]
    rows = {row.variant: row.values for row in findings.rows if (row.part, row.case) == (PART, "engine 1")}
    assert rows[SERVING].samples == (20.0,) * REPEATS
    assert rows[EXPORTING].median == 1000, "nothing came: it stood still for the whole span"
    assert rows[WITHOUT].median == 4
    assert rows["median gap without a publish"].median == 3
    assert findings.ratios[0].values.median == pytest.approx(5)
