"""The generated households that a run's environment plays: made once, in view, before any process needs them."""

from __future__ import annotations

import gymnasium

import envs
from cluster.config.env import EnvConfig, SingleEnvConfig
from cluster.record.progress import RunProgress

_TEXT_ENV = "envs.alfworld.text_env:AlfworldText"


def generate_scenes(env: EnvConfig, progress: RunProgress) -> None:
    """Generate the named panels that the environment, or a component of the mixture, plays and that are not there yet.

    Without this, the first worker would generate them in silence while the others wait. On a cluster it serves the
    machine of the driver; point CROUPIER_CACHE to a shared folder, or every machine generates its own.

    Raises:
        envs.errors.EnvSetupError: ALFWorld is not installed.
        envs.alfworld.errors.GenerationError: a game could not be built, or another process took too long.
    """
    wanted = {_games(one) for one in (*env.mixture.values(), *([] if env.mixture else [env]))} - {None}
    if not wanted:
        return
    # The engine comes with it.
    from envs.alfworld.panels import PANELS, is_generated, panel_folder, panel_home
    from envs.alfworld.processes import usual_processes

    for name in (name for name in PANELS if name in wanted and not is_generated(panel_home(name))):
        with progress.phase(f"generate ALFWorld scenes, panel {name}", total=PANELS[name].games) as phase:
            panel_folder(name, usual_processes(), lambda count, total, phase=phase: phase.update(count))


def _games(env: SingleEnvConfig) -> str | None:
    """Where the games of an ALFWorld text environment come from; None for every other one."""
    if env.id not in envs.known_ids() or gymnasium.registry[env.id].entry_point != _TEXT_ENV:
        return None
    from envs.alfworld.sources import DEFAULT_GAMES

    return str(env.kwargs.get("games", DEFAULT_GAMES))
