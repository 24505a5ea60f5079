"""Conformance kit: does an environment with its adapter keep the contract that rollouts rely on?

`croupier check-env ID` prints the report, tests assert on it. It plays random episodes only; it does not
judge whether a task is well posed or an expert any good.
"""

import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
from gymnasium.utils import env_checker
from gymnasium.utils.env_checker import data_equivalence

from envs.base import TaskAdapter
from envs.check_report import Finding, Problem, Report
from envs.check_switches import check_switches
from envs.check_task import check_actions, check_expert, check_image, check_outcome, check_parser, check_prompt
from envs.memory import EpisodeMemory
from envs.mixture import Mixture
from envs.registry import make
from envs.switches import PromptSwitches
from envs.walk import EndlessEpisode, Visit, walk

Problems = list[Problem]
Maker = Callable[[], tuple[gymnasium.Env, TaskAdapter]]
"""Builds an environment anew, with its adapter."""

_MEMORY = 2


@dataclass(frozen=True)
class _Subject:
    """What the checks look at: a way to make the environment anew, and how to play it."""

    make: Maker
    seed: int
    episodes: int


def check_env(
    env: str | Maker,
    *,
    adapter: str | None = None,
    prompt: PromptSwitches | None = None,
    episodes: int = 10,
    seed: int = 0,
    **kwargs: Any,
) -> Report:
    """Check a registered or a user's environment, or whatever a function makes, such as a mixture.

    Args:
        env: an id as for `envs.make`, as are `adapter`, `prompt` and `kwargs`; or a function without arguments that
            returns a new environment with its adapter (the other three are not used then).
        episodes: random episodes played for each check that plays.
        seed: of environment and random play.

    Returns:
        A report. Faults of the environment, whatever they raise, are findings, never exceptions.
    """
    if isinstance(env, str):
        name, env_id = env, env
        subject = _Subject(lambda: make(env_id, adapter=adapter, prompt=prompt, **kwargs), seed, episodes)
    else:
        name = getattr(env, "__qualname__", type(env).__name__)
        subject = _Subject(env, seed, episodes)
    visits: list[Visit] = []
    findings = [_judge("make", lambda: _makes(subject), "environment and adapter load")]
    if findings[0].passed:
        findings.append(_judge("gymnasium", lambda: _gymnasium(subject), "gymnasium's checker is content"))
        content = f"{episodes} random episodes end"
        findings.append(_judge("episodes", lambda: _episodes(subject, visits), content))
        if findings[-1].passed:
            findings += _play_findings(subject, visits)
    return Report(name, tuple(findings))


def _play_findings(subject: _Subject, visits: list[Visit]) -> list[Finding]:
    """Checks that need episodes which end; `visits` are states met in such."""
    env, task = subject.make()
    env.close()
    space, seed = env.action_space, subject.seed
    turned = f"all combinations of {', '.join(sorted(task.switchable))}" if task.switchable else "the task names none"
    return [
        _judge("seeding", lambda: _seeding(subject), "the seed alone decides, per instance"),
        _judge("copies", lambda: _copies(subject), "observations and infos do not change afterwards"),
        _judge("after end", lambda: _after_end(subject), "a step after the end raises"),
        _judge("actions", lambda: check_actions(task, visits, space), "named, within the action space"),
        _judge("parser", lambda: check_parser(task, visits), "every legal name is read back as itself"),
        _judge("prompt", lambda: check_prompt(task, visits), "text that keeps the hidden state"),
        _judge("image", lambda: check_image(task, visits), "uint8 [H, W, 3], or none"),
        _judge("expert", lambda: check_expert(task, visits, seed), "one JSON object, legal, true values"),
        _judge("switches", lambda: check_switches(task, visits, seed), turned),
        _judge("memory", lambda: _memory(subject), "past steps are told, and nothing hidden with them"),
        _judge("outcome", lambda: check_outcome(task, visits), "success is a bool, task and truth are text"),
        Finding("speed", _speed(subject)),
    ]


def _judge(name: str, check: Callable[[], Problems], content: str) -> Finding:
    """Run one check of foreign code, where any exception is a finding."""
    try:
        problems = check()
    except Exception as error:
        problems = [Problem(f"raised {type(error).__name__}: {error}", "")]
    return Finding(name, content, tuple(problems))


def _makes(subject: _Subject) -> Problems:
    env, _ = subject.make()
    env.close()
    return []


