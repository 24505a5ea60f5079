"""An environment whose every state is told by its prompt and by its picture, a sampler that reads it there, and a
worker on top of both."""

import asyncio
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from actors.sampler import Sample, SampleRequest
from actors.scripted import ScriptedSampler
from actors.vocabulary import Vocabulary
from envs import TaskAdapter

SIZE = (28, 28)
State = tuple[int, int]
"""Name of the episode, drawn at its reset, and how far it has counted."""


class CountingEnv(gymnasium.Env):
    """Every step counts one further and pays the new count; "finish" terminates and pays 10 in its place.

    Truncated at `limit`, which "finish" may reach as well. "crash" raises.
    """

    observation_space = gymnasium.spaces.Box(0, 255, (*SIZE, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, limit: int = 3, journal: list[Any] | None = None) -> None:
        self.limit = limit
        self.journal: list[Any] = [] if journal is None else journal
        self.name = self.count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.name, self.count = int(self.np_random.integers(60_000)), 0
        self.journal.append(("reset", seed))
        return self._show()

    def step(self, action):
        self.journal.append((CountingTask.action_names[action], self.name, self.count))
        if action == 2:
            raise ConnectionResetError("the simulator is gone")
        self.count += 1
        observation, info = self._show()
        reward = 10.0 if action == 1 else float(self.count)
        return observation, reward, action == 1, self.count == self.limit, info

    def close(self):
        self.journal.append("close")

    def _show(self):
        picture = np.zeros((*SIZE, 3), np.uint8)
        picture[0, 0] = (self.name // 256, self.name % 256, self.count)
        return picture, {"name": self.name, "count": self.count}


class CountingTask(TaskAdapter):
    """ "finish" is not legal in the first state of an episode."""

    env_id = "test/Counting-v0"
    action_names = ("next", "finish", "crash")

    def prompt(self, observation, info):
        return f"episode {info['name']} count {info['count']}"

    def legal_actions(self, info):
        return ("next", "finish") if info["count"] else ("next",)

    def expert(self, info, rng, noise=0.0):
        return say(self.noisy("next", info, rng, noise), count=str(info["count"]))

    def recognition(self, info):
        return {"count": str(info["count"])}

    def task(self, info):
        return "odd" if info["name"] % 2 else "even"


class CrashingTask(CountingTask):
    """The same where "crash" is legal in every state."""

    def legal_actions(self, info):
        return ("next", "finish", "crash")


def say(action: str, **fields: str) -> str:
    return json.dumps({**fields, "action": action})


class CountingSampler(ScriptedSampler):
    """Answers by the state that the request's prompt tells; keeps the requests and the sizes of the batches.

    Args:
        folder: Model folder.
        answer: From the state and the request to the text.
        image_tokens: Ids that one image takes in the prompt as this "model" sees it.
    """

    def __init__(
        self, folder: Path, answer: Callable[[State, SampleRequest], str], image_tokens: int = 4, pause_s: float = 0.0
    ) -> None:
        self.vocabulary = Vocabulary.from_folder(folder)
        self.requests: list[SampleRequest] = []
        self.batches: list[int] = []
        self.in_flight = self.most_in_flight = 0
        self._image_tokens = image_tokens
        self._pause_s = pause_s
        super().__init__(lambda r: answer(told_state(self.vocabulary, r.prompt_token_ids), r), self.vocabulary)

    async def sample(self, request: SampleRequest) -> Sample:
        self.requests.append(request)
        sample = await super().sample(request)
        ids = np.asarray(request.prompt_token_ids, dtype=np.int32)
        repeats = np.where(ids == self.vocabulary.image_token_id, self._image_tokens, 1)
        return replace(sample, prompt_token_ids=np.repeat(ids, repeats))

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        self.batches.append(len(requests))
        self.in_flight += len(requests)
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self._pause_s)
        self.in_flight -= len(requests)
        return [await self.sample(request) for request in requests]


def told_state(vocabulary: Vocabulary, token_ids: Sequence[int] | np.ndarray) -> State:
    """The state that a prompt tells."""
    text = vocabulary.decode(np.asarray(token_ids).tolist())
    match = re.search(r"episode (\d+) count (\d+)", text)
    assert match is not None, text
    return int(match[1]), int(match[2])


def picture_of(png: bytes) -> State:
    """The state that a picture shows."""
    high, low, count = np.asarray(Image.open(io.BytesIO(png)))[0, 0].tolist()
    return 256 * high + low, count


def onward(state: State, request: SampleRequest) -> str:
    """Never finishes of its own accord."""
    return say("next", count=str(state[1]))


def mixed(state: State, request: SampleRequest) -> str:
    """Finishes some episodes, leaves others to the limit, sometimes says nothing of use."""
    name, count = state
    return "?" if name % 5 == 0 else say("finish" if count == 1 and name % 3 == 0 else "next", count=str(count))


def moody(state: State, request: SampleRequest) -> str:
    """Decides by the request's own seed, as a sampling engine does."""
    assert request.seed is not None
    mood = int(np.random.default_rng(request.seed).integers(4))
    return ("?", say("next"), say("next", count=str(state[1])), say("finish"))[mood]


def crash_at(place: int) -> Callable[[State, SampleRequest], str]:
    """Brings the environment down at one place of every episode."""
    return lambda state, request: say("crash" if state[1] == place else "next")
