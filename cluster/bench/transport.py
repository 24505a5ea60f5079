"""Benchmark `transport`: rows from a worker to the learner through the object store, by reference.

Ours are Arrow batches; beside them the same rows as pickled Python objects, and a plain copy of as many bytes. The
times are wall clock, taken inside the two processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from cluster.bench.local_ray import local_ray
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.bench.timing import interleave
from cluster.bench.transport_actors import Arrival, Receiver, Sender
from cluster.bench.transport_rows import (
    ARRAYS,
    CARDS,
    EPISODE_STEPS,
    FORMS,
    FRAMES,
    OURS,
    PICTURES,
    PNG,
    PROMPT_TOKENS,
    RESPONSE_TOKENS,
    ROOMS,
    Case,
)
from cluster.record.progress import RunProgress
from cluster.runtime.processes import end_actor
from cluster.runtime.waiting import get

COLUMN, ROWS, STEPS = "frame column", "rows", "a batch's way, step by step"
MEMCPY, COPIED = "memcpy", "Arrow, every frame copied out"

GOAL_OF_MEMCPY, GOAL_OVER_OBJECTS = 0.5, 20.0

_DEADLINE_S = 180.0


@dataclass(frozen=True, slots=True)
class Journey:
    """One object from end to end."""

    put_s: float
    arrival: Arrival

    @property
    def total_s(self) -> float:
        """Put, get and decode; not what Ray takes to carry the reference."""
        return self.put_s + self.arrival.get_s + self.arrival.decode_s


@dataclass(frozen=True, slots=True)
class Ends:
    """The two processes."""

    sender: Any
    receiver: Any

    def prepare(self, case: Case) -> tuple[int, int]:
        """See `Sender.prepare`."""
        return get(self.sender.prepare.remote(case), f"the rows of {case.name} to be made", _DEADLINE_S)

    def send(self, form: str, copy_frames: bool = False) -> Journey:
        """Send the rows in a form."""
        put_s, references = get(self.sender.put.remote(form), f"{form} to be put", _DEADLINE_S)
        arrival = get(self.receiver.take.remote(references, copy_frames), f"{form} to arrive", _DEADLINE_S)
        return Journey(put_s, arrival)

    def return_s(self, form: str) -> float:
        """Seconds from the worker's return statement to the rows in the learner, with all that Ray does between."""
        began, rows = self.sender.hand_over.options(num_returns=2).remote(form)
        arrival = get(self.receiver.take.remote([rows]), f"{form} to arrive", _DEADLINE_S)
        return arrival.ended_s - get(began, "the sender's clock", _DEADLINE_S)

    def copy_s(self, nbytes: int) -> float:
        """See `Sender.copy_s`."""
        return get(self.sender.copy_s.remote(nbytes), f"{nbytes} bytes to be copied", _DEADLINE_S)

    def encode_s(self) -> float:
        """See `Sender.encode_s`."""
        return get(self.sender.encode_s.remote(), "rows to be encoded", _DEADLINE_S)


def measure(settings: BenchSettings, progress: RunProgress) -> Findings:
    """Measure both kinds of pictures in all forms."""
    findings = Findings()
    repeats, rows = (1, 32) if settings.quick else (15, 512)
    with ExitStack() as stack:
        stack.enter_context(local_ray(progress))
        ends = stack.enter_context(_ends())
        for case in (Case(CARDS, rows), Case(ROOMS, rows)):
            with progress.phase(case.name, total=repeats + 1) as phase:
                measure_case(findings, case, ends, repeats, phase.update)
    _explain(findings)
    return findings


def measure_case(findings: Findings, case: Case, ends: Ends, repeats: int, tick: Callable[[int], None]) -> None:
    """Add what one case takes."""
    nbytes, frame_bytes = ends.prepare(case)
    first = ends.send(OURS)
    contenders: dict[str, Callable[[int], Any]] = {form: lambda _, form=form: ends.send(form) for form in FORMS}
    contenders |= {
        FRAMES: lambda _: ends.send(FRAMES),
        COPIED: lambda _: ends.send(FRAMES, copy_frames=True),
        MEMCPY: lambda _: ends.copy_s(frame_bytes),
        STEPS: lambda _: (ends.encode_s(), ends.return_s(OURS)),
    }
    found = interleave(contenders, repeats, tick)
    if case.pictures == ROOMS:
        _add_column(findings, case, frame_bytes, found)
    _add_rows(findings, case, nbytes, found)
    _add_steps(findings, case, found, first)
    findings.note(
        f"{case.name}: {nbytes / 1e6:.3g} MB as an Arrow batch, {frame_bytes / 1e6:.3g} MB of it frames, each "
        "distinct one once."
    )


