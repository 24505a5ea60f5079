"""Errors of this package that are not the environment's own.

Misuse of a running environment uses gymnasium's vocabulary: `gymnasium.error.InvalidAction` for an illegal
action, `gymnasium.error.ResetNeeded` for a step before the first reset or after the end of an episode.
"""


class EnvError(Exception):
    """Base of every error defined in `envs`."""


class UnknownEnvError(EnvError, LookupError):
    """No environment is registered under the id."""


class EnvSetupError(EnvError, ValueError):
    """An environment or its adapter is known but cannot be loaded, or the two do not fit together."""


class ResetOptionsError(EnvError, ValueError):
    """`reset(options=...)` asked for a state that the rules cannot reach or the environment does not know."""
