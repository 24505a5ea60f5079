"""Conformance check of the switches that a task says it honours: each does something, and none breaks the rest."""

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import combinations
from typing import Any

import numpy as np

from envs.base import TaskAdapter
from envs.check_report import Problem
from envs.check_task import check_expert, check_image, check_prompt
from envs.errors import EnvSetupError
from envs.switches import EVERY_TASK, PromptSwitches
from envs.walk import Visit

TURNABLE = {field.name: not field.default for field in fields(PromptSwitches) if field.name not in EVERY_TASK}
"""Switches that a task may honour, and what turning each one sets it to."""


def check_switches(task: TaskAdapter, visits: Sequence[Visit], seed: int) -> list[Problem]:
    """Turn every combination of the task's switches; what must hold for the full prompt must hold for each."""
    unknown = sorted(set(task.switchable) - set(TURNABLE) - EVERY_TASK)
    if unknown:
        return [Problem(f"switchable names {unknown[0]!r}, which is no switch", f"name some of {', '.join(TURNABLE)}")]
    full = with_switches(task, PromptSwitches(memory=0))
    for switches in honoured(task):
        turned = with_switches(task, switches)
        found = [name for name, value in TURNABLE.items() if getattr(switches, name) == value]
        problems = (
            check_prompt(turned, visits)
            or check_expert(turned, visits, seed)
            or check_image(turned, visits)
            or _left_over(turned, visits)
            or (_without_effect(full, turned, visits, found[0]) if len(found) == 1 else [])
        )
        if problems:
            setting = ", ".join(f"{name}={str(TURNABLE[name]).lower()}" for name in found)
            return [Problem(f"with {setting}: {problem.what}", problem.cure) for problem in problems]
    return []


def honoured(task: TaskAdapter) -> Iterator[PromptSwitches]:
    """Every combination of the task's switches but the full prompt, those that contradict each other left out."""
    names = [name for name in TURNABLE if name in task.switchable]
    for count in range(1, len(names) + 1):
        for turned in combinations(names, count):
            values: dict[str, Any] = {name: TURNABLE[name] for name in turned}
            try:
                yield PromptSwitches(memory=0, **values)
            except EnvSetupError:
                continue


def with_switches(task: TaskAdapter, switches: PromptSwitches) -> TaskAdapter:
    """The same adapter under other switches."""
    turned = copy.copy(task)
    turned.switches = switches
    return turned


def _left_over(task: TaskAdapter, visits: Sequence[Visit]) -> list[Problem]:
    """Fields that the switches turn off and that prompt or response still have."""
    switches = task.switches
    dropped = [] if switches.key_state else list(task.key_fields)
    dropped += [] if switches.thoughts else ["thoughts"]
    rng = np.random.default_rng(0)
    for visit in visits:
        if visit.ended:
            continue
        query, response = task.query(visit.observation, visit.info), task.expert(visit.info, rng)
        for key in dropped:
            if key in json.loads(response):
                return [Problem(f"the expert's response still has {key!r}", "pass its fields through kept()")]
            if json.dumps(key) in query.text:
                return [Problem(f"the prompt still asks for {key!r}", "pass the form of the answer through kept()")]
        if switches.text_only and query.images:
            return [Problem("there still is a picture", "leave picture() as it is, or heed switches.text_only there")]
    return []


def _without_effect(full: TaskAdapter, turned: TaskAdapter, visits: Sequence[Visit], name: str) -> list[Problem]:
    """Whether the policy meets the same prompts, pictures and answers as with the full prompt."""
    if name == "text_only" and all(full.picture(visit.observation, visit.info) is None for visit in visits):
        return []  # honoured already
    if any(_shown(full, visit) != _shown(turned, visit) for visit in visits):
        return []
    return [Problem("nothing changes", f"heed switches.{name} in prompt() and expert(), or drop it from switchable")]


def _shown(task: TaskAdapter, visit: Visit) -> tuple[str, int, str]:
    query = task.query(visit.observation, visit.info)
    response = "" if visit.ended else task.expert(visit.info, np.random.default_rng(0))
    return query.text, len(query.images), response
