"""The language of the visual households: the words of the text games beside the rendered picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.alfworld.text_task import AlfworldTextTask


class AlfworldThorTask(AlfworldTextTask):
    """Language side of `alfworld/Thor-v0`; the picture is the observation."""

    env_id = "alfworld/Thor-v0"

    def image(self, observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
        """What the agent sees, uint8 [300, 300, 3]."""
        return observation
