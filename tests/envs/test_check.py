import random

import pytest

from envs.check import check_env
from tests.envs.user_env import DotEnv, DotTask

DOT = "tests.envs.user_env:DotEnv"
CHECKS = [
    "make",
    "gymnasium",
    "episodes",
    "seeding",
    "copies",
    "after end",
    "actions",
    "prompt",
    "image",
    "expert",
    "outcome",
]


@pytest.mark.parametrize("env_id", ["gym_cards/NumberLine-v0", DOT])
def test_sound_environments_pass_every_check(env_id):
    report = check_env(env_id)
    assert report.passed, str(report)
    assert [finding.check for finding in report.findings] == CHECKS


def test_the_report_reads_as_a_table(monkeypatch):
    assert str(check_env(DOT)).splitlines()[-1] == "all 11 checks passed"
    monkeypatch.setattr(DotTask, "task", lambda self, info: None)
    lines = str(check_env(DOT)).splitlines()
    assert lines[0] == DOT
    assert lines[-2].startswith("FAIL  outcome     task must give a str")
    assert lines[-1] == "1 of 11 checks failed"


def test_an_environment_that_cannot_be_made_is_a_finding():
    report = check_env("numberline")
    assert not report.passed
    assert [finding.check for finding in report.findings] == ["make"]
    assert "did you mean 'gym_cards/NumberLine-v0'" in report.findings[0].detail


DotEnv_next, DotEnv_step, DotEnv_reset = DotEnv._next, DotEnv.step, DotEnv.reset


def next_by_global_chance(self):
    observation, info = DotEnv_next(self)
    return observation, info | {"luck": random.random()}


def reset_that_seeds_the_global_generator(self, *, seed=None, options=None):
    if seed is not None:
        random.seed(seed)
    return DotEnv_reset(self, seed=seed)


def next_with_live_info(self):
    if not hasattr(self, "live"):
        self.live = {}
    observation, info = DotEnv_next(self)
    self.live.update(info)
    return observation, self.live


def next_with_one_buffer(self):
    if not hasattr(self, "buffer"):
        self.buffer = self.observation_space.sample()
    observation, info = DotEnv_next(self)
    self.buffer[:] = observation
    return self.buffer, info


def step_without_end(self, action):
    self.left = 9
    return DotEnv_step(self, action)


def step_after_end(self, action):
    self.left = self.left or 1
    return DotEnv_step(self, action)


def step_both_ends(self, action):
    observation, reward, terminated, _, info = DotEnv_step(self, action)
    return observation, reward, terminated, terminated, info


def small_picture(self):
    observation, info = DotEnv_next(self)
    return observation[:32], info


ENV_FAULTS = {
    "observation outside its space": ("gymnasium", "_next", small_picture, "observation"),
    "endless": ("episodes", "step", step_without_end, "still running after 1000 steps"),
    "terminated and truncated": ("episodes", "step", step_both_ends, "terminated and truncated at once"),
    "global chance": ("seeding", "_next", next_by_global_chance, "np_random"),
    "live info": ("copies", "_next", next_with_live_info, "info changed after"),
    "one buffer": ("copies", "_next", next_with_one_buffer, "observation changed after"),
    "steps after the end": ("after end", "step", step_after_end, "ResetNeeded"),
}


@pytest.mark.filterwarnings("ignore:.*observation space")
@pytest.mark.parametrize("fault", ENV_FAULTS)
def test_a_faulty_environment_is_found_out(fault, monkeypatch):
    check, name, replacement, message = ENV_FAULTS[fault]
    monkeypatch.setattr(DotEnv, name, replacement)
    assert message in details(check_env(DOT))[check]


def test_chance_from_a_seeded_global_generator_is_found_out(monkeypatch):
    """It repeats when played alone, so only a second instance playing in between shows it."""
    monkeypatch.setattr(DotEnv, "_next", next_by_global_chance)
    monkeypatch.setattr(DotEnv, "reset", reset_that_seeds_the_global_generator)
    assert "np_random" in details(check_env(DOT))["seeding"]


def says(text):
    return lambda self, info, rng, noise=0.0: text


def leak(self, observation, info):
    return f"The dot is {info['side']}."


FICKLE = iter(range(10_000))

TASK_FAULTS = {
    "one name short": ("actions", "action_names", ("left",), "1 names for 2 actions"),
    "names twice": ("actions", "action_names", ("left", "left"), "different names"),
    "nothing legal": ("episodes", "legal_actions", lambda self, info: (), "no legal action"),
    "unknown legal name": ("episodes", "legal_actions", lambda self, info: ("up",), "'up' is no action"),
    "outside the space": ("actions", "env_action", lambda self, name, info: name, "outside Discrete(2)"),
    "no prompt": ("prompt", "prompt", lambda self, observation, info: "", "non-empty str"),
    "fickle prompt": ("prompt", "prompt", lambda self, observation, info: str(next(FICKLE)), "two calls"),
    "leak": ("prompt", "prompt", leak, "tells 'dot'"),
    "float image": ("image", "image", lambda self, observation, info: observation / 255, "float64"),
    "grey image": ("image", "image", lambda self, observation, info: observation[..., 0], "[64, 64]"),
    "no JSON": ("expert", "expert", says("left}"), "not JSON"),
    "text after": ("expert", "expert", says('{"action": "left"}.'), "last character"),
    "two braces": ("expert", "expert", says('{"dot": {}, "action": "left"}'), "last character"),
    "no action": ("expert", "expert", says('{"dot": "left"}'), 'last key must be "action"'),
    "two markers": ("expert", "expert", says('{"ACTION": "left", "action": "left"}'), "must occur once"),
    "illegal action": ("expert", "expert", says('{"action": "up"}'), "'up' is not legal"),
    "false perception": ("expert", "expert", says('{"dot": "top", "action": "left"}'), "the response 'top'"),
    "number as truth": ("expert", "recognition", lambda self, info: {"dot": 1}, "recognition() gives 1"),
    "success is no bool": ("outcome", "success", lambda self, total, info: total, "success must give a bool"),
}


@pytest.mark.parametrize("fault", TASK_FAULTS)
def test_a_faulty_adapter_is_found_out(fault, monkeypatch):
    check, name, replacement, message = TASK_FAULTS[fault]
    monkeypatch.setattr(DotTask, name, replacement)
    assert message in details(check_env(DOT))[check]


def test_an_unknown_legal_name_that_the_environment_swallows_is_found_out(monkeypatch):
    monkeypatch.setattr(DotTask, "legal_actions", lambda self, info: ("up",))
    monkeypatch.setattr(DotTask, "env_action", lambda self, name, info: 0)
    assert "'up' is not one of action_names" in details(check_env(DOT))["actions"]


def test_a_prompt_may_name_every_value_without_telling_which():
    """DotTask's prompt holds both "left" and "right" in every state: that is no leak."""
    assert "prompt" not in details(check_env(DOT))


def test_a_leak_among_other_mentions_is_found_out(monkeypatch):
    monkeypatch.setattr(DotTask, "recognition", lambda self, info: {"dot": f"on the {info['side']}"})
    prompt = "The dot is on the {side}. Press left or right."
    monkeypatch.setattr(DotTask, "prompt", lambda self, observation, info: prompt.format(**info))
    assert "tells 'dot'" in details(check_env(DOT))["prompt"]


def details(report):
    """Check name -> detail, of the failed checks."""
    return {finding.check: finding.detail for finding in report.findings if not finding.passed}
