"""The last lines of a run: success before and after RL, and where everything is."""

import io

import pytest
from rich.console import Console

from cluster.config.env import EnvConfig
from cluster.evaluation import EvaluationResult, Panel, evaluate
from cluster.record.run_dir import RunDir
from cluster.record.summary import print_summary
from cluster.train import TrainResult
from tests.cluster.results import LOST, episode


def evaluation(wins: int) -> EvaluationResult:
    results = [episode() for _ in range(wins)] + [episode(**LOST) for _ in range(4 - wins)]
    return evaluate(lambda seeds, at: results, Panel(EnvConfig(), 0, 4), 0, 0.0)


def lines_of(tmp_path, **evaluations: EvaluationResult) -> list[str]:
    out = io.StringIO()
    result = TrainResult(RunDir(tmp_path / ("deep" * 30)), True, dict(evaluations))
    print_summary(result, Console(file=out, width=80, highlight=False))
    return out.getvalue().splitlines()


def test_both_modes_before_and_after(tmp_path):
    lines = lines_of(
        tmp_path,
        before_greedy=evaluation(1),
        before_sampled=evaluation(0),
        after_greedy=evaluation(4),
        after_sampled=evaluation(3),
    )
    assert lines[-3:] == [
        "success greedy: 25.0 % before RL -> 100.0 % after RL",
        "success sampled: 0.0 % before RL -> 75.0 % after RL",
        f"Run directory: {tmp_path / ('deep' * 30)}",
    ]
    (greedy,) = [line for line in lines if "greedy" in line and "│" in line]
    assert "25.0 % [4.6, 69.9]" in greedy and "100.0 % [51.0, 100.0]" in greedy
    assert lines[0] == "gym_cards/NumberLine-v0: success over 4 episodes, with its 95 % interval"
    assert max(map(len, lines[:-1])) <= 80


@pytest.mark.parametrize("evaluations", [{}, {"before_greedy": evaluation(2)}], ids=["none", "stopped early"])
def test_a_run_without_both_evaluations_claims_nothing(tmp_path, evaluations):
    lines = lines_of(tmp_path, **evaluations)
    assert not [line for line in lines if line.startswith("success")]
    assert lines[-1].startswith("Run directory: ")
    assert bool(evaluations) == ("50.0 % [15.0, 85.0]" in "".join(lines))


def of_panel(wins: int, seed: int) -> EvaluationResult:
    results = [episode() for _ in range(wins)] + [episode(**LOST) for _ in range(4 - wins)]
    return evaluate(lambda seeds, at: results, Panel(EnvConfig(), seed, 4), 0, 0.0)


def test_stages_are_told_one_after_the_other(tmp_path):
    points = {"prefer/before": 1, "act/before": 3, "act/after": 4}
    lines = lines_of(tmp_path, **{f"{p}_{m}": evaluation(n) for p, n in points.items() for m in ("greedy", "sampled")})
    assert lines[-3] == "success greedy: 25.0 % before prefer -> 75.0 % before act -> 100.0 % after act"
    assert [line.split("│")[1].strip() for line in lines if "│" in line][-3:] == [
        "before prefer",
        "before act",
        "after act",
    ]


def test_only_what_played_the_same_episodes_is_compared(tmp_path):
    points = {"short/before": (1, 0), "short/after": (4, 0), "long/before": (2, 1), "long/after": (3, 1)}
    both = {f"{p}_{m}": of_panel(*own) for p, own in points.items() for m in ("greedy", "sampled")}
    told = [line for line in lines_of(tmp_path, **both) if line.startswith("success greedy")]
    assert told == [
        "success greedy: 25.0 % before short -> 100.0 % after short",
        "success greedy: 50.0 % before long -> 75.0 % after long",
    ]