def _gymnasium(subject: _Subject) -> Problems:
    """A mixture takes actions of the component that is playing only, so its components are checked in its place."""
    env, _ = subject.make()
    bare = env.unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on style, such as normalised spaces, not on the contract
        for part in bare.envs if isinstance(bare, Mixture) else (bare,):
            env_checker.check_env(part.unwrapped, skip_render_check=True)
    env.close()
    return []


def _episodes(subject: _Subject, visits: list[Visit]) -> Problems:
    """Play, and leave copies of the states in `visits` for the checks that follow."""
    env, task = subject.make()
    for visit in walk(env, task, subject.seed, subject.episodes):
        visits.append(copy.deepcopy(visit))
        if visit.terminated and visit.truncated:
            return [Problem("a state is terminated and truncated at once", "a true end is only terminated")]
    env.close()
    return []


def _seeding(subject: _Subject) -> Problems:
    """Play alone, then again while a second instance with another seed plays in between."""
    (first, task), (second, _), (other, _) = subject.make(), subject.make(), subject.make()
    alone = list(walk(first, task, subject.seed, subject.episodes))
    meanwhile = walk(other, task, subject.seed + 1, subject.episodes)
    again: list[Visit] = []
    for visit in walk(second, task, subject.seed, subject.episodes):
        again.append(visit)
        next(meanwhile, None)
    for env in (first, second, other):
        env.close()
    for index, (one, two) in enumerate(zip(alone, again, strict=False)):
        if not _same(one, two):
            what = f"seed {subject.seed} played twice differs at state {index} (episode {one.episode})"
            return [Problem(what, "draw all chance from self.np_random, after super().reset(seed=seed)")]
    return []


def _copies(subject: _Subject) -> Problems:
    """Compare what was handed out with a copy taken at that moment, once everything has been played."""
    env, task = subject.make()
    pairs = [(visit, copy.deepcopy(visit)) for visit in walk(env, task, subject.seed, subject.episodes)]
    env.close()
    for kind in ("observation", "info"):
        if not all(data_equivalence(getattr(a, kind), getattr(b, kind), exact=True) for a, b in pairs):
            return [Problem(f"an {kind} changed after it was handed out", "return a copy")]
    return []


def _after_end(subject: _Subject) -> Problems:
    """Ask the bare environment: gymnasium's outer time limit is not its own rule and raises nothing."""
    env, task = subject.make()
    bare = env.unwrapped
    info: dict[str, Any] = {}
    try:
        for visit in walk(bare, task, subject.seed, episodes=1):
            info = visit.info
    except EndlessEpisode:
        return []  # only the outer limit ends its episodes
    try:
        bare.step(task.env_action(task.legal_actions(info)[0], info))
    except Exception:
        return []
    return [Problem("step() after the end of an episode returned", "raise gymnasium.error.ResetNeeded")]


def _memory(subject: _Subject) -> Problems:
    """Play with a memory of past steps, and look at the longer prompts as at the others."""
    env, task = subject.make()
    if not task.switches.memory and not isinstance(env.unwrapped, Mixture):  # whose components bring their own
        task.switches = replace(task.switches, memory=_MEMORY)
        env = EpisodeMemory(env, task)
    visits: list[Visit] = []
    for visit in walk(env, task, subject.seed, subject.episodes):
        words = task.recall(visit.observation, visit.info)
        if not isinstance(words, str):
            return [Problem(f"recall gives {words!r}", 'return a str, "" for nothing to tell')]
        visits.append(copy.deepcopy(visit))
    env.close()
    return check_prompt(task, visits)


class _Timed(gymnasium.Wrapper):
    """Takes the time of resets and steps."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.spent_s = {"resets": 0.0, "steps": 0.0}
        self.calls = {"resets": 0, "steps": 0}

    def reset(self, **kwargs: Any) -> Any:
        return self._take("resets", lambda: self.env.reset(**kwargs))

    def step(self, action: Any) -> Any:
        return self._take("steps", lambda: self.env.step(action))

    def _take(self, kind: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        self.spent_s[kind] += time.perf_counter() - began
        self.calls[kind] += 1
        return result


def _speed(subject: _Subject) -> str:
    """How fast the environment alone is, in words: information, never a failure."""
    try:
        env, task = subject.make()
        timed = _Timed(env)
        for _ in walk(timed, task, subject.seed, subject.episodes):
            pass
        env.close()
    except Exception as error:
        return f"not measured: {type(error).__name__}: {error}"
    rates = [f"{timed.calls[kind] / max(spent, 1e-9):,.0f} {kind}/s" for kind, spent in timed.spent_s.items()]
    return f"{', '.join(rates)} in one process, for information"


def _same(one: Visit, two: Visit) -> bool:
    return data_equivalence(vars(one), vars(two), exact=True)
