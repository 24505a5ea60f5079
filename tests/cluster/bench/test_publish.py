"""What the publish benchmark reports, with actors that only pretend; the real ones run in the slow tests."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from cluster.bench import publish
from cluster.bench.publish import REAL, STUB_SIZES_MB, STUBS, WHOLE, fits, measure, publish_in_turn
from cluster.bench.publish_round import Parts, Published
from cluster.bench.publish_stream import Span
from cluster.bench.registry import BenchSettings
from cluster.record.progress import RunProgress


class FakeCrew:
    """Each server costs a second; parts are 1/7 of the whole each."""

    made: list["FakeCrew"] = []

    def __init__(self, learner, servers, versions):
        self.servers, self.cleaned = len(servers), []
        FakeCrew.made.append(self)

    def publish(self) -> Published:
        return Published(Parts(*[self.servers / 7] * 7), 168_000, Span(0, 1), Span(1, 2))

    def retire_older(self) -> None:
        self.cleaned.append("retire")

    def vacate(self) -> None:
        self.cleaned.append("vacate")


@pytest.fixture
def pretended(monkeypatch):
    """Engines that were started, crews that were made, and how much memory is free."""
    FakeCrew.made = []
    seen = SimpleNamespace(engines=[], gaps=[], free=10**12, shared=10**12)
    actor = SimpleNamespace(start=SimpleNamespace(remote=lambda *_: None))
    monkeypatch.setattr(publish, "Crew", FakeCrew)
    monkeypatch.setattr(publish, "local_ray", lambda _: nullcontext())
    monkeypatch.setattr(publish, "ray_actors", lambda _: nullcontext())
    monkeypatch.setattr(publish, "spawn_learner", lambda _: actor)
    monkeypatch.setattr(
        publish, "spawn_servers", lambda _m, _c, engine, count: seen.engines.append((engine, count)) or [actor] * count
    )
    monkeypatch.setattr(publish, "wait_started", lambda starting: [None, "engine 1", *starting])
    monkeypatch.setattr(publish, "build_tiny_vlm", lambda *_: None)
    monkeypatch.setattr(publish, "make_canaries", lambda *_: (None,) * 4)
    monkeypatch.setattr(publish, "measure_gap", lambda *arguments: seen.gaps.append(arguments[1]))
    monkeypatch.setattr(publish.psutil, "virtual_memory", lambda: SimpleNamespace(available=seen.free))
    monkeypatch.setattr(publish.psutil, "disk_usage", lambda _: SimpleNamespace(free=seen.shared))
    return seen


def test_a_full_run_publishes_to_real_and_stub_engines(pretended):
    findings = measure(BenchSettings(), RunProgress())
    assert pretended.engines == [("transformers", 2), ("vLLM", 1), ("stub", 8)]
    assert [crew.servers for crew in pretended.gaps] == [1]
    rows = {(row.part, row.case, row.variant): row.values for row in findings.rows}
    for megabytes in STUB_SIZES_MB:
        assert rows[STUBS, f"{megabytes} MB, 8 servers", WHOLE].median == 8000
        assert len(rows[STUBS, f"{megabytes} MB, 1 server", "object store"].samples) == 3
    assert rows[REAL, "engine 1, 1 server", "adapter"].median == 0.168
    assert rows[REAL, "engine 1, 2 servers", "canaries"].median == pytest.approx(2000 / 7, rel=1e-4)
    ratios = {(one.part, one.case): one.values.median for one in findings.ratios}
    assert ratios[STUBS, "650 MB, 8 servers"] == 8 and ratios[REAL, "engine 1, 2 servers"] == 2
    assert not any("free memory" in note for note in findings.notes)


def test_a_quick_run_publishes_to_one_server(pretended):
    findings = measure(BenchSettings(quick=True), RunProgress())
    assert pretended.engines == [("transformers", 1)] and not pretended.gaps and not findings.ratios
    assert all(len(row.values.samples) == 1 for row in findings.rows)
    assert not any("tub engines" in note for note in findings.notes)


def test_cases_that_do_not_fit_are_left_out_and_told(pretended):
    pretended.free = 4 * 10**9
    findings = measure(BenchSettings(), RunProgress())
    cases = {row.case for row in findings.rows if row.part == STUBS}
    assert "650 MB, 1 server" not in cases and "100 MB, 8 servers" in cases
    assert [note for note in findings.notes if "free memory" in note] == [
        "stub engines: this machine's free memory was not enough for 650 MB."
    ]


def test_what_fits_depends_on_memory_and_on_shared_memory(pretended):
    nbytes = 650 * 10**6
    pretended.free = 5 * nbytes / 0.7 + 1
    assert fits(nbytes) and not fits(nbytes + 1)
    pretended.shared = 4 * nbytes
    assert not fits(nbytes)


def test_crews_publish_in_turn_and_clean_up_off_the_clock(pretended):
    crews = {count: FakeCrew(None, [None] * count, None) for count in (1, 2)}
    done: list[int] = []
    found = publish_in_turn(crews, FakeCrew.vacate, 3, done.append)  # type: ignore[arg-type]
    assert {count: [one.parts.total for one in published] for count, published in found.items()} == {
        1: pytest.approx([1.0] * 3),
        2: pytest.approx([2.0] * 3),
    }
    assert done == [1, 2, 3, 4] and crews[1].cleaned == ["vacate"] * 4
