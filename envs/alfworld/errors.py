"""Errors of the ALFWorld environments, and the advice where the optional packages are missing."""

from envs.errors import EnvError, EnvSetupError

INSTALL = (
    "ALFWorld is an optional extra and is not installed: run `pip install 'croupier[alfworld]'` "
    "(it compiles two packages and needs a C++ compiler and make; Python 3.11 or 3.12)"
)


class GameFilesError(EnvSetupError):
    """A folder holds no playable games, or one of its files is damaged."""


class EngineError(EnvError, RuntimeError):
    """The text engine refused a game or broke while playing it."""


class GenerationError(EnvError, RuntimeError):
    """A scene of the wanted kind could not be built or not be solved."""
