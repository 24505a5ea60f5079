"""What the four games promise alike; the rules of each are tested beside it. "Q-n" are quirks of the original."""

import builtins
import copy
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

from envs.check import check_env as check_contract
from envs.errors import ResetOptionsError
from envs.gym_cards import cards, drawing, formula_picture, number_line
from envs.gym_cards.blackjack import Blackjack
from envs.gym_cards.ez_points import EZPoints
from envs.gym_cards.game import Game
from envs.gym_cards.number_line import NumberLine
from envs.gym_cards.points24 import Points24

FOUR = ["H2", "S6", "DT", "C8"]


@dataclass(frozen=True)
class Case:
    """One game, a state of it, and literal facts about both."""

    name: str
    make: Callable[..., Game]
    actions: int
    state: dict[str, Any]
    moves: tuple[int, ...]
    """Actions from that state, of which none ends the episode."""
    seen: dict[str, Any]
    """What info holds, among other things, after the first of them."""
    ends: tuple[tuple[dict[str, Any], int, bool], ...]
    """A state, the action that ends it, and whether that is truncation."""
    """What a reset with its picture took in the original: published for three, for NumberLine that of a step."""

    @property
    def env_id(self):
        return f"gym_cards/{self.name}-v0"


CASES = [
    Case(
        "NumberLine",
        NumberLine,
        actions=2,
        state={"target": 4, "current": 1},
        moves=(1, 1, 0),
        seen={"Target": 4, "Current": 2},
        ends=(({"target": 4, "current": 3}, 1, False), ({"target": 4, "current": 3, "steps": 9}, 0, True)),
    ),
    Case(
        "EZPoints",
        EZPoints,
        actions=13,
        state={"cards": ["H4", "S8"]},
        moves=(3, 10, 0),
        seen={"Formula": [4]},
        ends=(
            ({"cards": ["H4", "S8"], "formula": [4, "+", 8]}, 12, False),
            ({"cards": ["H4", "S8"], "formula": [" "] * 6}, 3, True),
        ),
    ),
    Case(
        "Points24",
        Points24,
        actions=17,
        state={"cards": FOUR},
        moves=(1, 10, 2),
        seen={"Formula": [2]},
        ends=(({"cards": FOUR}, 16, False), ({"cards": FOUR, "formula": [" "] * 21}, 1, True)),
    ),
    Case(
        "Blackjack",
        Blackjack,
        actions=2,
        state={"player": [2, 3], "dealer": [4, 5], "deck": [1, 2, 1, 10, 10]},
        moves=(1, 1, 1),
        seen={},
        ends=(
            ({"player": [10, 6], "dealer": [9, 7], "deck": [10]}, 0, False),
            ({"player": [10, 6], "dealer": [9, 7], "deck": [10]}, 1, False),
        ),
    ),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request) -> Case:
    return request.param


@pytest.fixture
def env(case) -> Game:
    return case.make()


def stream(env, seed, steps=60, between=lambda: None):
    """Infos and pictures of a seeded start and of what follows under fixed actions."""
    shown, ended = [env.reset(seed=seed)], False
    for index in range(steps):
        between()
        if ended:
            shown.append(env.reset())
        observation, _, terminated, truncated, info = env.step(index * 7 % int(env.action_space.n))
        shown.append((observation, info))
        ended = terminated or truncated
    return [(observation.tobytes(), info) for observation, info in shown]


def test_the_original_ids_stand_for_the_games_with_its_outer_limit(case):
    env = gymnasium.make(case.env_id)
    assert type(env.unwrapped) is case.make
    assert env.spec is not None and env.spec.max_episode_steps == 300


def test_spaces_are_the_originals(env, case):
    observation, _ = env.reset(seed=0)
    assert env.action_space == gymnasium.spaces.Discrete(case.actions)
    assert env.observation_space == gymnasium.spaces.Box(0, 255, (300, 300, 3), np.uint8)
    assert env.observation_space.contains(observation)


def test_gymnasiums_checker_is_content(case, recwarn):
    check_env(gymnasium.make(case.env_id, render_mode="rgb_array").unwrapped)
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        *((f"gym_cards/{name}-v0", {}) for name in ("NumberLine", "EZPoints", "Points24", "Blackjack")),
        *((f"gym_cards/{name}-v0", {"grammar": "compatible"}) for name in ("EZPoints", "Points24")),
        (
            "gym_cards/Points24-v0",
            {"treat_face_cards_as_10": False, "adapter": "envs.gym_cards.points24_task:FaceCardsTask"},
        ),
    ],
)
def test_the_contract_is_kept(env_id, options):
    report = check_contract(env_id, episodes=8, **options)
    assert report.passed, str(report)


def test_a_seed_fixes_the_whole_stream_of_its_own_instance(env, case):
    other = case.make()
    alone = stream(env, 3)
    assert stream(case.make(), 3, between=lambda: other.reset()) == alone
    assert stream(env, 4) != alone


def test_the_global_generators_are_neither_heeded_nor_moved(env, case):
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tobytes()  # pyright: ignore[reportArgumentType, reportCallIssue]
    first = stream(env, 3)
    after = random.getstate(), np.random.get_state()[1].tobytes()  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert before == after
    random.seed(2)
    np.random.seed(2)
    assert stream(case.make(), 3) == first


