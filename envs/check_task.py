"""Conformance checks of a task adapter, judged on states that random play has met.

Each check returns its problems, each with a cure; an empty list means that the adapter passed.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.base import TaskAdapter
from envs.walk import Visit

_LEAK_LIMIT = 0.5


def check_actions(task: TaskAdapter, visits: Sequence[Visit], space: gymnasium.Space) -> list[str]:
    """Legal actions are among the names, and what they stand for is in the action space."""
    names = task.action_names
    if not isinstance(names, tuple) or len(set(names)) != len(names):
        return [f"action_names must be a tuple of different names, not {names!r}"]
    if isinstance(space, gymnasium.spaces.Discrete) and len(names) != space.n:
        return [f"action_names has {len(names)} names for {space.n} actions; name all, in index order"]
    for visit in visits:
        for name in () if visit.ended else task.legal_actions(visit.info):
            if not isinstance(name, str) or not name or (names and name not in names):
                return [f"legal action {name!r} is not one of action_names"]
            if not space.contains(task.env_action(name, visit.info)):
                return [f"env_action({name!r}) gives {task.env_action(name, visit.info)!r}, outside {space}"]
    return []


def check_prompt(task: TaskAdapter, visits: Sequence[Visit]) -> list[str]:
    """Prompts are text, depend on the state alone, and do not tell what must be recognised."""
    prompts = [task.prompt(visit.observation, visit.info) for visit in visits]
    for visit, prompt in zip(visits, prompts, strict=True):
        if not isinstance(prompt, str) or not prompt.strip():
            return [f"prompt must be a non-empty str, not {prompt!r}"]
        if task.prompt(visit.observation, visit.info) != prompt:
            return ["prompt differs between two calls for one state; make it a function of its arguments"]
    truths = [task.recognition(visit.info) for visit in visits]
    told = list(zip(prompts, truths, strict=True))
    return [
        f"the prompt tells {key!r}, which recognition() wants read off the image; drop it from one of the two"
        for key in sorted(set().union(*truths))
        if _leak([(prompt, str(truth[key])) for prompt, truth in told if key in truth]) > _LEAK_LIMIT
    ]


def _leak(states: Sequence[tuple[str, str]]) -> float:
    """How much more often a value stands in prompts of its own state than in those of other values' states.

    0 for a constant prompt, whatever it mentions; 1 where every prompt tells its own value and no other.

    Args:
        states: (prompt, true value) of each state.
    """
    excess: list[float] = []
    for prompt, value in states:
        word = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)")
        others = {text for text, other in states if other != value}
        if others:
            elsewhere = sum(word.search(text) is not None for text in others) / len(others)
            excess.append((word.search(prompt) is not None) - elsewhere)
    return sum(excess) / len(excess) if excess else 0.0


def check_image(task: TaskAdapter, visits: Sequence[Visit]) -> list[str]:
    """Images are uint8 [H, W, 3]; a task has one in every state or in none."""
    images = [task.image(visit.observation, visit.info) for visit in visits]
    if all(image is None for image in images):
        return []
    for image in images:
        if not isinstance(image, np.ndarray):
            return [f"image must be an array in every state or None in every state, not {type(image)} in one"]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            found = f"{image.dtype} {list(image.shape)}"
            return [f"image must be uint8 [H, W, 3], not {found}; a task without pictures returns None"]
    return []


def check_expert(task: TaskAdapter, visits: Sequence[Visit], seed: int) -> list[str]:
    """The expert answers in one JSON object with a legal action and true values, however noisy it is."""
    rng = np.random.default_rng(seed)
    for visit in visits:
        for noise in () if visit.ended else (0.0, 1.0):
            text = task.expert(visit.info, rng, noise=noise)
            problem = _response_problem(text, task.legal_actions(visit.info), task.recognition(visit.info))
            if problem:
                return [f"expert said {text!r}: {problem}"]
    return []


def _response_problem(text: str, legal: Sequence[str], truth: dict[str, str]) -> str:
    """What is wrong with an expert's response; "" for nothing."""
    if not isinstance(text, str) or text.count("}") != 1 or not text.endswith("}"):
        return 'its only "}" must be its last character, sampling stops at the first'
    try:
        answer = json.loads(text)
    except ValueError as error:
        return f"not JSON ({error}); write it with json.dumps"
    if not isinstance(answer, dict) or not answer or list(answer)[-1] != "action":
        return 'the last key must be "action"'
    if text.lower().count('"action":') != 1:
        return '"action": must occur once, the parser reads from there'
    if answer["action"] not in legal:
        return f"action {answer['action']!r} is not legal, legal are {', '.join(map(repr, legal))}"
    for key, value in truth.items():
        if not isinstance(value, str) or _as_text(answer.get(key)) != value:
            return f"recognition() gives {value!r} for {key!r}, the response {answer.get(key)!r}"
    return ""


def check_outcome(task: TaskAdapter, visits: Sequence[Visit]) -> list[str]:
    """Finished episodes are successes or not, and belong to a named task."""
    for episode in range(visits[-1].episode + 1):
        played = [visit for visit in visits if visit.episode == episode]
        success = task.success(sum(visit.reward for visit in played), played[-1].info)
        if not isinstance(success, bool | np.bool_):
            return [f"success must give a bool, not {success!r}"]
        if not isinstance(task.task(played[-1].info), str):
            return [f'task must give a str ("" where there is only one), not {task.task(played[-1].info)!r}']
    return []


def _as_text(value: Any) -> str:
    """A JSON value as recognition() writes it: strings bare, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
