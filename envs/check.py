"""Conformance kit: does an environment with its adapter keep the contract that rollouts rely on?

`croupier check-env ID` prints the report, tests assert on it. It plays random episodes only; it does not
judge whether a task is well posed or an expert any good.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.utils import env_checker
from gymnasium.utils.env_checker import data_equivalence

from envs.base import TaskAdapter
from envs.check_task import check_actions, check_expert, check_image, check_outcome, check_prompt
from envs.registry import make
from envs.walk import EndlessEpisode, Visit, walk

Problems = list[str]


@dataclass(frozen=True)
class Finding:
    """Verdict of one check; `detail` says what is wrong, or what was looked at."""

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """All findings about one environment; `str(report)` is a table for people."""

    env_id: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """True when no check failed."""
        return all(finding.passed for finding in self.findings)

    def __str__(self) -> str:
        """One line per finding, failures marked."""
        marks = ("FAIL", "ok  ")
        lines = [f"{marks[item.passed]}  {item.check:<10}  {item.detail}" for item in self.findings]
        failed = sum(not item.passed for item in self.findings)
        verdict = f"{failed} of {len(lines)} checks failed" if failed else f"all {len(lines)} checks passed"
        return "\n".join([self.env_id, *lines, verdict])


@dataclass(frozen=True)
class _Subject:
    """What the checks look at: a way to make the environment anew, and how to play it."""

    make: Callable[[], tuple[gymnasium.Env, TaskAdapter]]
    seed: int
    episodes: int


def check_env(env_id: str, *, adapter: str | None = None, episodes: int = 10, seed: int = 0, **kwargs: Any) -> Report:
    """Check a registered or a user's environment.

    Args:
        env_id: as for `envs.make`, as are `adapter` and `kwargs`.
        episodes: random episodes played for each check that plays.
        seed: of environment and random play.

    Returns:
        A report. Faults of the environment, whatever they raise, are findings, never exceptions.
    """
    subject = _Subject(lambda: make(env_id, adapter=adapter, **kwargs), seed, episodes)
    visits: list[Visit] = []
    findings = [_judge("make", lambda: _makes(subject), "environment and adapter load")]
    if findings[0].passed:
        findings.append(_judge("gymnasium", lambda: _gymnasium(subject), "gymnasium's checker is content"))
        content = f"{episodes} random episodes end"
        findings.append(_judge("episodes", lambda: _episodes(subject, visits), content))
        if findings[-1].passed:
            findings += _play_findings(subject, visits)
    return Report(env_id, tuple(findings))


def _play_findings(subject: _Subject, visits: list[Visit]) -> list[Finding]:
    """Checks that need episodes which end; `visits` are states met in such."""
    env, task = subject.make()
    env.close()
    space, seed = env.action_space, subject.seed
    return [
        _judge("seeding", lambda: _seeding(subject), "the seed alone decides, per instance"),
        _judge("copies", lambda: _copies(subject), "observations and infos do not change afterwards"),
        _judge("after end", lambda: _after_end(subject), "a step after the end raises"),
        _judge("actions", lambda: check_actions(task, visits, space), "named, within the action space"),
        _judge("prompt", lambda: check_prompt(task, visits), "text that keeps the hidden state"),
        _judge("image", lambda: check_image(task, visits), "uint8 [H, W, 3], or none"),
        _judge("expert", lambda: check_expert(task, visits, seed), "one JSON object, legal, true values"),
        _judge("outcome", lambda: check_outcome(task, visits), "success is a bool, task a name"),
    ]


def _judge(name: str, check: Callable[[], Problems], content: str) -> Finding:
    """Run one check of foreign code, where any exception is a finding."""
    try:
        problems = check()
    except Exception as error:
        problems = [f"raised {type(error).__name__}: {error}"]
    return Finding(name, not problems, "; ".join(problems) or content)


def _makes(subject: _Subject) -> Problems:
    env, _ = subject.make()
    env.close()
    return []


def _gymnasium(subject: _Subject) -> Problems:
    env, _ = subject.make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on style, such as normalised spaces, not on the contract
        env_checker.check_env(env.unwrapped, skip_render_check=True)
    env.close()
    return []


def _episodes(subject: _Subject, visits: list[Visit]) -> Problems:
    """Play, and leave copies of the states in `visits` for the checks that follow."""
    env, task = subject.make()
    for visit in walk(env, task, subject.seed, subject.episodes):
        visits.append(copy.deepcopy(visit))
        if visit.terminated and visit.truncated:
            return ["a state is terminated and truncated at once; a true end is only terminated"]
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
            return [
                f"seed {subject.seed} played twice differs at state {index} (episode {one.episode}); "
                "draw all chance from self.np_random, after super().reset(seed=seed)"
            ]
    return []


def _copies(subject: _Subject) -> Problems:
    """Compare what was handed out with a copy taken at that moment, once everything has been played."""
    env, task = subject.make()
    pairs = [(visit, copy.deepcopy(visit)) for visit in walk(env, task, subject.seed, subject.episodes)]
    env.close()
    for kind in ("observation", "info"):
        if not all(data_equivalence(getattr(a, kind), getattr(b, kind), exact=True) for a, b in pairs):
            return [f"an {kind} changed after it was handed out; return a copy"]
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
    return ["step() after the end of an episode returned; raise gymnasium.error.ResetNeeded"]


def _same(one: Visit, two: Visit) -> bool:
    return data_equivalence(vars(one), vars(two), exact=True)
