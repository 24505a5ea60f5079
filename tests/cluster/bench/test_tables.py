"""Tables tell medians, spreads, ratios, goals and notes, and fit a terminal."""

import io

import pytest
from rich.console import Console

from cluster.bench.tables import markdown, number, print_result, sections
from tests.cluster.bench.findings import some_result


def printed(quick: bool = False) -> list[str]:
    out = io.StringIO()
    print_result(some_result(quick), Console(file=out, width=80, highlight=False))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_terminal_shows_everything_within_80_columns():
    lines = printed()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "cards: What cards cost"
    assert lines[1].startswith("Some CPU, 2 cores, 1.5 GiB, load 0.5 at the start, Python")
    text = "\n".join(" ".join(line.split()) for line in lines)
    for told in (
        "Game reset ours 0.0200 ms 0.0100..0.0300",
        "\ntheirs 3.00 ms 2.00..3.00",
        "Game play ours 1,500 steps/s one sample >= 2,000 MISSED",
        "Game reset theirs / ours 100 x 100..300 >= 20 met",
        "load [new] 123k MiB one sample",
        "Game reset 45.0 ms elsewhere",
        "- A note with [brackets].",
    ):
        assert told in text


def test_a_quick_run_says_so():
    assert not [line for line in printed() if "no weight" in line]
    assert len([line for line in printed(quick=True) if "no weight" in line]) == 1


def test_a_column_of_goals_only_where_there_are_goals():
    goals = {section.title: section.headings[-1] == "goal" for section in sections(some_result())}
    assert goals == {
        "cards": True,
        "cards: ratios of neighbouring repeats": True,
        "text": False,
        "numbers from elsewhere, for orientation": False,
    }
    assert all(len(line) == len(section.headings) for section in sections(some_result()) for line in section.cells)


def test_markdown_puts_variants_and_their_ratio_on_one_line():
    lines = markdown(some_result()).splitlines()
    assert lines[0].startswith("`croupier bench cards`, 2024-01-02; Some CPU")
    assert "| Game reset | ours 0.0200 ms, theirs 3.00 ms | theirs / ours 100 x (100..300) (>= 20 met) |" in lines
    assert "| Game play | ours 1,500 steps/s (>= 2,000 MISSED) |  |" in lines
    assert lines[-1] == "- For orientation only: Game reset 45.0 ms (elsewhere)."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (0.01234, "0.0123"),
        (0.1234, "0.123"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (12345.6, "12.3k"),
        (123456.0, "123k"),
    ],
)
def test_numbers_have_three_digits_or_so_and_no_exponent(value, text):
    assert number(value) == text
