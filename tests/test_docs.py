"""What the documentation quotes is what there is."""

import json
import re
from collections import Counter
from dataclasses import fields
from itertools import combinations_with_replacement, permutations
from operator import add, mul, sub, truediv
from pathlib import Path

import numpy as np
import pytest

import envs
from actors.parsing import parse_action
from cluster.config import load_config
from docs.examples.searching import SEARCHING, search
from docs.examples.stale_prompt import STALE, success_of_believer
from envs import PromptSwitches, TaskAdapter
from envs.check import check_env
from envs.gym_cards.formula import evaluate, written
from envs.gym_cards.solver import solution
from envs.switches import EVERY_TASK
from protocol.schema import STEP_SCHEMA
from protocol.trajectory import ParseStatus

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLE = "docs.examples.dots:DotEnv"


def quoted(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table that begins with `heading`, below its first line."""
    lines = (DOCS / page).read_text("utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {heading} |")) + 2
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def test_the_example_is_quoted_in_full_and_short():
    source = (DOCS / "examples/dots.py").read_text("utf-8")
    assert quoted("your_own_environment.md", "python")[0] == source
    assert len(source.splitlines()) <= 50
    assert f"in {len(source.splitlines())} lines" in (DOCS / "your_own_environment.md").read_text("utf-8")


def test_the_report_of_the_kit_is_quoted():
    shown = quoted("your_own_environment.md", "text")[0].splitlines()
    told = str(check_env(EXAMPLE)).splitlines()
    speed = next(index for index, line in enumerate(told) if line.startswith("  ok    speed "))
    assert shown[speed].startswith("  ok    speed ")
    assert shown[:speed] + shown[speed + 1 :] == told[:speed] + told[speed + 1 :]


def test_the_quoted_complaint_is_the_kits(monkeypatch):
    _, task = envs.make(EXAMPLE)
    leaking = "The dot is {side}. Press left or right."
    monkeypatch.setattr(type(task), "prompt", lambda self, observation, info: leaking.format(**info))
    assert quoted("your_own_environment.md", "text")[1] in str(check_env(EXAMPLE))


def test_the_mixture_is_quoted_in_full_and_loads():
    path = DOCS / "examples/mixture.yaml"
    assert quoted("environments.md", "yaml") == [path.read_text("utf-8")]
    assert load_config(path).env.label == "dots+lines"


def test_every_switch_stands_in_the_table_with_its_default():
    defaults = {True: "`true`", False: "`false`", None: "`null`"}
    told = {name.strip("`"): default for name, default, *_ in rows("environments.md", "`env.prompt.`")}
    assert told == {field.name: defaults[field.default] for field in fields(PromptSwitches)}


GAMES = ("NumberLine", "EZPoints", "Blackjack", "Points24")


def test_the_table_says_who_honours_which_switch():
    for name, _, _, who in rows("environments.md", "`env.prompt.`"):
        switch = name.strip("`")
        honour = {game for game in GAMES if switch in envs.make(f"gym_cards/{game}-v0")[1].switchable}
        if switch in EVERY_TASK:
            assert who == "every task"
        else:
            assert honour == ({game for game in GAMES if game in who} or set(GAMES)), switch
            assert "all games" in who or honour != set(GAMES)


def test_the_table_of_readings_is_the_parsers():
    names = (*map(str, range(1, 11)), "+", "stand", "go to cabinet 1", "go to cabinet 10")
    for cell, _, here in rows("environments.md", "text"):
        text = re.findall(r"`(.*?)`", cell)[0]
        parsed = parse_action("{" + text + "}", names, names)
        assert (parsed.name if parsed.status is ParseStatus.OK else "none") == here, text


def test_every_reason_of_the_parser_is_named():
    page = (DOCS / "environments.md").read_text("utf-8")
    assert all(f"`{status.value}`" in page for status in ParseStatus if status is not ParseStatus.OK)


def test_the_columns_that_are_explained_exist():
    cells = [cell for cell, _ in rows("environments.md", "column")]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} < set(STEP_SCHEMA.names)


def test_every_method_of_an_adapter_is_explained():
    explained = {
        name
        for cell, *_ in rows("your_own_environment.md", "method or attribute")
        for name in re.findall(r"`(\w+)", cell)
    }
    assert all(hasattr(TaskAdapter, name) or name in TaskAdapter.__annotations__ for name in explained)
    helpers = {"query", "picture", "component", "kept", "noisy", "switches"}
    public = {name for name in vars(TaskAdapter) | TaskAdapter.__annotations__ if not name.startswith("_")}
    assert public - helpers == explained


@pytest.mark.parametrize("page", ["environments.md", "placement.md", "stages.md", "your_own_environment.md"])
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", (DOCS / page).read_text("utf-8"))
    assert links and all((DOCS / link).exists() for link in links if "://" not in link)


@pytest.mark.parametrize("snippet", quoted("placement.md", "yaml"), ids=["apart", "shares", "turns"])
def test_every_placement_loads(snippet, tmp_path):
    path = tmp_path / "placement.yaml"
    path.write_text(snippet, "utf-8")
    assert load_config(path).learner.gpus > 0


def test_stale_prompts_halve_the_success_of_a_player_that_believes_them():
    assert success_of_believer("gym_cards/EZPoints-v0", episodes=100) == 1.0
    assert success_of_believer(STALE, episodes=100) == 0.5


def makes_24(left: Counter[int]) -> bool:
    """Whether whole numbers that are not negative lead to 24, tried out in the plainest way."""
    numbers = list(left.elements())
    if len(numbers) == 1:
        return numbers == [24]
    for one, other in permutations(numbers, 2):
        rest = left - Counter([one]) - Counter([other])
        results = [one + other, one * other, *([one - other] if one >= other else [])]
        results += [one // other] if other and one % other == 0 else []
        if any(makes_24(rest + Counter([result])) for result in results):
            return True
    return False


def test_every_sum_and_every_verdict_of_a_searching_demonstration_is_right():
    env, task = envs.make(SEARCHING)
    words: Counter[str] = Counter()
    for seed in range(60):
        _, info = env.reset(seed=seed)
        answer = json.loads(task.expert(info, np.random.default_rng(seed)))
        hand, _, told = answer["thoughts"].partition(": ")
        told, _, formula = told.partition(": ")
        cards = left = Counter(map(int, hand.split()))
        assert cards == Counter(info["Numbers"])
        for part in told.split("; "):
            if part == "none":
                words["none"] += 1
                assert answer["action"] == "="
                break
            step, *rest = part.split(" ")
            verdict = rest.pop() if rest[-1] in ("no", "yes") else "done"
            one, symbol, other = re.fullmatch(r"(\d+)([-+*/])(\d+)", step).groups()  # type: ignore[union-attr]
            value = {"+": add, "-": sub, "*": mul, "/": truediv}[symbol](int(one), int(other))
            now = left - Counter([int(one)]) - Counter([int(other)]) + Counter([int(value)])
            assert value == int(value) and Counter(map(int, rest)) == now, part
            assert makes_24(now) == (verdict != "no"), part
            left = left if verdict == "no" else now
            words[verdict] += 1
        if formula:
            assert left == Counter([24]) and formula.startswith(answer["action"])
            tokens = [int(token) if token.isdigit() else token for token in re.findall(r"\d+|\D", formula)]
            assert evaluate(tokens, "strict") == 24 and Counter(t for t in tokens if isinstance(t, int)) == cards
    assert words["yes"] > 30 and words["no"] > 100 and words["none"] > 5


def test_a_search_goes_on_from_the_formula_and_differs_from_showing_to_showing():
    env, task = envs.make(SEARCHING)
    _, info = env.reset(seed=0)
    rng = np.random.default_rng(0)
    told, whole = search(info["Numbers"], (), rng)
    assert whole is not None
    for begun in range(len(whole)):
        answers = [json.loads(task.expert({**info, "Formula": whole[:begun]}, rng)) for _ in range(8)]
        assert all(answer["thoughts"].rsplit(": ")[-1].startswith(written(whole[:begun])) for answer in answers)
        assert len({answer["thoughts"] for answer in answers}) > 1
    assert answers[0]["action"] == str(whole[-1])
    nowhere = json.loads(task.expert({**info, "Formula": (" ", 4, "+")}, rng))
    assert "yes" not in nowhere["thoughts"] and ": 4+" in nowhere["thoughts"], "a plan around a blank is stated at once"


def test_a_search_finds_what_whole_numbers_can_do():
    hands = [hand for hand in combinations_with_replacement(range(1, 11), 4) if solution(hand)]
    found = [search(hand, (), np.random.default_rng(0))[1] for hand in hands]
    assert len(hands) == 565 and found.count(None) == 9
    assert all(evaluate(formula, "strict") == 24 for formula in found if formula is not None)
