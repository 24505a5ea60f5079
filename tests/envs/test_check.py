import json
import random
import re

import pytest

import envs.check
from docs.examples.dots import DotEnv, DotTask
from envs import PromptSwitches
from envs.check import check_env
from envs.check_report import Finding, Problem, Report

DOT = "docs.examples.dots:DotEnv"
CHECKS = [
    "make",
    "gymnasium",
    "episodes",
    "seeding",
    "copies",
    "after end",
    "actions",
    "parser",
    "prompt",
    "image",
    "expert",
    "switches",
    "memory",
    "outcome",
    "speed",
]


@pytest.mark.parametrize("env_id", ["gym_cards/NumberLine-v0", DOT])
def test_sound_environments_pass_every_check(env_id):
    report = check_env(env_id)
    assert report.passed, str(report)
    assert [finding.check for finding in report.findings] == CHECKS


def test_the_report_reads_as_a_table(monkeypatch):
    assert str(check_env(DOT)).splitlines()[-1] == "all 15 checks passed"
    monkeypatch.setattr(DotTask, "task", lambda self, info: None)
    lines = str(check_env(DOT)).splitlines()
    assert lines[0] == DOT
    assert lines[1] == "  ok    make       environment and adapter load"
    assert lines[-4] == "  FAIL  outcome    task must give a str, not None"
    assert lines[-3] == '                   cure: return "" where there is only one'
    assert lines[-2].startswith("  ok    speed      ")
    assert lines[-1] == "1 of 15 checks failed: outcome"


def test_long_complaints_are_wrapped_below_themselves():
    lines = str(Report("id", (Finding("make", "", (Problem("a\n" + "word " * 40, "cure " * 30),)),))).splitlines()
    assert len(lines) > 5 and all(len(line) <= 110 for line in lines)
    assert lines[1].startswith("  FAIL  make  a word word")
    assert all(line.startswith(" " * 14 + "word") for line in lines[2:3])


def test_speed_is_told_and_never_judged(monkeypatch):
    (speed,) = [finding for finding in check_env(DOT).findings if finding.check == "speed"]
    assert re.fullmatch(r"[\d,]+ resets/s, [\d,]+ steps/s in one process, for information", speed.content)
    made: list[int] = []
    make, most = envs.check.make, [10_000]

    def make_that_fails_in_the_end(*args, **kwargs):
        if len(made) == most[0]:
            raise OSError("no licence left")
        made.append(1)
        return make(*args, **kwargs)

    monkeypatch.setattr(envs.check, "make", make_that_fails_in_the_end)
    check_env(DOT)
    most[0] = len(made) - 1  # the last one is made to be timed
    made.clear()
    report = check_env(DOT)
    assert report.passed and report.findings[-1].content == "not measured: OSError: no licence left"


def test_an_environment_that_cannot_be_made_is_a_finding():
    report = check_env("numberline")
    assert not report.passed
    assert [finding.check for finding in report.findings] == ["make"]
    assert "did you mean 'gym_cards/NumberLine-v0'" in report.findings[0].problems[0].what


def test_anything_that_a_function_makes_can_be_checked():
    def make_dots():
        return envs.make(DOT, prompt=PromptSwitches(key_state=False, memory=1))

    report = check_env(make_dots)
    assert report.passed, str(report)
    assert report.env_id.endswith("make_dots")
    failed = check_env(lambda: envs.make("numberline"))
    assert [finding.check for finding in failed.findings] == ["make"]


def test_the_kit_can_be_run_under_switches():
    assert check_env(DOT, prompt=PromptSwitches(key_state=False)).passed
    report = check_env(DOT, prompt=PromptSwitches(formula=False))
    assert "prompt.formula=False means nothing to" in report.findings[0].problems[0].what


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


def tell_the_past(self, observation, info):
    return f"The dot was {info['side']}."


def full_prompt(self, observation, info):
    return 'Left or right? {"dot": "<side>", "action": "<left or right>"}'


def full_expert(self, info, rng, noise=0.0):
    return json.dumps({"dot": info["side"], "action": self.noisy(info["side"], info, rng, noise)})


