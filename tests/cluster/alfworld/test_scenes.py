"""Named panels are generated before a run needs them, in view, and only those that it plays."""

import inspect
import io

import pytest
from rich.console import Console

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from cluster import preflight
from cluster.alfworld import scenes as alfworld_scenes
from cluster.alfworld.scenes import generate_scenes
from cluster.config import RunConfig
from cluster.config.env import EnvConfig
from cluster.preflight import check_before_start
from cluster.record.progress import RunProgress
from envs.alfworld import panels
from envs.alfworld.sources import DEFAULT_GAMES
from envs.alfworld.text_env import AlfworldText


@pytest.fixture
def generated(tmp_path, monkeypatch):
    """Names of the panels that were generated, as (name, processes)."""
    made = []

    def panel_folder(name, workers, done):
        made.append((name, workers))
        done(84, 84)

    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path))
    monkeypatch.setattr(panels, "panel_folder", panel_folder)
    monkeypatch.setattr("envs.alfworld.processes.usual_processes", lambda: 3)
    return made


@pytest.fixture
def shown():
    return RunProgress(Console(file=io.StringIO(), width=200))


def alfworld(**kwargs):
    return {"id": "alfworld/Schematic-v0", "kwargs": kwargs}


@pytest.mark.parametrize(
    "env, names",
    [
        ({"id": "gym_cards/NumberLine-v0"}, []),
        ({"id": "nowhere/Nothing-v0"}, []),
        ({"id": "my_module:MyEnv"}, []),
        ({"id": "alfworld/Text-v0"}, ["tiny"]),
        (alfworld(games="small"), ["small"]),
        (alfworld(games="/data/mine"), []),
        (alfworld(games="official"), []),
        ({"mixture": {"a": alfworld(), "b": alfworld(games="full"), "c": alfworld(), "d": {}}}, ["tiny", "full"]),
    ],
)
def test_only_panels_that_are_played_are_generated(generated, shown, env, names):
    generate_scenes(EnvConfig.model_validate(env), shown)
    assert generated == [(name, 3) for name in names]
    lines = shown.console.file.getvalue().splitlines()
    assert [line.partition(" (")[0] for line in lines] == [f"done generate ALFWorld scenes, panel {n}" for n in names]


def test_a_panel_that_is_there_is_not_touched(generated, shown, monkeypatch):
    monkeypatch.setattr(panels, "is_generated", lambda folder: folder == panels.panel_home("tiny"))
    generate_scenes(EnvConfig.model_validate(alfworld()), shown)
    assert generated == [] and shown.console.file.getvalue() == ""


def test_the_default_is_the_environments_own():
    assert inspect.signature(AlfworldText).parameters["games"].default == DEFAULT_GAMES


@pytest.mark.parametrize("model", [{}, {"path": "/models/mine"}])
def test_it_happens_before_any_process_whatever_the_model(generated, shown, monkeypatch, model):
    order = []
    monkeypatch.setattr(preflight, "check_model_folder", lambda path: order.append("model"))
    monkeypatch.setattr(preflight, "_check_adapter_targets", lambda config: None)
    monkeypatch.setattr(preflight, "generate_scenes", lambda env, progress: order.append((env.id, progress is shown)))

    def make():
        order.append("environment")
        raise KeyboardInterrupt

    monkeypatch.setattr(preflight, "env_maker", lambda env: make)
    with pytest.raises(KeyboardInterrupt):
        check_before_start(RunConfig.model_validate({"env": alfworld(), "model": model}), shown)
    assert order[-2:] == [("alfworld/Schematic-v0", True), "environment"]
    assert alfworld_scenes.generate_scenes is generate_scenes
