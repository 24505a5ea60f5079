"""The run card: which versions, on what, and what came out, as plain JSON."""

import json
import os
import platform
from importlib import metadata

from cluster.config import default_config
from cluster.evaluation import Panel, evaluate
from cluster.record import card
from tests.cluster.results import episode


def test_versions_are_the_installed_ones():
    versions = card.versions()
    assert versions["python"] == platform.python_version()
    for name in ("torch", "transformers", "peft", "ray", "pyarrow", "gymnasium", "numpy"):
        assert versions[name] == metadata.version(name)


def test_absent_packages_are_left_out(monkeypatch):
    monkeypatch.setattr(card, "PACKAGES", ("numpy", "no-such-distribution"))
    assert set(card.versions()) == {"python", "numpy"}


def test_hardware_is_this_machine(monkeypatch):
    monkeypatch.setattr(card, "find_gpus", lambda: ("NVIDIA A, 10 MiB",))
    hardware = card.hardware()
    assert hardware["cpus"] == os.cpu_count()
    assert hardware["machine"] == platform.machine()
    assert 1 << 28 < hardware["memory_bytes"] < 1 << 50
    assert hardware["gpus"] == ["NVIDIA A, 10 MiB"]


def test_the_card_says_what_was_run_and_what_came_out():
    config = default_config(["name=mine", "seed=3", "deterministic=true", "workers.count=1"])
    panel = Panel(config.env, 5, 2)
    result = evaluate(lambda seeds, at: [episode() for _ in seeds], panel, 4, 0.0)
    totals = {"updates": 4, "env_steps": 512, "rl_wall_s": 9.5}
    made = card.run_card(config, {"after_greedy": result.to_json()}, totals, {"rl": {"kind": "rl"}})
    read = json.loads(json.dumps(made), parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    assert (read["name"], read["env"], read["seed"], read["deterministic"]) == ("mine", config.env.id, 3, True)
    assert read["totals"] == totals and read["stages"] == {"rl": {"kind": "rl"}}
    assert read["results"]["after_greedy"]["panel_digest"] == panel.digest()
    assert read["results"]["after_greedy"]["success_ci95"] == list(result.success_ci95)
    assert read["versions"] == card.versions() and read["hardware"] == card.hardware()
