"""What a run has found out stays on its card."""

import json

from cluster.config import default_config
from cluster.evaluation import EvaluationResult, Panel, evaluate
from cluster.record.journal import Journal
from cluster.record.run_dir import RunDir
from cluster.stages.plan import plan_of
from tests.cluster.results import episode

STAGES = ["stages.read.kind=rl", "stages.act.kind=rl", "tracking.tensorboard=false"]


def result_of(wins: int) -> EvaluationResult:
    panel = Panel(default_config().env, 5, 2)
    return evaluate(lambda seeds, at: [episode(success=n < wins) for n in range(2)], panel, 4, 0.0)


def test_a_resumed_run_knows_what_was_noted(tmp_path):
    run, config = RunDir.create(tmp_path, "run"), default_config(STAGES)
    read, act = plan_of(config, run)
    journal = Journal(config, run)
    assert not journal.has_evaluated(read, "before")
    journal.evaluated(read, "before", "greedy", result_of(1))
    totals = {"updates": 3, "env_steps": 100, "tokens": 50, "rl_wall_s": 1.5}
    journal.note(read, totals=totals)
    journal.note(read, metrics={"loss": 0.5})
    journal.note(act, totals=totals)
    again = Journal(config, run)
    assert again.evaluations == {"read/before_greedy": result_of(1)}
    assert again.has_evaluated(read, "before") and not again.has_evaluated(act, "before")
    again.evaluated(act, "after", "greedy", result_of(2))
    card = json.loads(run.card.read_text())
    assert list(card["results"]) == ["read/before_greedy", "act/after_greedy"]
    assert card["stages"]["read"] == {
        "kind": "rl",
        "env": config.env.label,
        "totals": totals,
        "metrics": {"loss": 0.5},
    }
    assert card["totals"] == {"updates": 6, "env_steps": 200, "tokens": 100, "rl_wall_s": 3.0}


def test_the_short_form_names_no_stage(tmp_path):
    run, config = RunDir.create(tmp_path, "run"), default_config()
    journal = Journal(config, run)
    journal.evaluated(plan_of(config, run)[-1], "after", "greedy", result_of(2))
    assert list(json.loads(run.card.read_text())["results"]) == ["after_greedy"]


def test_the_steps_of_a_stage_are_rows_that_name_it(tmp_path):
    run, config = RunDir.create(tmp_path, "run"), default_config(["stages.words.kind=sft", *STAGES])
    words = plan_of(config, run)[0]
    words.home.root.mkdir(parents=True)
    for _ in range(2):  # as after a resume: the second writing replaces the first
        Journal(config, run).write_steps(words, [{"loss": 2.0}, {"loss": 1.0}])
    rows = [json.loads(line) for line in words.home.metrics.read_text().splitlines()]
    assert rows == [
        {"update": 1, "stage": "words", "sft/loss": 2.0},
        {"update": 2, "stage": "words", "sft/loss": 1.0},
    ]


def test_cards_of_older_runs_are_read(tmp_path):
    run = RunDir.create(tmp_path, "run")
    run.card.write_text(json.dumps({"results": {"after_greedy": result_of(2).to_json()}}))
    assert Journal(default_config(), run).evaluations["after_greedy"].success_rate == 1.0
