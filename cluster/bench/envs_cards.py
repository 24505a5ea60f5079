"""The card games: reset, step and random play, beside a reconstruction of the original's drawing work."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import envs
from cluster.bench.envs_play import Trace, first_resets, play, timed_walk
from cluster.bench.fresh_process import FreshProcess
from cluster.bench.original_art import write_art
from cluster.bench.original_cards import (
    Kind,
    OriginalBlackjack,
    OriginalCards,
    OriginalEZPoints,
    OriginalNumberLine,
    OriginalPoints24,
)
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.bench.timing import Stopwatch, column, interleave
from cluster.record.progress import RunProgress

PART = "gym_cards"
OURS, ORIGINAL, COLD = "ours", "rebuilt", "ours, cold"

GOAL_STEPS_PER_S, GOAL_RESET_RATIO = 2000.0, 20.0

_ELSEWHERE = "original code, another machine"
_PUBLISHED = {
    "EZPoints reset": 45.0,
    "Points24 reset": 100.0,
    "Blackjack reset": 39.0,
    "Blackjack step": 27.0,
    "step of the other three, least": 1.5,
    "step of the other three, most": 2.0,
}
"""Milliseconds that the original was measured to take, elsewhere."""

_FIRST_RESETS, _QUICK_STATES = 50, 8
_PLAY_SEEDS = 10_000
_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Game:
    """One of the games, and how many of its states a repeat draws in the original's way."""

    name: str
    original: type[OriginalCards]
    states: int

    @property
    def env_id(self) -> str:
        """The id that `envs.make` knows."""
        return f"gym_cards/{self.name}-v0"


GAMES = (
    Game("NumberLine", OriginalNumberLine, states=200),
    Game("EZPoints", OriginalEZPoints, states=60),
    Game("Points24", OriginalPoints24, states=60),
    Game("Blackjack", OriginalBlackjack, states=20),
)


def measure_cards(findings: Findings, settings: BenchSettings, progress: RunProgress) -> None:
    """Add rows and ratios of the four games."""
    repeats, steps = (1, 60) if settings.quick else (9, 3000)
    for case, value in _PUBLISHED.items():
        findings.reference(PART, case, value, "ms", _ELSEWHERE)
    findings.note(
        "gym_cards: the original was not run here. 'rebuilt' is our reconstruction of its drawing work: decoding and "
        "scaling 16-bit PNG cards, loading a font, no rules and no wrappers. Where its description leaves a choice the "
        "cheaper one was taken, except that nothing tells how many cards Blackjack decodes: two at a reset and one at "
        "a step were chosen because they fit the times published below, so Blackjack's ratios are an estimate."
    )
    findings.note(
        "gym_cards: 'ours' is the whole environment as gymnasium makes it, its caches warm, and goals are judged on "
        f"that; 'cold' is the mean of the first {_FIRST_RESETS} resets in a new process, where cards are drawn for the "
        "first time. 'play' is random play through the adapter, resets and pictures included."
    )
    processes = 1 if settings.quick else 3
    with progress.phase(f"{PART} in new processes", total=processes) as phase:
        cold = [_first_of_a_process(phase.update, number) for number in range(processes)]
    with tempfile.TemporaryDirectory(prefix="croupier-art-") as folder:
        write_art(Path(folder))
        for game in GAMES:
            with progress.phase(f"{PART} {game.name}", total=repeats + 1) as phase:
                states = min(game.states, _QUICK_STATES) if settings.quick else game.states
                contest = _Contest(game, Path(folder), steps, states)
                contest.measure(findings, repeats, column(cold, game.name), phase.update)


class _Contest:
    """Our game and the original's drawing of the very states that ours went through."""

    def __init__(self, game: Game, art: Path, steps: int, states: int) -> None:
        self._game, self._steps, self._states = game, steps, states
        self._env, self._adapter = envs.make(game.env_id)
        self._original = game.original(art)
        self._trace: Trace = []

    def measure(self, findings: Findings, repeats: int, cold: Sequence[float], tick: Callable[[int], None]) -> None:
        """Measure both in turn and add what was found."""
        measured = interleave({OURS: self._ours, ORIGINAL: self._drawn}, repeats, tick)
        ours, original = measured[OURS], measured[ORIGINAL]
        for event in ("reset", "step"):
            case, goal = f"{self._game.name} {event}", GOAL_RESET_RATIO if event == "reset" else None
            findings.row(PART, case, OURS, "ms", column(ours, event))
            if event == "reset":
                findings.row(PART, case, COLD, "ms", cold)
            findings.row(PART, case, ORIGINAL, "ms", column(original, event))
            findings.ratio(PART, case, f"{ORIGINAL} / {OURS}", column(original, event), column(ours, event), goal)
        case = f"{self._game.name} play"
        findings.row(PART, case, OURS, "steps/s", column(ours, "play"), GOAL_STEPS_PER_S)
        findings.row(PART, case, ORIGINAL, "steps/s", column(original, "play"))
        findings.ratio(PART, case, f"{OURS} / {ORIGINAL}", column(ours, "play"), column(original, "play"))
        self._env.close()

    def _ours(self, number: int) -> Mapping[str, float]:
        resets, steps, self._trace = timed_walk(self._env, self._adapter, number, self._steps)
        # Other episodes than those just walked: their pictures would be in the caches already.
        took_s = play(self._env, self._adapter, _PLAY_SEEDS + number, self._steps)
        return {"reset": 1e3 * resets.mean_s, "step": 1e3 * steps.mean_s, "play": self._steps / took_s}

    def _drawn(self, number: int) -> Mapping[str, float]:
        watches: dict[Kind, Stopwatch] = {"reset": Stopwatch(), "step": Stopwatch()}
        for kind, info in islice(self._trace, self._states):
            with watches[kind]:
                self._original.draw(kind, info)
        resets, steps = watches["reset"], watches["step"]
        play_s = resets.total_s + steps.total_s
        return {"reset": 1e3 * resets.mean_s, "step": 1e3 * steps.mean_s, "play": steps.spans / play_s}


def _first_of_a_process(tick: Callable[[int], None], number: int) -> dict[str, float]:
    with FreshProcess() as process:
        found = {game.name: process.call(_DEADLINE_S, first_resets, game.env_id, _FIRST_RESETS) for game in GAMES}
    tick(number + 1)
    return found
