"""Conformance checks of a task adapter, judged on states that random play has met.

Each check returns its problems, each with a cure; an empty list means that the adapter passed.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.base import TaskAdapter
from envs.check_report import Problem
from envs.matching import names_in
from envs.walk import Visit

_LEAK_LIMIT = 0.5
_ILLEGAL_TEXTS = ("", "no such action", "\0\U0001f0a1\n" * 300)


def check_actions(task: TaskAdapter, visits: Sequence[Visit], space: gymnasium.Space) -> list[Problem]:
    """Legal actions are among the names, and what they stand for is in the action space."""
    names = task.action_names
    if not isinstance(names, tuple) or len(set(names)) != len(names):
        return [Problem(f"action_names is {names!r}", "make it a tuple of different names")]
    if isinstance(space, gymnasium.spaces.Discrete) and len(names) != space.n:
        return [Problem(f"action_names has {len(names)} names for {space.n} actions", "name all, in index order")]
    for visit in visits:
        for name in () if visit.ended else task.legal_actions(visit.info):
            if not isinstance(name, str) or not name or (names and name not in names):
                return [Problem(f"legal action {name!r} is not one of action_names", "let legal_actions choose there")]
            action = task.env_action(name, visit.info)
            if not space.contains(action):
                return [
                    Problem(f"env_action({name!r}) gives {action!r}, outside {space}", "return what env.step takes")
                ]
    return []


def check_parser(task: TaskAdapter, visits: Sequence[Visit]) -> list[Problem]:
    """Every legal action's name is read back as itself; texts that name none come to something that can be played."""
    seen: set[tuple[str, ...]] = set()
    for visit in visits:
        if visit.ended:
            continue
        adapter, legal = task.component(visit.info), tuple(task.legal_actions(visit.info))
        names = adapter.action_names or legal
        for name in legal if legal not in seen else ():
            found = names_in(name, names)
            if found != [name]:
                cure = "names must differ in more than letter case and blanks, and not be blank"
                return [Problem(f"a response with the legal action {name!r} would be read as {found}", cure)]
        seen.add(legal)
        for text in _ILLEGAL_TEXTS:
            played = task.fallback(text, visit.info)
            if played is not None and not isinstance(played, str):
                return [Problem(f"fallback({text[:20]!r}) gives {played!r}", "return None, or a text for env_action")]
            if played is not None:
                task.env_action(played, visit.info)
    return []


def check_prompt(task: TaskAdapter, visits: Sequence[Visit]) -> list[Problem]:
    """Prompts are text, depend on the state alone, and do not tell what must be recognised."""
    prompts: list[str] = []
    for visit in visits:
        prompt = task.query(visit.observation, visit.info).text
        if not isinstance(prompt, str) or not prompt.strip():
            return [Problem(f"prompt is {prompt!r}", "return a non-empty str")]
        if task.query(visit.observation, visit.info).text != prompt:
            return [Problem("prompt differs between two calls for one state", "make it a function of its arguments")]
        prompts.append(prompt)
    truths = [task.recognition(visit.info) for visit in visits]
    told = list(zip(_steps(visits), prompts, truths, strict=True))
    return [
        Problem(
            f"the prompt tells {key!r}, which recognition() wants read off the image", "drop it from one of the two"
        )
        for key in sorted(set().union(*truths))
        if _leak([(step, prompt, str(truth[key])) for step, prompt, truth in told if key in truth]) > _LEAK_LIMIT
    ]


def _steps(visits: Sequence[Visit]) -> list[int]:
    """How many steps lie before each state in its episode."""
    steps: list[int] = []
    for before, visit in zip((None, *visits), visits, strict=False):
        steps.append(steps[-1] + 1 if before is not None and before.episode == visit.episode else 0)
    return steps


