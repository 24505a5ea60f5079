"""The visual environment's own rules, against a scripted stand-in for the simulator (never THOR)."""

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils import env_checker

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

import envs
from envs.alfworld.errors import GameFilesError
from envs.alfworld.game_files import TRAJ_FILE
from envs.alfworld.thor import env as thor_env
from envs.alfworld.thor.env import MAX_DEATHS, AlfworldThor
from envs.alfworld.thor.process import SimulatorProcess
from envs.alfworld.thor.state import SimulatorError
from envs.check import check_env
from envs.errors import EnvSetupError, ResetOptionsError
from tests.envs.alfworld.test_game_files import write_game
from tests.envs.alfworld.thor.fake_household import HEAT, FakeHousehold

WIN = (
    "go to countertop 1",
    "take apple 1 from countertop 1",
    "go to microwave 1",
    "heat apple 1 with microwave 1",
    "go to fridge 1",
    "open fridge 1",
    "move apple 1 to fridge 1",
)
FAKE = "tests.envs.alfworld.thor.fake_household:FakeHousehold"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three games that look as if THOR could render them."""
    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path / "cache"))
    params = {"object_target": "Apple", "parent_target": "Fridge", "toggle_target": "", "mrecep_target": ""}
    for name in "abc":
        game = tmp_path / "games" / name
        write_game(game, HEAT.task_type, params=params)
        described = json.loads((game / TRAJ_FILE).read_text())
        (game / TRAJ_FILE).write_text(json.dumps({**described, "scene": {}, "plan": {}}))
    return str(tmp_path / "games")


@pytest.fixture
def make(folder):
    """Environments with fakes; `env.launched` lists the fakes."""

    def build(*fakes: FakeHousehold, **kwargs: Any) -> Any:
        waiting, launched = list(fakes), []

        def launch():
            launched.append(waiting.pop(0) if waiting else FakeHousehold())
            return launched[-1]

        env: Any = AlfworldThor(games=folder, launch=launch, **kwargs)
        env.launched = launched
        return env

    return build


def started(env):
    env.reset(seed=0)
    return env


def test_a_won_game_pays_conditions_as_they_come_and_success_once(make):
    env = started(make())
    steps = [env.step(command) for command in WIN]
    assert [step[1] for step in steps] == pytest.approx([0, 0, 0, 1 / 3, 0, 0, 50 + 2 / 3])
    assert [step[2] for step in steps] == [False] * 6 + [True] and not any(step[3] for step in steps)
    info = steps[-1][4]
    assert info["won"] and info["goal_condition_success_rate"] == 1.0
    with pytest.raises(gymnasium.error.ResetNeeded, match="after the end"):
        env.step("look")


@pytest.mark.parametrize("goal_reward, heated, waited, won", [("level", 1 / 3, 1 / 3, 51.0), ("off", 0, 0, 50.0)])
def test_other_ways_to_pay(make, goal_reward, heated, waited, won):
    env = started(make(goal_reward=goal_reward))
    paid = [env.step(command)[1] for command in (*WIN[:4], "look", *WIN[4:])]
    assert [paid[3], paid[4], paid[-1]] == pytest.approx([heated, waited, won])


def test_the_observation_is_the_picture_and_the_words_are_in_info(make):
    env = make()
    frame, info = env.reset(seed=0)
    assert frame.shape == (300, 300, 3) and frame.dtype == np.uint8 and frame[0, 0].tolist() == [200, 100, 0]
    assert info["task"] == "put a hot apple in fridge"
    assert info["room"].startswith("You are in the middle of a room.") and info["room"].endswith("a microwave 1.")
    frame, *_, info = env.step("go to fridge 1")
    assert frame[0, 0].tolist() == [200, 100, 80]
    assert info["observation"] == "You arrive at fridge 1. The fridge 1 is closed."
    assert (info["command"], info["legal"], info["steps"]) == ("go to fridge 1", True, 1)
    assert info["admissible_commands"] == ["go to countertop 1", "go to microwave 1", "look", "open fridge 1"]
    assert "memory" not in info and "history" not in info


def test_what_was_handed_out_stays_as_it_was(make):
    env = make()
    frame, _ = env.reset(seed=0)
    frame[:] = 0
    again = env.step("fly")[0]
    assert again[0, 0].tolist() == [200, 100, 0]


def test_text_that_names_no_command_costs_one_and_reaches_no_simulator(make):
    env = started(make())
    _, reward, terminated, truncated, info = env.step("fly\nto the moon")
    assert (reward, terminated, truncated) == (-1.0, False, False)
    assert (info["legal"], info["command"], info["observation"]) == (False, "", "Nothing happens.")
    assert env.launched[0].sent == []


def test_the_step_limit_is_exact(make):
    env = started(make(max_steps=3))
    assert [env.step(action)[2:4] for action in ("look", "fly", "look")] == [
        (False, False),
        (False, False),
        (False, True),
    ]
    with pytest.raises(gymnasium.error.ResetNeeded, match="after the end"):
        env.step("look")


def test_the_seed_alone_decides_the_games(make):
    def games(env, seed):
        return [env.reset(seed=seed if first else None)[1]["game"] for first in (True, *[False] * 20)]

    first, second = make(), make()
    assert games(first, 7) == games(second, 7) != games(second, 8)
    assert set(games(first, 7)) == {"a", "b", "c"} and len(first.launched) == 1
    assert first.reset(options={"game": "b"})[1]["game"] == first.launched[0].games[-1] == "b"
    with pytest.raises(ResetOptionsError, match="no game 'z'"):
        first.reset(options={"game": "z"})


def test_a_dead_simulator_is_an_error_and_the_next_reset_starts_another(make):
    env = started(make(FakeHousehold(breaks_at="look")))
    with pytest.raises(SimulatorError, match="broke at look"):
        env.step("look")
    assert env.launched[0].closed == 1
    with pytest.raises(gymnasium.error.ResetNeeded, match="after the simulator died"):
        env.step("look")
    env.reset()
    assert len(env.launched) == 2 and env.step("look")[4]["steps"] == 1


def test_a_simulator_that_refuses_a_game_is_replaced(make):
    env = make(FakeHousehold(breaks_at="start"))
    with pytest.raises(SimulatorError, match="broke at start"):
        env.reset(seed=0)
    assert env.launched[0].closed == 1
    with pytest.raises(gymnasium.error.ResetNeeded, match="after the simulator died"):
        env.step("look")
    assert env.reset()[1]["steps"] == 0


def test_deaths_in_a_row_are_bounded(make):
    env = make(*[FakeHousehold(breaks_at="look") for _ in range(MAX_DEATHS + 1)])
    for _ in range(MAX_DEATHS):
        env.reset()
        with pytest.raises(SimulatorError, match="broke at look"):
            env.step("look")
    with pytest.raises(SimulatorError, match=r"3 simulators died .* close\(\) allows new attempts"):
        env.reset()
    assert len(env.launched) == MAX_DEATHS
    env.close()
    assert env.reset()[1]["steps"] == 0


def test_a_finished_episode_ends_the_row(make):
    fakes = [FakeHousehold(breaks_at="look") for _ in range(MAX_DEATHS + 1)]
    env = make(*fakes, max_steps=1)
    for _ in range(MAX_DEATHS + 1):
        env.reset()
        env.step("go to fridge 1")
        env.reset()
        with pytest.raises(SimulatorError, match="broke at look"):
            env.step("look")


def test_an_interrupted_call_leaves_no_simulator_whose_answer_is_still_due(make, monkeypatch):
    env = started(make())

    def interrupted(command):
        raise KeyboardInterrupt

    monkeypatch.setattr(env.launched[0], "send", interrupted)
    with pytest.raises(KeyboardInterrupt):
        env.step("look")
    env.reset()
    assert len(env.launched) == 2 and env.launched[0].closed == 1


def test_a_hanging_simulator_is_given_up_and_replaced(folder):
    """The whole way: environment, process, deadline, a new process."""
    arguments = [{"sleeps_at": "look"}, {}]

    def launch():
        return SimulatorProcess(FAKE, arguments.pop(0), start_timeout_s=30.0, answer_timeout_s=0.2)

    env = started(AlfworldThor(games=folder, launch=launch))
    with pytest.raises(SimulatorError, match="waited 0.2 s for the simulator to answer 'look' in game '[abc]'"):
        env.step("look")
    frame, info = env.reset(options={"game": "b"})
    assert info["game"] == "b" and frame[0, 0].tolist() == [200, 100, 0]
    env.close()


def test_closing_ends_the_simulator_and_a_reset_starts_one(make):
    env = started(make())
    env.close()
    env.close()
    assert env.launched[0].closed == 1
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"after close\(\)"):
        env.step("look")
    assert env.reset()[1]["steps"] == 0 and len(env.launched) == 2


def test_the_scripted_player_wins_by_what_it_was_told(make):
    env = make()
    _, info = env.reset(seed=0)
    given = []
    while not info["won"]:
        given.append(info["expert"][0])
        assert given[-1] in info["admissible_commands"] and len(given) < 20
        info = env.step(given[-1])[4]
    assert given == list(WIN)
    assert info["expert"] == ("", "")


def test_the_scripted_player_recovers_from_random_steps(make):
    for seed in range(20):
        env, rng = make(), np.random.default_rng(seed)
        _, info = env.reset(seed=seed)
        for _ in range(12):
            commands = info["admissible_commands"]
            info = env.step(commands[int(rng.integers(len(commands)))])[4]
            if info["won"]:
                break
        for _ in range(14):
            if not info["won"]:
                info = env.step(info["expert"][0])[4]
        assert info["won"], seed


def test_the_scripted_player_never_runs_out_of_commands(make, monkeypatch):
    """Where everything is refused it tries all places, again and again."""
    env = started(make())
    monkeypatch.setattr(env.launched[0], "_play", lambda words: "Nothing happens.")
    info, given = env.step("look")[4], []
    for _ in range(9):
        given.append(info["expert"][0])
        assert given[-1] in info["admissible_commands"]
        info = env.step(given[-1])[4]
    assert given == ["go to countertop 1", "go to fridge 1", "go to microwave 1"] * 3


def test_gymnasium_s_checker_is_content(make):
    env_checker.check_env(make(), skip_render_check=True)


def test_the_conformance_kit_is_content(folder):
    report = check_env("alfworld/Thor-v0", episodes=4, games=folder, launch=FakeHousehold, max_steps=12)
    assert report.passed, str(report)


def test_render_is_the_picture(make):
    env = started(make(render_mode="rgb_array"))
    assert env.render()[0, 0].tolist() == [200, 100, 0]
    assert started(make()).render() is None


def test_misuse_is_named(make, folder):
    with pytest.raises(gymnasium.error.ResetNeeded, match="before the first reset"):
        make().step("look")
    with pytest.raises(gymnasium.error.InvalidAction, match="not 3"):
        started(make()).step(3)
    for kwargs, message in [
        ({"max_steps": 0}, "max_steps"),
        ({"goal_reward": "double"}, "'double'"),
        ({"illegal_reward": 1.0}, "not 1.0"),
        ({"answer_timeout_s": 0}, "timeouts must be positive, not 900 and 0 s"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(**kwargs)
    with pytest.raises(gymnasium.error.UnsupportedMode, match="'human'"):
        make(render_mode="human")


def test_games_without_a_scene_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path / "cache"))
    write_game(tmp_path / "games" / "a")
    with pytest.raises(GameFilesError, match="'a' has no scene and no plan in its traj_data.json"):
        AlfworldThor(games=str(tmp_path / "games"), launch=FakeHousehold)


def test_missing_packages_are_named_with_the_recipe(folder, monkeypatch):
    monkeypatch.delenv("CROUPIER_THOR_PYTHON", raising=False)
    monkeypatch.setattr(thor_env, "missing_packages", lambda: ["ai2thor", "pandas"])
    message = r"(?s)pip install 'alfworld\[vis\]==0.4.2'.*cv2.*separate environment.*missing is ai2thor, pandas"
    with pytest.raises(EnvSetupError, match=message):
        envs.make("alfworld/Thor-v0", games=folder)
    env, _ = envs.make("alfworld/Thor-v0", games=folder, python="/no/python")
    with pytest.raises(EnvSetupError, match="interpreter '/no/python'"):
        env.reset()
    monkeypatch.setenv("CROUPIER_THOR_PYTHON", "/nowhere/python")
    env, _ = envs.make("alfworld/Thor-v0", games=folder)
    with pytest.raises(EnvSetupError, match="interpreter '/nowhere/python'"):
        env.reset()


def test_a_start_that_fails_says_what_a_start_needs(folder, monkeypatch):
    def fail(*args, **kwargs):
        raise SimulatorError("waited 900 s for the simulator to get ready")

    monkeypatch.setattr(thor_env, "SimulatorProcess", fail)
    env = AlfworldThor(games=folder, python="python")
    with pytest.raises(
        SimulatorError, match="(?s)waited 900 s.*fetches the Unity build thor-201909061227-Linux64.*X server"
    ):
        env.reset()
