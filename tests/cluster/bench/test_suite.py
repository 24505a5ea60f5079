"""Running a benchmark: what is printed, what is written, and that nothing but a crash fails."""

import io
import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from rich.console import Console

from cluster.bench import suite
from cluster.bench.registry import Benchmark, BenchSettings
from cluster.bench.result import BenchResult
from cluster.bench.suite import bench, bench_all, run_benchmark
from cluster.record.progress import RunProgress
from protocol.errors import ConfigError
from tests.cluster.bench.findings import some_findings


@pytest.fixture
def settings_seen(monkeypatch):
    """One registered benchmark, `fake`, that measures nothing; the settings it was run with."""
    seen = []
    fake = Benchmark("fake", "About it", "no.module")
    monkeypatch.setattr(
        Benchmark, "load", lambda self: lambda settings, progress: seen.append(settings) or some_findings()
    )
    monkeypatch.setattr(suite, "BENCHMARKS", (fake,))
    monkeypatch.setattr(suite, "find", {"fake": fake}.__getitem__)
    return seen


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=100, highlight=False), out


def test_a_result_says_what_was_run_when_and_where(settings_seen, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/croupier", "bench", "fake", "--json", "a b.json"])
    result = run_benchmark("fake", BenchSettings(quick=True), RunProgress(console()[0]))
    assert settings_seen == [BenchSettings(quick=True)]
    assert result.command == "croupier bench fake --json 'a b.json'"
    assert (result.name, result.about, result.quick) == ("fake", "About it", True)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(result.date)).total_seconds()) < 600
    assert list(result.rows) == some_findings().rows and list(result.ratios) == some_findings().ratios


def test_a_missed_goal_is_told_and_fails_nothing(settings_seen, tmp_path):
    screen, out = console()
    bench("fake", BenchSettings(), tmp_path / "new" / "fake.json", screen)
    assert "MISSED" in out.getvalue() and str(tmp_path / "new" / "fake.json") in out.getvalue()
    written = BenchResult.model_validate_json((tmp_path / "new" / "fake.json").read_text())
    assert written.name == "fake" and not written.quick


def test_without_a_file_the_result_goes_where_git_does_not_look(settings_seen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench("fake", BenchSettings(), None, console()[0])
    assert json.loads((tmp_path / ".bench" / "fake.json").read_text())["name"] == "fake"


def test_all_benchmarks_write_into_one_folder(settings_seen, tmp_path):
    bench_all(BenchSettings(quick=True, soak=True), tmp_path, console()[0])
    assert settings_seen == [BenchSettings(quick=True, soak=True)]
    assert [path.name for path in tmp_path.iterdir()] == ["fake.json"]


def test_ray_is_started_once_before_the_first_benchmark_that_needs_it(monkeypatch, tmp_path):
    events: list[str] = []

    @contextmanager
    def session(progress):
        first = "Ray" not in events
        events.append("Ray")
        yield
        if first:
            events.append("end of Ray")

    def benchmark(name: str, uses_ray: bool) -> Benchmark:
        return Benchmark(name, "About it", "no.module", uses_ray)

    monkeypatch.setattr("cluster.bench.local_ray.local_ray", session)
    monkeypatch.setattr(suite, "BENCHMARKS", (benchmark("a", False), benchmark("b", True), benchmark("c", True)))
    monkeypatch.setattr(suite, "bench", lambda name, *_: events.append(name))
    bench_all(BenchSettings(), tmp_path, console()[0])
    assert events == ["a", "Ray", "b", "Ray", "c", "end of Ray"]


@pytest.mark.parametrize(
    ("settings", "takes_part"),
    [
        (BenchSettings(), False),
        (BenchSettings(soak=True), True),
        (BenchSettings(quick=True), True),
    ],
)
def test_a_long_benchmark_takes_part_where_it_is_asked_for_or_short(monkeypatch, tmp_path, settings, takes_part):
    run = []
    long = Benchmark("long", "About it", "no.module", is_long=True)
    monkeypatch.setattr(suite, "BENCHMARKS", (Benchmark("short", "About it", "no.module"), long))
    monkeypatch.setattr(suite, "bench", lambda name, *_: run.append(name))
    bench_all(settings, tmp_path)
    assert run == ["short", "long"][: 1 + takes_part]


def test_an_unknown_benchmark_writes_nothing(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'envs'"):
        bench("envz", BenchSettings(), tmp_path / "x.json", console()[0])
    assert list(tmp_path.iterdir()) == []