def _leak(states: Sequence[tuple[int, str, str]]) -> float:
    """How many times more a value stands in prompts of its own state than in those of other values' states.

    0 for a constant prompt, whatever it mentions; 1 where every prompt tells its own value once, on top of what all
    of them mention. What one state adds or lacks counts as 1 at most. Compared are states after equally many steps,
    since a memory grows.

    Args:
        states: (steps before it, prompt, true value) of each state.
    """
    excess: list[float] = []
    for step, prompt, value in states:
        word = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)")
        others = {text for when, text, other in states if other != value and when == step}
        if others:
            elsewhere = sum(len(word.findall(text)) for text in others) / len(others)
            excess.append(min(max(len(word.findall(prompt)) - elsewhere, -1.0), 1.0))
    return sum(excess) / len(excess) if excess else 0.0


def check_image(task: TaskAdapter, visits: Sequence[Visit]) -> list[Problem]:
    """Images are uint8 [H, W, 3]; every task has one in all of its states or in none."""
    with_image: dict[TaskAdapter, bool] = {}
    for visit in visits:
        image, adapter = task.picture(visit.observation, visit.info), task.component(visit.info)
        if with_image.setdefault(adapter, image is not None) != (image is not None):
            return [Problem("there is an image in some states only", "return an array in every state, or always None")]
        if image is None:
            continue
        if not isinstance(image, np.ndarray):
            return [Problem(f"image is a {type(image).__name__}", "return a uint8 array [H, W, 3]")]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            cure = "return uint8 [H, W, 3]; a task without pictures returns None"
            return [Problem(f"image is {image.dtype} {list(image.shape)}", cure)]
    return []


def check_expert(task: TaskAdapter, visits: Sequence[Visit], seed: int) -> list[Problem]:
    """The expert answers in one JSON object with a legal action and true values, however noisy it is."""
    rng = np.random.default_rng(seed)
    for visit in visits:
        for noise in () if visit.ended else (0.0, 1.0):
            text = task.expert(visit.info, rng, noise=noise)
            problem = _response_problem(text, task.legal_actions(visit.info), task.recognition(visit.info))
            if problem is not None:
                return [Problem(f"expert said {text!r}: {problem.what}", problem.cure)]
    return []


def _response_problem(text: str, legal: Sequence[str], truth: Mapping[str, str]) -> Problem | None:
    """What is wrong with an expert's response."""
    if not isinstance(text, str) or text.count("}") != 1 or not text.endswith("}"):
        return Problem('its only "}" must be its last character', "keep it out of values: sampling stops at the first")
    try:
        answer = json.loads(text)
    except ValueError as error:
        return Problem(f"not JSON ({error})", "write it with json.dumps")
    if not isinstance(answer, dict) or not answer or list(answer)[-1] != "action":
        return Problem('the last key must be "action"', "put the action last, where the sampling stops")
    if text.lower().count('"action":') != 1:
        return Problem('"action": must occur once', "the parser reads from there")
    if answer["action"] not in legal:
        return Problem(f"action {answer['action']!r} is not legal", f"legal are {', '.join(map(repr, legal))}")
    for key, value in truth.items():
        if not isinstance(value, str) or _as_text(answer.get(key)) != value:
            what = f"recognition() gives {value!r} for {key!r}, the response {answer.get(key)!r}"
            return Problem(what, "let both give the same text")
    return None


def check_outcome(task: TaskAdapter, visits: Sequence[Visit]) -> list[Problem]:
    """Finished episodes are successes or not, and belong to a named task; the truth of every state is text."""
    for visit in visits:
        truth = task.truth(visit.info)
        if not isinstance(truth, dict) or not all(isinstance(text, str) for pair in truth.items() for text in pair):
            return [Problem(f"truth gives {truth!r}", "return a dict from str to str")]
    for episode in range(visits[-1].episode + 1):
        played = [visit for visit in visits if visit.episode == episode]
        success = task.success(sum(visit.reward for visit in played), played[-1].info)
        if not isinstance(success, bool | np.bool_):
            return [Problem(f"success must give a bool, not {success!r}", "compare with a number")]
        name = task.task(played[-1].info)
        if not isinstance(name, str):
            return [Problem(f"task must give a str, not {name!r}", 'return "" where there is only one')]
    return []


def _as_text(value: Any) -> str:
    """A JSON value as recognition() writes it: strings bare, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
