# pyright: reportMissingImports=false
# (ai2thor is an optional extra: types are checked with and without it)
"""ALFWorld's THOR backend behind the `Simulator` protocol: the one file that needs ai2thor and its Unity build.

It blocks for as long as Unity likes and may never return, so it belongs in a process of its own (`process`). The
package's class for one household is used directly: the batch layer around it draws games from the global random
generator, waits without a deadline, and answers with the game before when a game fails.
"""

import os
import random
import shlex
from importlib.util import find_spec
from queue import Queue
from typing import Any

from envs.alfworld.game_files import TRAJ_FILE, GameFile
from envs.alfworld.thor.reading import read_state, thor_commands
from envs.alfworld.thor.state import FRAME_SHAPE, SimulatorError, SimulatorState
from envs.errors import EnvSetupError

PACKAGES = ("ai2thor", "alfworld", "cv2", "flask", "pandas", "torch", "torchvision", "werkzeug")
"""What the package's THOR modules import; torch only for a detector that the oracle controller never loads."""

INSTALL = (
    "ALFWorld's visual mode needs packages of its own: run `pip install 'alfworld[vis]==0.4.2' gymnasium` (it pins "
    "ai2thor==2.1.0 and werkzeug==2.0.3). Its opencv-python and the opencv-python-headless of vLLM both own the module "
    "cv2, so use a separate environment: `python3.11 -m venv thor`, install there, and name its bin/python in "
    "env.kwargs.python or $CROUPIER_THOR_PYTHON"
)

BUILD = "thor-201909061227-Linux64"
"""The Unity build that ai2thor 2.1.0 fetches into ~/.ai2thor/releases at its first start (about 390 MB)."""

ENDLESS = 10**9
"""The package's step limit, out of the way: it would end an episode two commands late and say that it is done."""

CONFIG: dict[str, Any] = {
    "env": {
        "goal_desc_human_anns_prob": 0.0,
        "thor": {
            "screen_height": FRAME_SHAPE[0],
            "screen_width": FRAME_SHAPE[1],
            "smooth_nav": False,
            "save_frames_to_disk": False,
            "save_frames_path": "",
        },
    },
    # As RL4VLM: teleport to known viewpoints; those of receps.json beside the game where there is one.
    "controller": {"type": "oracle", "load_receps": True, "debug": False},
    "general": {"training_method": "dqn"},
    "rl": {"training": {"max_nb_steps_per_episode": ENDLESS}},
}


def missing_packages() -> list[str]:
    """What this interpreter lacks for `ThorSimulator`; imports nothing."""
    return [name for name in PACKAGES if find_spec(name) is None]


class ThorSimulator:
    """One Unity process with one household in it.

    Args:
        unity: path of the Unity executable; "" for the build that ai2thor fetches.
        display: X display to draw on, like ":0"; "" for $DISPLAY, or ":0.0" if that is unset.

    Raises:
        EnvSetupError: packages are missing.
        SimulatorError: Unity could not be started.
    """

    def __init__(self, unity: str = "", display: str = "") -> None:
        if display:
            os.environ["DISPLAY"] = display
        household = _household_class(unity)
        # "eval": in its training mode the package also runs its own player at every step.
        self._household: Any = household(Queue(), "eval")
        try:
            self._household.init_env(CONFIG)
        except Exception as error:
            raise SimulatorError(
                f"{unity or BUILD} did not start on display {os.environ.get('DISPLAY', ':0.0')}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def start(self, game: GameFile) -> SimulatorState:
        """Load the scene and the task of a game.

        Raises:
            SimulatorError: the game's traj_data.json describes no THOR scene, or the simulator broke.
        """
        # The package draws one of two wordings of the task; the same game shall always have the same.
        random.seed(game.key)
        household = self._household
        try:
            household.reset(str(game.path.parent / TRAJ_FILE))
            # Where no file knows the viewpoints, the package has just visited them all; the episode begins where
            # the task says.
            household.env.step(dict(household.traj_data["scene"]["init_action"]))
            return self._state()
        except Exception as error:
            raise SimulatorError(f"THOR cannot play {game.path.parent}: {type(error).__name__}: {error}") from error

    def send(self, command: str) -> SimulatorState:
        """Play a command in the wording of the text games.

        Raises:
            SimulatorError: the simulator broke.
        """
        try:
            for part in thor_commands(command, self._closed()):
                self._household.step(part)
            return self._state()
        except Exception as error:
            raise SimulatorError(f"THOR broke at {command!r}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """End Unity."""
        self._household.env.stop()

    def _closed(self) -> bool | None:
        """Whether the receptacle in front of the agent is shut; None where it has no door."""
        controller = self._household.controller
        ids = {place["num_id"]: place["object_id"] for place in controller.receptacles.values()}
        place = self._household.env.last_event.get_object(ids.get(controller.curr_recep))
        return not place["isOpen"] if place and place["openable"] else None

    def _state(self) -> SimulatorState:
        household, controller = self._household, self._household.controller
        names = [item["num_id"] for item in (*controller.receptacles.values(), *controller.objects.values())]
        results, frame = household.get_results(), household.get_last_frame()
        return read_state(results, frame, controller.curr_recep, self._closed(), names)


def _household_class(unity: str) -> Any:
    """The package's class; imported late, since the path of the build is bound when its modules are imported.

    Raises:
        EnvSetupError: packages are missing.
    """
    if lacking := missing_packages():
        raise EnvSetupError(f"{INSTALL}; missing is {', '.join(lacking)}")
    from alfworld.agents.environment import get_environment
    from alfworld.gen import constants

    constants.BUILD_PATH = shlex.quote(unity) if unity else None
    environment: Any = get_environment("AlfredThorEnv")
    return environment.Thor
