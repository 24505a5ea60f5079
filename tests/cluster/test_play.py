"""Play: the dialogue of whole episodes by each kind of player, and the frames that the environment showed."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import envs
from cluster import play as play_module
from cluster.play import play_episodes
from docs.examples.dots import DotTask
from envs.errors import UnknownEnvError
from protocol.errors import ConfigError, ExpertFailed

NUMBER_LINE = "gym_cards/NumberLine-v0"


def played(
    policy: str,
    *overrides: str,
    env_id: str = NUMBER_LINE,
    episodes: int = 1,
    seed: int = 0,
    out: Path | None = None,
) -> str:
    text = io.StringIO()
    console = Console(file=text, width=80, highlight=False)
    play_episodes(env_id, policy, episodes=episodes, seed=seed, out=out, console=console, overrides=overrides)
    return text.getvalue()


def distance(seed: int) -> int:
    env, _ = envs.make(NUMBER_LINE)
    _, info = env.reset(seed=seed)
    env.close()
    return abs(info["Target"] - info["Current"])


def test_the_expert_takes_the_shortest_way():
    output = played("expert", episodes=3, seed=5)
    ends = re.findall(r"^terminated after (\d+) steps, return \+1: success$", output, re.MULTILINE)
    assert [int(steps) for steps in ends] == [distance(seed) for seed in (5, 6, 7)]
    assert [f"episode {n} (seed {n + 5})" in output for n in range(3)] == [True] * 3


def test_every_step_shows_response_action_and_reward():
    output = played("expert", seed=5)
    steps = distance(5)
    assert len(re.findall(r'^  \{"current number": "\d", .*"action": "[+-]"\}$', output, re.MULTILINE)) == steps
    assert len(re.findall(r"^  -> '[+-]' \(ok\), reward \+[01]$", output, re.MULTILINE)) == steps


def test_a_prompt_is_shown_where_it_is_new():
    _, adapter = envs.make(NUMBER_LINE)
    assert played("expert", episodes=2).count(adapter.prompt(None, {})) == 2, "once per episode: it never changes"


def test_random_play_repeats_itself_by_its_seed_and_loses_sometimes():
    output = played("random", episodes=12, seed=3)
    assert output == played("random", episodes=12, seed=3)
    assert output != played("expert", episodes=12, seed=3)
    assert "reward -1" in output


def test_frames_are_those_of_the_environment(tmp_path):
    output = played("expert", episodes=2, seed=5, out=tmp_path / "frames")
    assert output.splitlines()[-1] == f"Frames: {tmp_path / 'frames'}"
    expected = {f"episode{e:03d}-step{s:03d}.png" for e in range(2) for s in range(distance(5 + e) + 1)}
    assert {path.name for path in (tmp_path / "frames").iterdir()} == expected
    env, adapter = envs.make(NUMBER_LINE)
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=5)
    for number in range(distance(5) + 1):
        with Image.open(tmp_path / "frames" / f"episode000-step{number:03d}.png") as image:
            assert np.array_equal(np.asarray(image), observation), number
        if number < distance(5):
            action = adapter.expert(info, rng)[-3]
            observation, _, _, _, info = env.step(adapter.env_action(action, info))
    env.close()


def test_without_a_folder_no_frames_are_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Frames" not in played("expert")
    assert list(tmp_path.iterdir()) == []


def answer(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_a_human_is_asked_until_the_answer_is_an_action(monkeypatch, capsys):
    answer(monkeypatch, "up", '"} [bold]', " + ", "-", *"+" * 20)
    output = played("human", seed=5)
    assert "'up' is not among them" in output and "'\"} [bold]' is not among them" in output
    actions = re.findall(r"-> '([+-])' \(ok\)", output)
    assert actions[:2] == ["+", "-"]
    assert re.search(r"^(terminated|truncated) after \d+ steps", output, re.MULTILINE)
    assert "action, one of -, +:" in output + capsys.readouterr().out


def test_the_end_of_the_input_ends_the_play(monkeypatch, tmp_path):
    answer(monkeypatch, "-")
    seed = next(s for s in range(99) if distance(s) > 2)
    output = played("human", seed=seed, episodes=2, out=tmp_path)
    assert "end of input" in output and "episode 1" not in output
    assert len(list(tmp_path.iterdir())) == 2


def test_a_users_own_environment():
    output = played("expert", env_id="docs.examples.dots:DotEnv")
    assert "terminated after 3 steps, return +3: success" in output
    assert "Is the dot left or right?" in output


def test_the_usual_environment_is_number_line():
    assert played("expert", env_id="") == played("expert")


def test_what_a_policy_says_badly_becomes_a_random_legal_action():
    env, adapter = envs.make(NUMBER_LINE)
    texts = iter(['{"action": "jump"}', "no idea [/bold]"] + ['{"action": "+"}'] * 50)
    out = io.StringIO()
    console = Console(file=out, width=80, highlight=False)
    rng = np.random.default_rng(0)
    play_module._Player(env, adapter, lambda *state: next(texts), rng, None, console).play(0, seed=5)
    statuses = re.findall(r"-> '[+-]' \((\w+)\)", out.getvalue())
    assert statuses[:2] == ["unknown_action", "no_action_key"]
    assert "  no idea [/bold]\n" in out.getvalue(), "a response is shown as it is"


def test_the_dialogue_shows_what_a_policy_is_given(tmp_path):
    seed = next(s for s in range(99) if distance(s) == 4)
    switches = ("env.prompt.memory=2", "env.prompt.memory_frames=true", "env.prompt.marks=envs.marks:grid")
    output = played("expert", *switches, "env.prompt.thoughts=false", seed=seed, out=tmp_path)
    assert output.count("Earlier in this episode:") == 2, "the prompt is shown where it is new"
    assert len(re.findall("^- You gave: [+-]$", output, re.MULTILINE)) == 1 + 2
    assert '"thoughts"' not in output
    saved = sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in saved if "step003" in name] == [
        f"episode000-step003{back}.png" for back in ("-before1", "-before2", "")
    ]
    pictures = {name: np.asarray(Image.open(tmp_path / name)) for name in saved}
    for back in (1, 2):
        earlier = pictures[f"episode000-step{3 - back:03d}.png"]
        assert np.array_equal(pictures[f"episode000-step003-before{back}.png"], earlier)
    assert (pictures["episode000-step000.png"] == [255, 0, 255]).all(axis=-1).any(), "with the marks on it"


def test_a_text_only_task_saves_no_frames(tmp_path):
    output = played("expert", "env.prompt.text_only=true", seed=5, out=tmp_path)
    assert output.count("The target number is") == distance(5) and list(tmp_path.iterdir()) == []


def test_a_mixture_tells_what_each_episode_plays():
    parts = ("env.mixture.dots.id=docs.examples.dots:DotEnv", "env.mixture.lines.weight=1")
    output = played("random", *parts, env_id="", episodes=8)
    headings = re.findall(r"^episode \d \(seed \d\), (\w+)$", output, re.MULTILINE)
    assert len(headings) == 8 and set(headings) == {"dots", "lines"}
    assert "Is the dot left or right?" in output and "-> '+' (ok)" in output


def test_an_expert_without_an_answer_is_named():
    adapter = "env.adapter=tests.cluster.stages.test_model:Mute"
    with pytest.raises(ExpertFailed, match="knows no answer here: not a word"):
        played("expert", adapter, env_id="docs.examples.dots:DotEnv")
    assert "terminated after 3 steps" in played("random", adapter, env_id="docs.examples.dots:DotEnv")


class Charging(DotTask):
    def fallback(self, value, info):
        return f"{value}!"

    def env_action(self, name, info):
        return super().env_action("left" if name.endswith("!") else name, info)


def test_a_tasks_own_fallback_is_played():
    env, _ = envs.make("docs.examples.dots:DotEnv")
    texts = iter(['{"action": "up"}', "left", '{"action": "right"}'])
    out = io.StringIO()
    console = Console(file=out, width=80, highlight=False)
    play_module._Player(env, Charging(), lambda *s: next(texts), np.random.default_rng(0), None, console).play(0, 5)
    assert re.findall(r"-> '(.*)' \((\w+)\)", out.getvalue()) == [
        ("up!", "unknown_action"),
        ("!", "no_action_key"),
        ("right", "ok"),
    ]


def test_an_unknown_policy_is_named():
    with pytest.raises(ConfigError, match="There is no policy 'experd'"):
        played("experd")


def test_an_unknown_environment_is_named():
    with pytest.raises(UnknownEnvError, match="did you mean 'gym_cards/NumberLine-v0'"):
        played("expert", env_id="gym_cards/NumberLin-v0")
