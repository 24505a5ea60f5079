"""The command line: help that lists every command, mistakes in two lines on stderr with exit code 2."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from cluster import cli, evaluate_command
from cluster.config import default_config, save_config
from cluster.config.env import EnvConfig
from cluster.evaluation import Panel, evaluate
from cluster.record.run_dir import RunDir
from protocol.errors import AdapterRejected
from tests.cluster.printed import plain
from tests.cluster.results import episode

ROOT = Path(__file__).parents[2]
LOCAL = "cluster/configs/local.yaml"
COMMANDS = ("train", "sft", "evaluate", "play", "check-env", "doctor")


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    """A clean environment, and no Ray: whatever these commands find wrong, they find before it is started."""

    def fail(*args, **kwargs):
        raise AssertionError("Ray was started")

    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(ray, "init", fail)


def test_help_lists_every_command_with_a_line_about_it(call):
    code, out, _ = call("--help")
    assert code == 0
    listed = {m[1]: m[2] for m in re.finditer(r"^[│ ]+([a-z-]+) {2,}(\w.*?)[ │]*$", out, re.MULTILINE)}
    assert set(COMMANDS) <= set(listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0 and f" {command} [OPTIONS]" in plain(out)


def test_evaluate_takes_the_promised_options(call):
    _, out, _ = call("evaluate", "--help")
    for option in ("--env", "--episodes", "--seed", "--json", "--temperature"):
        assert option in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "no.yaml"], ["ConfigError", "'no.yaml'", "cluster/configs/local.yaml"]),
        (["train", LOCAL, "sft.stpes=3"], ["ConfigError", "unknown key 'sft.stpes'", "'sft.steps'"]),
        (["train", LOCAL, "learner.ppo.clip=2"], ["learner.ppo.clip", "2", "less than 1"]),
        (["train", LOCAL, "learner.ppo"], ["'learner.ppo' is not of the form key=value"]),
        (["train", LOCAL, "deterministic=false", "learner.gpus=1000"], ["PlacementError", "1000 GPU", "learner.gpus"]),
        (["train", LOCAL, "model.path=/no/such"], ["ModelFolderError", "'/no/such'", "Hugging Face folder"]),
        (["train", LOCAL, "env.id=gym_cards/NumberLin-v0"], ["UnknownEnvError", "did you mean"]),
        (["train", LOCAL, "env.kwargs.max_position=99"], ["ConfigError", "max_position", "99", "2 to 9"]),
        (["train", LOCAL, "resume=/no/run"], ["CheckpointError", "/no/run"]),
        (["sft", LOCAL, "sft=null"], ["ConfigError", "sft is null"]),
        (["sft", LOCAL, "model.path=/no/such"], ["ModelFolderError"]),
        (["evaluate", "/no/such"], ["ConfigError", "'/no/such'"]),
        (["play", "--policy", "nobody"], ["ConfigError", "'nobody'", "expert"]),
        (["play", "--env", "no/Such-v0"], ["UnknownEnvError", "'no/Such-v0'"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in COMMANDS else "",
)
def test_mistakes_go_to_stderr_with_exit_code_2_and_no_traceback(call, tmp_path, arguments, told):
    more = [f"runs_dir={tmp_path / 'runs'}"] if arguments[0] in ("train", "sft") else []
    code, out, err = call(*arguments, *more)
    assert (code, out) == (2, "")
    for part in told:
        assert part in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], "'trian'"),
        (["train"], "Missing argument"),
        (["evaluate", "x", "--episodes", "0"], "'--episodes'"),
        (["evaluate", "x", "--temperature", "-1"], "'--temperature'"),
        (["evaluate", "x", "--json", "tests"], "is a directory"),
        (["play", "--out", "README.md"], "is a file"),
    ],
)
def test_usage_errors_are_explained(call, arguments, told):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "") and told in plain(err)


def test_a_run_that_cannot_be_placed_starts_no_process(tmp_path):
    """The same through a real process: exit code 2 before Ray has so much as a folder for its session."""
    command = [sys.executable, "-m", "cluster", "train", LOCAL, "deterministic=false", "learner.gpus=1000"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_TMPDIR": str(tmp_path / "ray")}
    result = subprocess.run(
        [*command, f"runs_dir={tmp_path / 'runs'}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "PlacementError: The run asks for 1000 GPU(s), this machine has" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_brackets_in_a_message_are_kept(call):
    _, _, err = call("train", "[bold]no.yaml[/bold]")
    assert "'[bold]no.yaml[/bold]'" in err


def test_check_env_passes_on_number_line(call):
    code, out, err = call("check-env", "gym_cards/NumberLine-v0")
    assert (code, err) == (0, "")
    assert "checks passed" in out and "FAIL" not in out


def test_check_env_fails_with_exit_code_1(call, monkeypatch):
    from envs import check

    finding = check.Finding("prompt", "", (check.Problem("it tells the answer", "hide it"),))
    monkeypatch.setattr(check, "check_env", lambda env: check.Report(env, (finding,)))
    code, out, _ = call("check-env", "some/Env-v0")
    assert code == 1 and "FAIL" in out and "it tells the answer" in out and "cure: hide it" in out


def test_check_env_of_nothing_fails_too(call):
    code, out, err = call("check-env", "no.module:Env")
    assert (code, err) == (1, "") and "no module 'no'" in out


def test_play_prints_the_dialogue_and_saves_frames(call, tmp_path):
    code, out, _ = call("play", "--episodes", "2", "--seed", "5", "--out", str(tmp_path / "frames"))
    assert code == 0 and out.count("success") == 2
    assert len(list((tmp_path / "frames").glob("*.png"))) > 2


def test_play_takes_overrides(call):
    code, out, _ = call("play", "--seed", "5", "env.prompt.text_only=true", "env.prompt.memory=1")
    assert code == 0 and "The target number is" in out and "Earlier in this episode:" in out
    code, _, err = call("play", "env.prompt.formula=false")
    assert code == 2 and "prompt.formula=False means nothing to gym_cards/NumberLine-v0" in err


def test_a_module_in_the_working_directory_is_found(call, tmp_path, monkeypatch):
    source = (ROOT / "docs/examples/dots.py").read_text().replace("docs.examples.dots:", "my_own_env:")
    (tmp_path / "my_own_env.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("play", "--env", "my_own_env:DotEnv")
    assert code == 0 and "Is the dot left or right?" in out


def test_evaluate_prints_and_writes_the_result(call, tmp_path, monkeypatch):
    given = {}

    def pretend(run_or_model, env_id, **settings):
        given.update(run_or_model=run_or_model, env_id=env_id, **settings)
        panel = Panel(EnvConfig(), settings["seed"], settings["episodes"])
        return evaluate(lambda seeds, at: [episode() for _ in seeds], panel, 7, settings["temperature"])

    monkeypatch.setattr(evaluate_command, "evaluate_run_or_model", pretend)
    path = tmp_path / "new" / "result.json"
    code, out, _ = call(
        *("evaluate", "RUN", "--env", "gym_cards/NumberLine-v0", "--episodes", "4", "--seed", "5"),
        *("--temperature", "0.5", "--json", str(path), "servers.kind=transformers"),
    )
    assert code == 0
    assert given == {
        "run_or_model": "RUN",
        "env_id": "gym_cards/NumberLine-v0",
        "episodes": 4,
        "seed": 5,
        "temperature": 0.5,
        "overrides": ["servers.kind=transformers"],
    }
    assert "4 episodes, sampled at T=0.5, policy 7: success 100.0 %" in out
    written = json.loads(path.read_text())
    assert (written["episodes"], written["seed"], written["greedy"], written["policy_version"]) == (4, 5, False, 7)


def test_an_error_from_another_process_is_told_with_its_cure(call, monkeypatch):
    def refuse(*args, **kwargs):
        raise AdapterRejected("The canaries of policy-v3 did not reproduce.", "publish it again")

    monkeypatch.setattr(evaluate_command, "evaluate_run_or_model", refuse)
    code, out, err = call("evaluate", "RUN")
    assert (code, out) == (2, "")
    assert err == "AdapterRejected: The canaries of policy-v3 did not reproduce. Cure: publish it again\n"


def test_what_is_no_error_of_ours_keeps_its_traceback(monkeypatch):
    def crash(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(evaluate_command, "evaluate_run_or_model", crash)
    monkeypatch.setattr(sys, "argv", ["croupier", "evaluate", "RUN"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_resuming_under_another_seed_is_refused(call, tmp_path):
    run = RunDir.create(tmp_path, "old")
    save_config(default_config(["seed=1"]), run.config)
    code, _, err = call("train", str(run.config), "seed=2", f"resume={run.root}")
    assert code == 2 and "another seed" in err and str(run.root) in err
