import json
import math

import pytest

from cluster.sweep.outcome import Outcome, Spread, outcome_of
from cluster.sweep.table import table_of, to_json
from cluster.sweep.variants import expand


def run_with(folder, results, seconds=60.0):
    folder.mkdir()
    (folder / "card.json").write_text(json.dumps({"results": results, "totals": {"rl_wall_s": seconds}}))
    return folder


def result(rate):
    return {"success_rate": rate, "recognition_accuracy": 0.5}


def test_a_run_counts_only_when_it_was_evaluated_at_its_end(tmp_path):
    (variant,) = expand([])
    begun = run_with(tmp_path / "begun", {"before_greedy": result(0.4)})
    done = run_with(tmp_path / "done", {"before_greedy": result(0.4), "after_greedy": result(0.9)})
    assert outcome_of(variant, tmp_path / "nothing").results is None
    assert outcome_of(variant, begun).results is None
    found = outcome_of(variant, done)
    assert found.rate("after_greedy") == 0.9 and found.rl_wall_s == 60.0
    assert math.isnan(found.rate("after_sampled"))


def test_the_interval_over_seeds_is_students():
    spread = Spread.of([0.9, 0.92, 0.94])
    assert spread is not None and spread.mean == pytest.approx(0.92)
    # t(0.975, 2) = 4.303 times 0.02 / sqrt(3)
    assert (spread.low, spread.high) == pytest.approx((0.92 - 0.04969, 0.92 + 0.04969), abs=1e-4)
    assert str(spread) == "92.0 [87.0, 97.0] %"
    assert str(Spread.of([0.5])) == "50.0 %"
    assert Spread.of([math.nan]) is None
    edge = Spread.of([1.0, 0.98])
    assert edge is not None and edge.high == 1.0


def test_the_table_and_the_json_tell_failed_runs(tmp_path):
    variants = expand(["a=1,2", "seed=0,1"])
    rates = iter((0.9, 1.0, 0.5))
    outcomes = [
        Outcome(v, tmp_path, {"before_greedy": result(0.4), "after_greedy": result(next(rates))}, 10.0 * n)
        for n, v in enumerate(variants[:3])
    ] + [Outcome(variants[3], tmp_path, None)]
    table = table_of(outcomes)
    cells = [list(column.cells) for column in table.columns]
    assert cells[:2] == [["a=1", "a=2"], ["2/2", "1/2"]]
    assert str(cells[2][0]).startswith("40.0 [40.0, 40.0] % -> 95.0 [") and cells[2][1] == "40.0 % -> 50.0 %"
    assert cells[3] == ["- -> -", "- -> -"] and cells[5] == ["5", "20"]
    told = json.loads(json.dumps(to_json(outcomes, "croupier sweep")))
    assert [run["finished"] for run in told["runs"]] == [True, True, True, False]
    assert told["variants"]["a=2"]["after_greedy"] == {"mean": 0.5, "ci95": None}
