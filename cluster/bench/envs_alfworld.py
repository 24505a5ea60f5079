"""ALFWorld's text games: reset and step with and without the memory of parses, memory, start-up, scan of a folder.

Everything is measured in spawned processes, see `envs_alfworld_probe`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from cluster.bench import envs_alfworld_probe as probe
from cluster.bench.envs_adapters import add_rows
from cluster.bench.fresh_process import FreshProcess
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.bench.timing import column, interleave
from cluster.record.progress import RunProgress
from envs.alfworld.cache import cache_folder
from envs.alfworld.errors import INSTALL
from envs.alfworld.game_index import forget

PART = "alfworld"
REMEMBERED, PARSED_ANEW = "with memory", "without"
_PANELS, _LARGE_PANEL = ("tiny", "small"), "full"
_DEADLINE_S, _GENERATION_S = 600.0, 1200.0
_FURTHER_ENVS = 4
_SOAK_RESETS = {"household": 1000, "official size": 200}
_SOAK_S = 7200.0


def measure_alfworld(findings: Findings, settings: BenchSettings, progress: RunProgress) -> None:
    """Add rows and ratios, or a note where the extra is not installed."""
    if find_spec("alfworld") is None or find_spec("textworld") is None:
        findings.note(f"ALFWorld was skipped. {INSTALL}.")
        return
    with ExitStack() as resources:
        panels = _find_games(settings, progress, resources)
        _measure_play(findings, settings, progress, panels)
        _measure_processes(findings, settings, progress, panels)
        if settings.soak:
            _measure_soak(findings, settings, progress)
    findings.note(
        "ALFWorld: 'without' is the same engine without the memory of parsed templates and queries (the text library "
        "as it is, but for its memory leak). 'engine' rows play the same games and commands right afterwards, without "
        "the environment, and find their texts remembered."
    )


def _find_games(settings: BenchSettings, progress: RunProgress, resources: ExitStack) -> dict[str, str]:
    """Panel to folder of games. The large panel is taken where it exists; the others are generated if need be."""
    with progress.phase(f"{PART} games"), FreshProcess() as process:
        if settings.quick:
            folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="croupier-games-"))
            games = process.call(_GENERATION_S, probe.write_small_panel, folder)
            resources.callback(forget, Path(games), cache_folder())  # no index of games that are gone
            return {"three games": games}
        has_large = process.call(_DEADLINE_S, probe.is_there, _LARGE_PANEL)
        large = (_LARGE_PANEL,) if has_large else ()
        return {name: process.call(_GENERATION_S, probe.train_folder, name) for name in (*_PANELS, *large)}


def _measure_play(
    findings: Findings, settings: BenchSettings, progress: RunProgress, panels: Mapping[str, str]
) -> None:
    """Reset and step of two processes in turn, one with and one without the memory of parses; then the adapters."""
    repeats, episodes, steps = (1, 1, 3) if settings.quick else (7, 3, 12)
    adapter_repeats, adapter_steps = (1, 3) if settings.quick else (5, 40)
    with FreshProcess() as remembering, FreshProcess(probe.without_parse_cache) as forgetful:
        contenders = {REMEMBERED: remembering, PARSED_ANEW: forgetful}
        for panel, games in panels.items():
            with progress.phase(f"{PART} {panel}", total=repeats + 1) as phase:
                plays = {
                    name: lambda number, process=process, games=games: process.call(
                        _DEADLINE_S, probe.play_games, games, number, episodes, steps
                    )
                    for name, process in contenders.items()
                }
                _add_play(findings, panel, interleave(plays, repeats, phase.update))
        panel, games = next(iter(panels.items()))
        for env_id in ("alfworld/Text-v0", probe.SCHEMATIC):
            with progress.phase(f"{PART} adapter of {env_id}", total=adapter_repeats) as phase:
                found = []
                for number in range(adapter_repeats):
                    arguments = (games, env_id, number, adapter_steps)
                    found.append(remembering.call(_DEADLINE_S, probe.play_adapter, *arguments))
                    phase.update(number + 1)
                add_rows(findings, f"{env_id.partition('/')[2].removesuffix('-v0')} ({panel})", found)


def _add_play(findings: Findings, panel: str, measured: Mapping[str, list[dict[str, float]]]) -> None:
    for event in ("reset", "step", "engine start", "engine step"):
        for name, found in measured.items():
            findings.row(PART, f"{panel} {event}", name, "ms", column(found, event))
    for event in ("reset", "step"):
        anew, remembered = (column(measured[name], event) for name in (PARSED_ANEW, REMEMBERED))
        findings.ratio(PART, f"{panel} {event}", f"{PARSED_ANEW} / {REMEMBERED}", anew, remembered)


def _measure_processes(
    findings: Findings, settings: BenchSettings, progress: RunProgress, panels: Mapping[str, str]
) -> None:
    """What a new process costs, and what it takes to find the games."""
    repeats = 1 if settings.quick else 3
    for panel, games in panels.items():
        memory, scans = [], []
        with progress.phase(f"{PART} new processes, {panel}", total=repeats) as phase:
            for number in range(repeats):
                with FreshProcess() as process:
                    memory.append(process.call(_DEADLINE_S, probe.use_memory, games, _FURTHER_ENVS))
                    scans.append(process.call(_DEADLINE_S, probe.scan_games, games))
                phase.update(number + 1)
        findings.row(PART, f"{panel} to the first observation", "new process", "s", column(memory, "first observation"))
        for stage in ("imported", "one env", "further env"):
            findings.row(PART, f"{panel} resident memory", stage, "MiB", column(memory, stage))
        count = round(scans[0]["games"])
        findings.row(PART, f"{panel} scan of {count} games", "files read", "ms", column(scans, "read"))
        findings.row(PART, f"{panel} scan of {count} games", "from the index", "ms", column(scans, "index"))
        findings.ratio(
            PART, f"{panel} scan of {count} games", "read / index", column(scans, "read"), column(scans, "index")
        )


def _measure_soak(findings: Findings, settings: BenchSettings, progress: RunProgress) -> None:
    """Memory of a process over many different games."""
    for size, full in _SOAK_RESETS.items():
        resets = 2 if settings.quick else full
        with progress.phase(f"{PART} {resets} resets, {size}"), FreshProcess() as process:
            resident = process.call(_SOAK_S, probe.soak_memory, resets, size == "official size")
        for count, mib in resident.items():
            findings.row(PART, f"{size}, resident memory", f"after {count:,} games", "MiB", [mib])
