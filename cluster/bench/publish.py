"""Benchmark `publish`: from the optimizer's last step to the last server's acknowledgement, and what it does to tokens.

Real adapters of a tiny model go to real engines; adapters of the size that large models have go to stub engines, which
read the file and compute nothing. The times are wall clock.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import psutil

from actors.config import ServerConfig
from cluster.bench.local_ray import local_ray
from cluster.bench.publish_actors import STUB, TRANSFORMERS, VLLM, BenchLearner, StubLearner
from cluster.bench.publish_gap import measure_gap
from cluster.bench.publish_round import (
    Crew,
    Parts,
    Published,
    ray_actors,
    spawn_learner,
    spawn_servers,
    wait_started,
)
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.bench.timing import interleave
from cluster.config.env import EnvConfig
from cluster.record.progress import RunProgress
from cluster.stages.model import corpus_of, make_canaries
from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import TinyVLMConfig
from learner.tiny.corpus import TinyCorpus
from protocol.adapter import CanaryPrompt

REAL, STUBS = "real engines", "stub engines"
WHOLE = "step done to all acknowledged"

STUB_SERVERS, STUB_SIZES_MB, STUB_REPEATS = (1, 2, 4, 8), (10, 100, 650), 3
REAL_SERVERS = (1, 2)

_ENV = EnvConfig(id="gym_cards/NumberLine-v0")
_LIMITS: dict[str, Any] = {
    "max_model_len": 1024,
    "max_num_seqs": 8,
    "adapter_slots": 3,
    "kv_cache_bytes": 64 << 20,
    "draft_tokens": 0,  # a step of the engine is one token, and gaps between tokens are gaps between steps
}
_SPARE = 0.7
"""Share of free memory that a case may take."""


def measure(settings: BenchSettings, progress: RunProgress) -> Findings:
    """Measure real engines, and in a full run stub engines and the gaps between tokens."""
    findings, versions = Findings(), itertools.count()
    repeats = 1 if settings.quick else 5
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="croupier-publish-"))
        stack.enter_context(local_ray(progress))
        with progress.phase("build a tiny model"):
            model = str(Path(folder) / "model")
            build_tiny_vlm(TinyVLMConfig(), TinyCorpus(*corpus_of(_ENV, 0)), 0, model)
            canaries = make_canaries(_ENV, model, 0)
        counts = REAL_SERVERS[:1] if settings.quick else REAL_SERVERS
        _measure_real(findings, TRANSFORMERS, model, canaries, counts, repeats, versions, progress)
        if not settings.quick:
            _measure_real(findings, VLLM, model, canaries, (1,), repeats, versions, progress)
            _measure_stubs(findings, model, versions, progress)
    _explain(findings, len(canaries), settings)
    return findings


def _measure_real(
    findings: Findings,
    engine: str,
    model: str,
    canaries: Sequence[CanaryPrompt],
    counts: Sequence[int],
    repeats: int,
    versions: Iterator[int],
    progress: RunProgress,
) -> None:
    """Publish to servers with a real engine; with vLLM also look at its tokens meanwhile."""
    config = ServerConfig(kind="vllm" if engine == VLLM else "transformers", **_LIMITS)
    learner, servers = spawn_learner(BenchLearner), spawn_servers(model, config, engine, max(counts))
    with ray_actors([learner, *servers]):
        with progress.phase(f"start {engine}") as phase:
            _, version, *_ = wait_started([learner.start.remote(model, canaries), *(s.start.remote() for s in servers)])
            phase.summarize(version)
        crews = {count: Crew(learner, servers[:count], versions) for count in counts}
        with progress.phase(f"publish to {version}", total=repeats + 1) as phase:
            found = publish_in_turn(crews, Crew.retire_older, repeats, phase.update)
        _add(findings, REAL, version, found)
        if engine == VLLM:
            measure_gap(findings, crews[1], servers[0], version, canaries[0], progress)


def _measure_stubs(findings: Findings, model: str, versions: Iterator[int], progress: RunProgress) -> None:
    """Publish adapters of all sizes to all numbers of stub engines, as far as memory goes."""
    config = ServerConfig(**_LIMITS).model_copy(update={"adapter_slots": 2 * len(STUB_SERVERS)})
    learner, servers = spawn_learner(StubLearner), spawn_servers(model, config, STUB, max(STUB_SERVERS))
    with ray_actors([learner, *servers]):
        with progress.phase(f"start {len(servers)} {STUBS}"):
            wait_started([server.start.remote() for server in servers])
        for megabytes in STUB_SIZES_MB:
            nbytes = megabytes * 10**6
            if not fits(nbytes):
                findings.note(f"{STUBS}: this machine's free memory was not enough for {megabytes} MB.")
                continue
            wait_started([learner.start.remote(nbytes)])
            crews = {count: Crew(learner, servers[:count], versions) for count in STUB_SERVERS}
            with progress.phase(f"publish {megabytes} MB to {STUBS}", total=STUB_REPEATS + 1) as phase:
                found = publish_in_turn(crews, Crew.vacate, STUB_REPEATS, phase.update)
            _add(findings, STUBS, f"{megabytes} MB", found)


def fits(nbytes: int) -> bool:
    """Whether memory is left for an adapter of that size.

    The learner holds tensors and bytes; the object store two packages; the servers, all of one machine, one set of
    files. The last two lie in /dev/shm.
    """
    shared = 3 * nbytes
    return (
        shared + 2 * nbytes <= _SPARE * psutil.virtual_memory().available
        and shared <= _SPARE * psutil.disk_usage("/dev/shm").free
    )


def publish_in_turn(
    crews: Mapping[int, Crew], clean_up: Callable[[Crew], None], repeats: int, tick: Callable[[int], None]
) -> dict[int, list[Published]]:
    """Let every crew publish, one after the other, again and again; the first round does not count.

    Args:
        crews: by their number of servers.
        clean_up: what a crew does after a publish, off the clock.
        repeats: rounds that count.
        tick: told how many rounds are done.
    """

    def publish(crew: Crew) -> Published:
        published = crew.publish()
        clean_up(crew)
        return published

    contenders = {str(count): lambda _, crew=crew: publish(crew) for count, crew in crews.items()}
    return {int(count): found for count, found in interleave(contenders, repeats, tick).items()}


def _case(what: str, servers: int) -> str:
    return f"{what}, {servers} server{'s' if servers > 1 else ''}"


def _add(findings: Findings, part: str, what: str, found: Mapping[int, Sequence[Published]]) -> None:
    """Rows of every number of servers, and how much longer the most take than one."""
    for count, published in found.items():
        case = _case(what, count)
        findings.row(part, case, "adapter", "MB", [one.weights_bytes / 1e6 for one in published[:1]])
        findings.row(part, case, WHOLE, "ms", [1e3 * one.parts.total for one in published])
        for field in fields(Parts):
            samples = [1e3 * getattr(one.parts, field.name) for one in published]
            findings.row(part, case, field.name.replace("_", " "), "ms", samples)
    fewest, most = min(found), max(found)
    if fewest < most:
        above, below = ([one.parts.total for one in found[count]] for count in (most, fewest))
        findings.ratio(part, _case(what, most), f"{most} / {fewest} servers", above, below)


def _explain(findings: Findings, canaries: int, settings: BenchSettings) -> None:
    findings.note(
        "All processes share this machine: learner, servers and their engines wait for its cores, and all servers "
        "share one set of files, as those of one node do. The parts are those of the server that spoke last, and add "
        "up."
    )
    findings.note(
        f"'export' makes bytes of the tensors, their digest, and with real engines the learner's scores of "
        f"{canaries} canaries; 'object store' is the way from there into the server's hands, one copy for all servers; "
        "'check' is the server's own look at configuration and names; 'write' is the digest and the files in tmpfs, "
        "both by the server that comes first, while the others wait; 'canaries' are scored with the adapter and "
        "without; 'rest' is messages and waiting for a turn."
    )
    if settings.quick:
        return
    findings.note(
        "Stub engines: bfloat16 tensors under the names of a 7B model's adapter, exported as the learner does but "
        "without canaries to score; 'load' reads the file once and computes nothing, 'canaries' are free. A real "
        "engine also copies the tensors into its slot."
    )