def mute_expert(self, info, rng, noise=0.0):
    if self.switches == PromptSwitches(memory=0):
        return full_expert(self, info, rng, noise)
    raise KeyError("dot")


def leak_when_turned(self, observation, info):
    return DotTask_prompt(self, observation, info) + ("" if self.switches.key_state else f" It is {info['side']}.")


def half_blind(self, observation, info):
    return observation if info["side"] == "left" else None


DotTask_prompt = DotTask.prompt

TASK_FAULTS = {
    "one name short": ("actions", "action_names", ("left",), "1 names for 2 actions"),
    "names twice": ("actions", "action_names", ("left", "left"), "different names"),
    "names alike": ("parser", "action_names", ("left", "LEFT"), "would be read as"),
    "blank name": ("parser", "action_names", ("left", " "), "action ' ' would be read as []"),
    "fallback is no text": ("parser", "fallback", lambda self, value, info: 0, "fallback('') gives 0"),
    "fallback is refused": ("parser", "fallback", lambda self, value, info: "up", "'up' is no action"),
    "recall is no text": ("memory", "recall", lambda self, observation, info: observation, "recall gives array"),
    "unknown switch": ("switches", "switchable", {"keystate"}, "'keystate', which is no switch"),
    "switch without effect": ("switches", "switchable", {"formula"}, "with formula=false: nothing changes"),
    "field left in the prompt": ("switches", "prompt", full_prompt, "key_state=false: the prompt still asks for 'dot'"),
    "field left in the answer": ("switches", "expert", full_expert, "the expert's response still has 'dot'"),
    "expert that fails": ("switches", "expert", mute_expert, "raised KeyError"),
    "truth is no text": ("outcome", "truth", lambda self, info: {"dot": 1}, "truth gives {'dot': 1}"),
    "image now and then": (
        "image",
        "image",
        lambda self, o, info: o if info["side"] == "left" else None,
        "some states",
    ),
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
    "task is no text": ("outcome", "task", lambda self, info: 1, "task must give a str"),
    "success is no bool": ("outcome", "success", lambda self, total, info: total, "success must give a bool"),
}


@pytest.mark.parametrize("fault", TASK_FAULTS)
def test_a_faulty_adapter_is_found_out(fault, monkeypatch):
    check, name, replacement, message = TASK_FAULTS[fault]
    monkeypatch.setattr(DotTask, name, replacement)
    assert message in details(check_env(DOT))[check]


def test_a_leak_under_a_switch_is_found_out(monkeypatch):
    monkeypatch.setattr(DotTask, "prompt", leak_when_turned)
    assert check_env(DOT).passed, "without the field there is nothing to be read off"
    monkeypatch.setattr(DotTask, "recognition", lambda self, info: {"dot": info["side"]})
    monkeypatch.setattr(DotTask, "expert", full_expert)
    assert "with key_state=false: the prompt tells 'dot'" in details(check_env(DOT))["switches"]


class OneSide(DotEnv):
    """The dot stays on its side for the whole episode, so that the past tells the present."""

    def _next(self):
        if self.left == 3:
            self.kept = int(self.np_random.integers(2))
        self.side = self.kept
        return self.observation_space.sample() * 0, {"side": ("left", "right")[self.side]}


class OneSideTask(DotTask):
    env_id = "tests.envs.test_check:OneSide"
    recall = tell_the_past


def test_a_memory_that_tells_what_is_to_be_read_is_found_out():
    failed = details(check_env(OneSideTask.env_id, adapter="tests.envs.test_check:OneSideTask"))
    assert list(failed) == ["memory"] and "the prompt tells 'dot'" in failed["memory"]


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


def test_a_leak_among_mentions_of_the_very_values_is_found_out(monkeypatch):
    prompt = "The dot is {side}. Press left or right."
    monkeypatch.setattr(DotTask, "prompt", lambda self, observation, info: prompt.format(**info))
    assert "tells 'dot'" in details(check_env(DOT))["prompt"]


def details(report):
    """Check name -> what is wrong, and the cures, of the failed checks."""
    failed = [finding for finding in report.findings if not finding.passed]
    return {finding.check: " ".join(f"{p.what}; {p.cure}" for p in finding.problems) for finding in failed}
