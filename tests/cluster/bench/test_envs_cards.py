"""The card games are measured: structure and plausibility, never a time."""

import envs
from cluster.bench import envs_cards
from cluster.bench.envs_adapters import add_rows, measure_adapters
from cluster.bench.envs_cards import COLD, GAMES, ORIGINAL, OURS, measure_cards
from cluster.bench.envs_play import first_resets, play, play_expert, timed_walk
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.record.progress import RunProgress

QUICK = BenchSettings(quick=True)


def test_a_walk_meets_every_state_in_order():
    env, adapter = envs.make("gym_cards/NumberLine-v0")
    resets, steps, trace = timed_walk(env, adapter, seed=0, steps=50)
    kinds = [kind for kind, _ in trace]
    assert kinds[0] == "reset" and kinds.count("step") == steps.spans == 50
    assert kinds.count("reset") == resets.spans > 1
    for (_, before), (kind, after) in zip(trace, trace[1:], strict=False):
        if kind == "step":
            assert before["Target"] == after["Target"] and abs(before["Current"] - after["Current"]) <= 1
            assert before["Current"] != before["Target"], "an episode that has ended is not played on"


def test_a_walk_is_the_same_for_the_same_seed():
    env, adapter = envs.make("gym_cards/Blackjack-v0")
    assert (
        timed_walk(env, adapter, 3, 30)[2] == timed_walk(env, adapter, 3, 30)[2] != timed_walk(env, adapter, 4, 30)[2]
    )


def test_times_are_positive():
    env, adapter = envs.make("gym_cards/EZPoints-v0")
    assert play(env, adapter, seed=0, steps=5) > 0
    assert first_resets("gym_cards/EZPoints-v0", count=2) > 0


def test_every_game_gets_its_rows_ratios_goals_and_references(monkeypatch):
    monkeypatch.setattr(envs_cards, "_first_of_a_process", lambda tick, number: {game.name: 1.0 for game in GAMES})
    findings = Findings()
    measure_cards(findings, QUICK, RunProgress())
    rows = {(row.case, row.variant): row for row in findings.rows}
    assert len(rows) == len(findings.rows)
    for game in GAMES:
        for event, unit in (("reset", "ms"), ("step", "ms"), ("play", "steps/s")):
            for variant in (OURS, ORIGINAL):
                row = rows.pop((f"{game.name} {event}", variant))
                assert row.unit == unit and row.values.median > 0
                assert row.at_least == (2000 if (event, variant) == ("play", OURS) else None)
        assert rows.pop((f"{game.name} reset", COLD)).values.samples == (1.0,)
    assert not rows
    goals = {ratio.case: ratio.at_least for ratio in findings.ratios}
    assert goals == {
        f"{game.name} {event}": 20 if event == "reset" else None
        for game in GAMES
        for event in ("reset", "step", "play")
    }
    assert {one.case: one.value for one in findings.references}["Points24 reset"] == 100
    assert any("reconstruction" in note for note in findings.notes)


def test_the_adapter_is_measured_while_the_expert_plays():
    findings = Findings()
    measure_adapters(findings, QUICK, RunProgress())
    asked = {"prompt and picture", "picture alone", "expert", "parse"}
    assert {row.case: {r.variant for r in findings.rows if r.case == row.case} for row in findings.rows} == {
        game.name: asked for game in GAMES
    }
    assert all(row.unit == "us" and row.values.median > 0 for row in findings.rows)


def test_rows_of_an_adapter_hold_a_sample_per_repeat():
    env, adapter = envs.make("gym_cards/Points24-v0")
    findings = Findings()
    add_rows(findings, "here", [play_expert(env, adapter, seed, steps=3) for seed in range(2)])
    assert {len(row.values.samples) for row in findings.rows} == {2}


def test_random_play_is_timed_on_episodes_that_no_walk_has_warmed(monkeypatch):
    walked, played = [], []
    monkeypatch.setattr(
        envs_cards, "timed_walk", lambda e, a, seed, n: walked.append(seed) or timed_walk(e, a, seed, n)
    )
    monkeypatch.setattr(envs_cards, "play", lambda e, a, seed, n: played.append(seed) or play(e, a, seed, n))
    monkeypatch.setattr(envs_cards, "_first_of_a_process", lambda tick, number: {game.name: 1.0 for game in GAMES})
    monkeypatch.setattr(envs_cards, "GAMES", GAMES[:1])
    measure_cards(Findings(), QUICK, RunProgress())
    assert len(set(walked + played)) == len(walked + played) == 4, "two rounds, no seed twice"


def test_ratios_name_the_reconstruction_and_blackjack_claims_no_bound(monkeypatch):
    monkeypatch.setattr(envs_cards, "_first_of_a_process", lambda tick, number: {game.name: 1.0 for game in GAMES})
    findings = Findings()
    measure_cards(findings, QUICK, RunProgress())
    assert {ratio.of for ratio in findings.ratios} == {"rebuilt / ours", "ours / rebuilt"}
    assert any(
        "original was not run here" in note and "Blackjack's ratios are an estimate" in note for note in findings.notes
    )
