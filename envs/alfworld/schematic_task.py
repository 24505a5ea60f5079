"""The text games with a schematic picture beside the words."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.alfworld.schematic import draw
from envs.alfworld.text_task import AlfworldTextTask


class AlfworldSchematicTask(AlfworldTextTask):
    """Language side of `alfworld/Schematic-v0`: the words of the text games and a picture of what is in reach."""

    env_id = "alfworld/Schematic-v0"

    def image(self, observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
        """The schematic picture of this state, uint8 [300, 300, 3]."""
        return draw(info["view"])
