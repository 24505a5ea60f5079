"""The longest gap between two tokens of a response while an adapter is published, and without."""

from __future__ import annotations

import statistics
import time
from typing import Any

from cluster.bench.publish_round import DEADLINE_S, Crew
from cluster.bench.publish_stream import Span
from cluster.bench.result import Findings
from cluster.record.progress import RunProgress
from cluster.runtime.waiting import get
from protocol.adapter import CanaryPrompt

PART = "longest gap between tokens"
SERVING, EXPORTING, WITHOUT = "while the server publishes", "while the learner exports", "without a publish"

STREAMS, MAX_TOKENS, REPEATS = 4, 256, 12
_SETTLE_S = 0.3
"""Left alone on both sides of the span without a publish."""


def measure_gap(
    findings: Findings, crew: Crew, server: Any, engine: str, prompt: CanaryPrompt, progress: RunProgress
) -> None:
    """Publish while responses are drawn.

    Args:
        findings: to add to.
        crew: the learner and the one server.
        server: that server, which has a version in service.
        engine: as in the tables.
        prompt: what to respond to.
        progress: what the user sees.
    """
    longest: dict[str, list[float]] = {SERVING: [], EXPORTING: [], WITHOUT: []}
    ordinary: list[float] = []
    get(server.talk.remote(prompt, STREAMS, MAX_TOKENS), "responses to begin", DEADLINE_S)
    with progress.phase(f"{engine}: {PART}", total=REPEATS + 1) as phase:
        for number in range(REPEATS + 1):
            time.sleep(_SETTLE_S)
            published = crew.publish()
            time.sleep(_SETTLE_S)
            began_s = time.monotonic()
            time.sleep(published.serving.length_s)
            spans = {
                SERVING: published.serving,
                EXPORTING: published.exporting,
                WITHOUT: Span(began_s, time.monotonic()),
            }
            time.sleep(_SETTLE_S)
            gaps = get(server.gaps.remote(list(spans.values())), "times of tokens", DEADLINE_S)
            if number:  # the first time does not count
                for (what, span), found in zip(spans.items(), gaps, strict=True):
                    longest[what].append(max(found, default=span.length_s))
                ordinary += gaps[-1]
            crew.retire_older()
            phase.update(number + 1)
    for what, samples in longest.items():
        findings.row(PART, engine, what, "ms", [1e3 * s for s in samples])
    findings.row(PART, engine, "median gap without a publish", "ms", [1e3 * statistics.median(ordinary)])
    findings.ratio(PART, engine, f"{SERVING} / {WITHOUT}", longest[SERVING], longest[WITHOUT])
    findings.note(
        f"{PART}: {STREAMS} responses of up to {MAX_TOKENS} tokens are drawn side by side, one after the other without "
        "end, streamed by vLLM one token at a time; the clock is read where the server's process receives a token, so "
        "one engine step is the resolution. Gaps are between neighbouring tokens of one response; one that reaches "
        "into a span counts whole. The span without a publish is as long as the server's part was and follows it."
    )
