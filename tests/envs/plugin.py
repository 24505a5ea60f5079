"""An installed package's part: the function that its `croupier.envs` entry point names."""

from envs import register
from tests.envs.user_env import DotTask

ENV_ID = "plugin/Dot-v0"


class PluginTask(DotTask):
    env_id = ENV_ID


def register_envs():
    register(ENV_ID, env="tests.envs.user_env:DotEnv", adapter="tests.envs.plugin:PluginTask", max_episode_steps=50)


def broken():
    raise OSError("no asset folder")
