"""The language side of environments: what prompt, picture, expert and parsing cost per step."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import envs
from cluster.bench.envs_cards import GAMES
from cluster.bench.envs_play import ASKED, NOISE, play_expert
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.bench.timing import column, interleave
from cluster.record.progress import RunProgress

PART = "adapters, per step"


def measure_adapters(findings: Findings, settings: BenchSettings, progress: RunProgress) -> None:
    """Add rows of the four card games, in turn."""
    findings.note(
        f"adapters: the task's expert plays, with {NOISE:.0%} random actions. 'picture alone' is the observation "
        "itself for the card games and nothing for text: its time there is that of measuring. The expert of Points24 "
        "searches where he has not been before and remembers, so his time is that of a mixture of both."
    )
    repeats, steps = (1, 20) if settings.quick else (7, 1000)
    contenders = {game.name: _player(game.env_id, steps) for game in GAMES}
    with progress.phase(PART, total=repeats + 1) as phase:
        measured = interleave(contenders, repeats, phase.update)
    for name, found in measured.items():
        add_rows(findings, name, found)


def add_rows(findings: Findings, case: str, found: list[Mapping[str, float]]) -> None:
    """Add what `play_expert` returned in each repeat."""
    for what in ASKED:
        findings.row(PART, case, what, "us", column(found, what))


def _player(env_id: str, steps: int) -> Callable[[int], Mapping[str, float]]:
    env, adapter = envs.make(env_id)
    return lambda number: play_expert(env, adapter, number, steps)
