"""The table of updates fits a terminal, and comes out whole where there is none."""

import io
import math

import pytest
from rich.console import Console

from cluster.record.progress import COLUMNS, RunProgress, flow_note

TYPICAL = {
    "rollout/success_rate": 0.94170,
    "rollout/mean_return": -12.5,
    "rollout/invalid_rate": 1.0,
    "learner/approx_kl": 0.17902,
    "learner/staleness_max": 12.0,
    "speed/sampled_tokens_per_s": 123456.0,
    "speed/env_steps_per_s": 4321.0,
    "idle/engines": 1.0,
    "idle/workers": 0.004,
    "idle/learner": 0.456,
}


def printed(terminal: bool = False) -> tuple[RunProgress, io.StringIO]:
    out = io.StringIO()
    return RunProgress(Console(file=out, force_terminal=terminal, width=80, highlight=False)), out


def test_the_columns_are_those_that_are_measured():
    assert {key for key, _ in COLUMNS.values()} == set(TYPICAL)


def test_rows_fit_80_columns_and_stand_under_their_headings():
    progress, out = printed()
    progress.row(1, 20, {})
    progress.row(19999, 20000, TYPICAL)
    header, empty, full = out.getvalue().splitlines()
    assert max(map(len, (header, empty, full))) <= 80
    assert len(header) == len(empty), "right-aligned columns end together"
    assert full.split() == [
        "19999/20000",
        "94.2%",
        "-12.50",
        "100.0%",
        "0.179",
        "12",
        "123456",
        "4321",
        "100%",
        "0%",
        "46%",
    ]
    assert empty.split() == ["1/20", *["-"] * len(COLUMNS)]


@pytest.mark.parametrize("value", [math.nan, None])
def test_what_was_not_measured_is_a_dash(value):
    progress, out = printed()
    progress.row(1, 1, {} if value is None else {key: value for key in TYPICAL})
    assert out.getvalue().splitlines()[1].split() == ["1/1", *["-"] * len(COLUMNS)]


def test_the_heading_is_printed_once():
    progress, out = printed()
    for update in (1, 2, 3):
        progress.row(update, 3, TYPICAL)
    assert len(out.getvalue().splitlines()) == 4


def test_without_a_terminal_a_phase_leaves_one_line_and_no_control_codes():
    progress, out = printed()
    with progress.phase("learn [fast]", total=10) as phase:
        phase.update(5, "loss [1]")
        progress.row(1, 20, TYPICAL)
        phase.summarize("loss 2.00 -> 0.100")
    lines = out.getvalue().splitlines()
    assert len(lines) == 3 and "\x1b" not in out.getvalue()
    assert lines[2].startswith("done learn [fast] (") and lines[2].endswith(" s, loss 2.00 -> 0.100)")


def test_on_a_terminal_a_phase_is_drawn_live():
    progress, out = printed(terminal=True)
    with progress.phase("learn", total=10) as phase:
        phase.update(5, "loss 1")
    assert "5/10" in out.getvalue() and "\x1b" in out.getvalue()


def test_a_phase_that_fails_is_not_called_done():
    progress, out = printed()
    with pytest.raises(RuntimeError), progress.phase("learn"):
        raise RuntimeError
    assert "done" not in out.getvalue()


def test_long_paths_stay_on_one_line_and_brackets_are_kept():
    progress, out = printed()
    path = "/runs/[a]/" + "x" * 200
    progress.say(f"Run directory: {path}")
    assert out.getvalue() == f"Run directory: {path}\n"


def test_the_live_line_tells_who_waited_and_how_old_the_rows_were():
    ages = {"learner/staleness_1": 0.68, "learner/staleness_0": 0.32, "learner/staleness_max": 1.0}
    assert flow_note({}) == ""
    assert flow_note({"idle/engines": math.nan, "idle/learner": 0.456}) == "learner 46% idle"
    assert flow_note({"idle/engines": 0.1, **ages, "time/publish_s": 0.345}) == (
        "engines 10% idle, stale 0:32% 1:68%, publish 0.34 s"
    )


def test_the_live_line_names_what_engines_waited_for_most():
    causes = {"idle/engines/learner": 0.2, "idle/engines/transport": 0.05, "idle/engines/other": 0.0}
    assert flow_note({"idle/engines": 0.25, **causes, "idle/learner": 0.5}) == (
        "engines 25% idle (learner), learner 50% idle"
    )
    assert flow_note({"idle/engines": 0.04, **causes}) == "engines 4% idle", "too little to ask why"
