"""The committed results can be read, have weight, and are what the tables of the documents say."""

from pathlib import Path

import pytest

from cluster.bench.registry import BENCHMARKS
from cluster.bench.result import BenchResult
from cluster.bench.tables import markdown

FOLDER = Path(__file__).parents[3] / "docs" / "benchmarks"
RESULTS = sorted(FOLDER.glob("*.json"))


def test_there_are_results_of_known_benchmarks():
    assert RESULTS
    assert {path.stem for path in RESULTS} <= {benchmark.name for benchmark in BENCHMARKS}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_committed_result_is_a_full_run_and_stands_in_the_readme(path):
    result = BenchResult.model_validate_json(path.read_text())
    assert result.name == path.stem and not result.quick
    assert f"<!-- {path.name} -->\n\n{markdown(result)}\n<!-- end -->" in (FOLDER / "README.md").read_text()