@contextmanager
def _ends() -> Iterator[Ends]:
    actors = [ray.remote(Sender).options(num_cpus=0).remote(), ray.remote(Receiver).options(num_cpus=0).remote()]
    try:
        yield Ends(*actors)
    finally:
        for actor in actors:
            end_actor(actor)


def _add_column(findings: Findings, case: Case, frame_bytes: int, found: dict[str, list[Any]]) -> None:
    """Speeds of a frame column of some size; a small one costs no more than any call."""
    name = f"{case.name}, {frame_bytes / 1e6:.3g} MB"
    seconds = {
        MEMCPY: found[MEMCPY],
        OURS: [journey.total_s for journey in found[FRAMES]],
        COPIED: [journey.total_s + journey.arrival.copy_s for journey in found[COPIED]],
    }
    for who, took in seconds.items():
        findings.row(COLUMN, name, who, "GB/s", [frame_bytes / s / 1e9 for s in took])
    findings.ratio(COLUMN, name, f"{OURS} / {MEMCPY}", seconds[MEMCPY], seconds[OURS], GOAL_OF_MEMCPY)
    findings.ratio(COLUMN, name, f"{COPIED} / {MEMCPY}", seconds[MEMCPY], seconds[COPIED])


def _add_rows(findings: Findings, case: Case, nbytes: int, found: dict[str, list[Any]]) -> None:
    seconds = {form: [journey.total_s for journey in found[form]] for form in FORMS}
    for form in FORMS:
        findings.row(ROWS, case.name, form, "rows/s", [case.rows / s for s in seconds[form]])
    findings.row(ROWS, case.name, OURS, "GB/s", [nbytes / s / 1e9 for s in seconds[OURS]])
    for form, goal in ((PNG, GOAL_OVER_OBJECTS), (PICTURES, GOAL_OVER_OBJECTS), (ARRAYS, None)):
        findings.ratio(ROWS, case.name, f"{OURS} / {form}", seconds[form], seconds[OURS], goal)


def _add_steps(findings: Findings, case: Case, found: dict[str, list[Any]], first: Journey) -> None:
    ours: Sequence[Journey] = found[OURS]
    for what, samples in (
        ("encode", [encode_s for encode_s, _ in found[STEPS]]),
        ("put", [journey.put_s for journey in ours]),
        ("put, first of all", [first.put_s]),
        ("get", [journey.arrival.get_s for journey in ours]),
        ("decode", [journey.arrival.decode_s for journey in ours]),
        ("return statement to rows in the learner", [return_s for _, return_s in found[STEPS]]),
    ):
        findings.row(STEPS, case.name, what, "ms", [1e3 * s for s in samples])


def _explain(findings: Findings) -> None:
    findings.note(
        "Wall clock of put, get and decode inside the two processes, one after the other; a reference travels between "
        "them at the same price for all. 'return statement to rows in the learner' is the way that workers go, with "
        "all of Ray's work between."
    )
    findings.note(
        f"Rows: {PROMPT_TOKENS} prompt and {RESPONSE_TOKENS} response tokens, episodes of {EPISODE_STEPS} steps, "
        "one 300x300 picture. 'cards' shows Points24's states, 'rooms' soft colours with grain that are as large as "
        "pictures of rendered rooms."
    )
    findings.note(
        f"Arrow rows end as the learner's table of rows (`learner.rows.gather_rows`): token lists are views, and "
        f"frames stay where they are until one is decoded. '{COPIED}' also copies each of them to a Python object."
    )
    findings.note(
        "Objects are lists of plain dataclasses with what the learner reads of a step, each with its own picture: PNG "
        "bytes, PIL images, or numpy arrays of pixels (then token lists are arrays as well). Nothing is done with them "
        "on arrival, nor is the time counted in which a worker makes them. Pixels need no decoding afterwards, PNG "
        "does: of Arrow rows once per distinct frame, of objects once per row."
    )
    findings.note(
        f"'{MEMCPY}' is numpy's copy on one thread between two arrays that were written before, the best of three; Ray "
        "copies large objects with several threads. 'put, first of all' meets memory of the object store that nobody "
        "has touched."
    )