def test_an_unseeded_start_differs_between_instances(case):
    infos = set()
    for _ in range(40):
        infos.add(str(case.make().reset()[1]))
    assert len(infos) > 5


def test_rewards_are_floats_and_ends_are_bools(env, case):
    rng, ended, ends = np.random.default_rng(0), True, 0
    for _ in range(300):
        if ended:
            env.reset(seed=0 if ends == 0 else None)
        _, reward, terminated, truncated, _ = env.step(rng.integers(case.actions))
        assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
        assert not (terminated and truncated)
        ended = terminated or truncated
        ends += ended
    assert ends > 10


def test_what_was_handed_out_never_changes(env, case):
    def episode():
        env.reset(seed=5)
        return [env.reset(options=case.state), *(env.step(action)[::4] for action in case.moves)]

    kept = episode()
    before = copy.deepcopy(kept)
    for observation, info in kept:
        observation[:] = 7
        for value in info.values():
            if isinstance(value, list):
                value.clear()
        info.clear()
    for (observation, info), (observation_again, info_again) in zip(before, episode(), strict=True):
        assert info == info_again
        np.testing.assert_array_equal(observation, observation_again)


def test_the_callers_options_are_left_alone(env, case):
    options = copy.deepcopy(case.state)
    env.reset(options=options)
    for action in case.moves:
        env.step(action)
    assert options == case.state


@pytest.mark.parametrize("end", [0, 1])
def test_a_step_after_the_end_raises_until_reset(env, case, end):
    state, action, truncated = case.ends[end]
    env.reset(options=state)
    assert env.step(action)[2:4] == (not truncated, truncated)
    for _ in range(2):
        with pytest.raises(ResetNeeded, match=r"step\(\) after the end of the episode: call reset\(\) first"):
            env.step(0)
    with pytest.raises(ResetOptionsError):
        env.reset(options={"nonsense": 1})
    with pytest.raises(ResetNeeded, match="after the end"):
        env.step(0)
    env.reset(options=case.state)
    env.step(case.moves[0])


def test_the_last_picture_can_still_be_rendered_after_the_end(case):
    env = case.make(render_mode="rgb_array")
    state, action, _ = case.ends[0]
    env.reset(options=state)
    observation = env.step(action)[0]
    np.testing.assert_array_equal(env.render(), observation)


def test_a_step_or_picture_before_the_first_reset_is_refused(case):
    env = case.make(render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match=r"step\(\) before the first reset: call reset"):
        env.step(0)
    with pytest.raises(ResetNeeded, match=r"render\(\) before the first reset: call reset"):
        env.render()
    with pytest.raises(ResetOptionsError):
        env.reset(options={"nonsense": 1})
    with pytest.raises(ResetNeeded, match="before the first reset"):
        env.step(0)


ILLEGAL = [-1, 99, 10**30, 0.0, np.float32(0), True, np.True_, "+", "0", None, [0], np.array([0])]


@pytest.mark.parametrize("action", ILLEGAL, ids=repr)
def test_an_illegal_action_raises_and_costs_no_step(env, case, action):
    env.reset(options=case.state)
    with pytest.raises(InvalidAction, match=f"action must be an integer from 0 to {case.actions - 1}, not "):
        env.step(action)
    info = env.step(case.moves[0])[4]
    assert case.seen.items() <= info.items()


def test_the_first_index_beyond_the_actions_is_illegal(env, case):
    env.reset(seed=0)
    with pytest.raises(InvalidAction, match=f"not {case.actions}$"):
        env.step(case.actions)


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.array], ids=lambda kind: kind.__name__)
def test_every_kind_of_integer_is_an_action(env, case, kind):
    env.reset(options=case.state)
    assert case.seen.items() <= env.step(kind(case.moves[0]))[4].items()


@pytest.mark.parametrize("options", [5, "cards", ["target", "current"], ("player", "dealer")])
def test_options_must_be_a_dict(env, options):
    env.reset(seed=0)
    with pytest.raises(ResetOptionsError, match="reset options must be a dict with "):
        env.reset(options=options)
    env.step(0)


def test_empty_options_deal_as_none_do(case):
    one, two = case.make(), case.make()
    assert one.reset(seed=1, options={})[1] == two.reset(seed=1)[1]


def test_render_gives_the_observation_or_nothing(case):
    env = case.make(render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    frame = env.render()
    assert frame is not None
    np.testing.assert_array_equal(frame, observation)
    frame[:] = 7
    np.testing.assert_array_equal(env.render(), observation)
    silent = case.make()
    silent.reset(seed=0)
    assert silent.render() is None
    with pytest.raises(gymnasium.error.UnsupportedMode, match="None or 'rgb_array', not 'human'"):
        case.make(render_mode="human")


def test_pictures_need_no_file(env, case, tmp_path, monkeypatch):
    """Everything is drawn anew, in an empty folder, where opening any file fails."""
    env.reset(seed=0)
    drawn = stream(env, 3)
    for module in (cards, drawing, formula_picture, number_line):
        for cached in vars(module).values():
            if hasattr(cached, "cache_clear"):
                cached.cache_clear()

    def refused(*args, **kwargs):
        raise AssertionError(f"opened {args}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(builtins, "open", refused)
    monkeypatch.setattr(io, "open", refused)
    assert stream(case.make(), 3) == drawn
