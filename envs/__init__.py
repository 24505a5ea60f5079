"""Environments and their language: gymnasium environments, task adapters, registry, conformance kit.

Importing this package registers its environments with gymnasium; `make` gives an environment and its adapter.
It knows nothing of models, tokens, Ray or the rest of the system.
"""

from envs.base import Query, TaskAdapter
from envs.mixture import Component, mix
from envs.registry import known_ids, make, register
from envs.switches import PromptSwitches

__all__ = ["Component", "PromptSwitches", "Query", "TaskAdapter", "known_ids", "make", "mix", "register"]

# The outer limit of 300 steps is the original's; the games' own rules end every episode long before it.
register(
    "gym_cards/NumberLine-v0",
    env="envs.gym_cards.number_line:NumberLine",
    adapter="envs.gym_cards.number_line_task:NumberLineTask",
    max_episode_steps=300,
)
register(
    "gym_cards/EZPoints-v0",
    env="envs.gym_cards.ez_points:EZPoints",
    adapter="envs.gym_cards.ez_points_task:EZPointsTask",
    max_episode_steps=300,
)
register(
    "gym_cards/Blackjack-v0",
    env="envs.gym_cards.blackjack:Blackjack",
    adapter="envs.gym_cards.blackjack_task:BlackjackTask",
    max_episode_steps=300,
)
register(
    "gym_cards/Points24-v0",
    env="envs.gym_cards.points24:Points24",
    adapter="envs.gym_cards.points24_task:Points24Task",
    max_episode_steps=300,
)
register(
    "alfworld/Text-v0",
    env="envs.alfworld.text_env:AlfworldText",
    adapter="envs.alfworld.text_task:AlfworldTextTask",
)
register(
    "alfworld/Schematic-v0",
    env="envs.alfworld.text_env:AlfworldText",
    adapter="envs.alfworld.schematic_task:AlfworldSchematicTask",
)
register(
    "alfworld/Thor-v0",
    env="envs.alfworld.thor.env:AlfworldThor",
    adapter="envs.alfworld.thor.task:AlfworldThorTask",
)
