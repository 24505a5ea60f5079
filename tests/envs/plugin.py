"""An installed package's part: the function that its `croupier.envs` entry point names."""

from docs.examples.dots import DotTask
from envs import register

ENV_ID = "plugin/Dot-v0"


class PluginTask(DotTask):
    env_id = ENV_ID


def register_envs():
    register(ENV_ID, env="docs.examples.dots:DotEnv", adapter="tests.envs.plugin:PluginTask", max_episode_steps=50)


def broken():
    raise OSError("no asset folder")
