"""Press the side on which the dot is, three times: an environment, and the adapter that puts it into words."""

import json

import gymnasium
import numpy as np

from envs import TaskAdapter


class DotEnv(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 3
        return self._next()

    def step(self, action):
        if self.left == 0:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset()")
        self.left -= 1
        reward = 1.0 if action == self.side else -1.0
        observation, info = self._next()
        return observation, reward, self.left == 0, False, info

    def _next(self):
        self.side = int(self.np_random.integers(2))
        picture = np.full((64, 64, 3), 255, np.uint8)
        picture[24:40, 8 + 32 * self.side : 24 + 32 * self.side] = (200, 30, 30)
        return picture, {"side": ("left", "right")[self.side]}


class DotTask(TaskAdapter):
    env_id = "docs.examples.dots:DotEnv"
    action_names = ("left", "right")
    switchable = frozenset({"key_state"})  # env.prompt.key_state=false turns off ...
    key_fields = ("dot",)  # ... this field

    def prompt(self, observation, info):
        form = {"dot": "<side>", "action": "<left or right>"}
        return f"Is the dot left or right? Answer as JSON: {json.dumps(self.kept(form))}"

    def expert(self, info, rng, noise=0.0):
        return json.dumps(self.kept({"dot": info["side"], "action": self.noisy(info["side"], info, rng, noise)}))

    def recognition(self, info):
        return self.kept({"dot": info["side"]})
