"""The command starts what is missing, one process per run; the runs themselves are tests/cluster/test_loop.py's."""

import json
from pathlib import Path

import pytest

from cluster.sweep import command
from cluster.sweep.command import sweep
from protocol.errors import ConfigError
from tests.cluster.running import LOCAL

FAILING = "seed=2"


@pytest.fixture
def started(monkeypatch):
    """Command lines of the runs, which leave a card and nothing else; one of them fails."""
    lines: list[list[str]] = []

    def run(words):
        lines.append(list(words))
        folder, name = (
            next(w.partition("=")[2] for w in reversed(words) if w.startswith(key)) for key in ("runs_dir=", "name=")
        )
        if FAILING in words:
            return 1
        home = Path(folder) / name
        home.mkdir(parents=True)
        rate = {"success_rate": 0.5, "recognition_accuracy": None}
        (home / "card.json").write_text(json.dumps({"results": {"after_greedy": rate}, "totals": {"rl_wall_s": 1.0}}))
        return 0

    def run_all(launches, jobs, ended):
        for launch in launches:
            ended(launch, run(launch.words))

    monkeypatch.setattr(command, "run_all", run_all)
    return lines


def test_runs_that_are_done_are_not_started_again(started, tmp_path, capsys):
    arguments = (LOCAL, [f"runs_dir={tmp_path}", "rollout.updates=3"], ["seed=0,1,2"])
    outcomes = sweep(*arguments)
    assert [one.results is not None for one in outcomes] == [True, True, False]
    assert [line[3:7] for line in started] == [["train", LOCAL, f"runs_dir={tmp_path}", "rollout.updates=3"]] * 3
    out = capsys.readouterr().out
    assert "seed-2: ended with exit code 1" in out
    written = json.loads((tmp_path / "local-sweep" / "sweep.json").read_text())
    assert [run["finished"] for run in written["runs"]] == [True, True, False]
    sweep(*arguments)
    assert len(started) == 4, "only the failed one"
    assert "2 of 3 runs were done before" in capsys.readouterr().out


def test_a_wrong_variant_is_found_before_anything_starts(started, tmp_path):
    with pytest.raises(ConfigError, match="thought_weight"):
        sweep(LOCAL, [f"runs_dir={tmp_path}"], ["learner.ppo.thought_weight=0,7"])
    with pytest.raises(ConfigError, match="resume has no effect"):
        sweep(LOCAL, [f"runs_dir={tmp_path}", "resume=somewhere"], ["seed=0"])
    assert started == []
