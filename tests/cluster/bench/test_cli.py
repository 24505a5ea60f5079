"""`croupier bench`: its commands, their mistakes, and a quick run for real."""

import re
import sys
from functools import partial
from pathlib import Path

import pytest

from cluster.bench import suite
from cluster.bench.registry import BENCHMARKS, BenchSettings
from cluster.bench.result import BenchResult
from tests.cluster.printed import plain


@pytest.fixture
def bench(call, monkeypatch):
    """Run a benchmark's command in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "path", list(sys.path))
    return partial(call, "bench")


def test_help_lists_every_benchmark(bench):
    code, out, _ = bench("--help")
    assert code == 0
    listed = {m[1] for m in re.finditer(r"^[│ ]+([a-z-]+) {2,}\w", out, re.MULTILINE)}
    assert {benchmark.name for benchmark in BENCHMARKS} | {"all"} <= listed


@pytest.mark.parametrize("name", [*(benchmark.name for benchmark in BENCHMARKS), "all"])
def test_every_benchmark_has_help_and_a_quick_run(bench, name):
    code, out, _ = bench(name, "--help")
    assert code == 0 and f"bench {name} [OPTIONS]" in plain(out) and "--quick" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["env"], "No such command 'env'. Did you mean 'envs'?"),
        (["envs", "--json", "tests"], "is a directory"),
        (["envs", "--fast"], "No such option: --fast"),
        (["all", "--out", "README.md"], "is a file"),
        (["soak", "--minutes", "0.1"], "greater than or equal to 1"),
    ],
)
def test_mistakes_are_explained(bench, monkeypatch, arguments, told):
    monkeypatch.chdir(Path(__file__).parents[3])
    code, out, err = bench(*arguments)
    assert (code, out) == (2, "") and told in plain(err)


def test_options_reach_the_benchmark(bench, monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(suite, "bench", lambda *arguments: given.append(arguments))
    monkeypatch.setattr(suite, "bench_all", lambda *arguments: given.append(arguments))
    assert bench("envs", "--quick", "--soak", "--json", str(tmp_path / "a.json"))[0] == 0
    assert bench("envs")[0] == 0
    assert bench("soak", "--minutes", "2.5")[0] == 0
    assert bench("all", "--quick", "--out", str(tmp_path))[0] == 0
    assert given == [
        ("envs", BenchSettings(quick=True, soak=True), tmp_path / "a.json"),
        ("envs", BenchSettings(), None),
        ("soak", BenchSettings(minutes=2.5), None),
        (BenchSettings(quick=True), tmp_path),
    ]


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_all_benchmarks_run_quickly(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path / "cache"))
    code, out, err = bench("all", "--quick", "--out", str(tmp_path / "results"))
    assert (code, err) == (0, "")
    for benchmark in BENCHMARKS:
        result = BenchResult.model_validate_json((tmp_path / "results" / f"{benchmark.name}.json").read_text())
        assert result.quick and result.rows and result.name == benchmark.name
        assert benchmark.about in out
