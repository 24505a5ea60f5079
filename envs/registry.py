"""From an id to an environment and its task adapter.

Known are the environments of this package, those that an installed package adds through the entry point
group `croupier.envs` (a function without arguments that calls `register`), and any `module:Class` that can
be imported. Code is imported only when its environment is made. Workers, evaluation and the command line all
come through here.
"""

import re
from difflib import get_close_matches
from functools import cache
from importlib import import_module, metadata
from types import ModuleType
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from envs.base import TaskAdapter
from envs.errors import EnvSetupError, UnknownEnvError
from envs.memory import EpisodeMemory
from envs.switches import PromptSwitches

ENTRY_POINT_GROUP = "croupier.envs"

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_adapters: dict[str, str] = {}  # env id -> "module:Class" of its adapter


def register(env_id: str, *, env: str, adapter: str, max_episode_steps: int | None = None) -> None:
    """Make an environment known to gymnasium and to `make`.

    Args:
        env_id: id in gymnasium's form, "namespace/Name-v0".
        env: "module:Class" of the gymnasium environment.
        adapter: "module:Class" of its TaskAdapter, whose `env_id` is this id.
        max_episode_steps: outer limit at which gymnasium truncates an episode; None for no limit.

    Raises:
        EnvSetupError: the id is taken, or a path is not of the form "module:Class".
    """
    for path in (env, adapter):
        _check_path(path)
    if env_id in _adapters:
        raise EnvSetupError(f"environment {env_id!r} is registered already; choose another name or version")
    gymnasium.register(env_id, entry_point=env, max_episode_steps=max_episode_steps)
    _adapters[env_id] = adapter


def known_ids() -> tuple[str, ...]:
    """Ids of all registered environments, entry points included, sorted."""
    _load_entry_points()
    return tuple(sorted(_adapters))


def make(
    env_id: str, *, adapter: str | None = None, prompt: PromptSwitches | None = None, **kwargs: Any
) -> tuple[gymnasium.Env, TaskAdapter]:
    """Make an environment and the adapter that speaks for it.

    Args:
        env_id: a registered id, or "module:Class" of an importable gymnasium environment.
        adapter: "module:Class" of the adapter. By default the one it was registered with; for a
            "module:Class" environment the TaskAdapter in the same module whose `env_id` is that very string.
        prompt: variant of the task's language; by default the full prompt.
        kwargs: for the environment's constructor and `gymnasium.make` (`render_mode`, `max_episode_steps`).

    Raises:
        UnknownEnvError: nothing is registered under the id.
        EnvSetupError: environment or adapter cannot be loaded, they do not belong together, or the task does not
            honour a switch of `prompt`.
    """
    adapter_class = _adapter_class(env_id, adapter)
    task = adapter_class()
    if getattr(task, "env_id", None) != env_id:
        raise EnvSetupError(
            f"adapter {adapter_class.__module__}:{adapter_class.__qualname__} is for "
            f"{getattr(task, 'env_id', None)!r}, not for {env_id!r}; set its env_id"
        )
    task.switches = (prompt or PromptSwitches()).check(env_id, task.switchable, task.default_memory)
    env = gymnasium.make(EnvSpec(env_id, entry_point=env_id) if _PATH.fullmatch(env_id) else env_id, **kwargs)
    return (EpisodeMemory(env, task) if task.switches.memory else env), task


def _adapter_class(env_id: str, adapter: str | None) -> type[TaskAdapter]:
    if _PATH.fullmatch(env_id):
        _load(env_id)  # a misspelled environment is the error to report first
        if adapter is None:
            return _adapter_beside(env_id)
    if env_id not in _adapters:
        _load_entry_points()
    if adapter is None:
        if env_id not in _adapters:
            raise UnknownEnvError(_unknown(env_id))
        adapter = _adapters[env_id]
    elif env_id not in gymnasium.registry and not _PATH.fullmatch(env_id):
        raise UnknownEnvError(_unknown(env_id))
    found = _load(adapter)
    if not (isinstance(found, type) and issubclass(found, TaskAdapter)):
        raise EnvSetupError(f"adapter {adapter!r} is not a subclass of envs.base.TaskAdapter")
    return found


def _adapter_beside(path: str) -> type[TaskAdapter]:
    """The adapter for the environment `path` among the classes of the same module."""
    classes = [value for value in vars(_module(path)).values() if isinstance(value, type)]
    tasks = [value for value in classes if issubclass(value, TaskAdapter) and value is not TaskAdapter]
    fitting = [value for value in tasks if getattr(value, "env_id", None) == path]
    if len(fitting) == 1:
        return fitting[0]
    found = ", ".join(f"{value.__name__} for {getattr(value, 'env_id', None)!r}" for value in tasks) or "none"
    raise EnvSetupError(
        f"{path!r} needs exactly one TaskAdapter in its module with env_id = {path!r} "
        f"(adapters there: {found}); write one, or name another with adapter='module:Class'"
    )


def _unknown(env_id: str) -> str:
    names = {known.lower(): known for known in _adapters}
    names |= {known.rpartition("/")[2].lower(): known for known in _adapters}
    near = get_close_matches(env_id.lower(), names, n=1)
    if env_id in gymnasium.registry:
        cure = "gymnasium knows it, but nothing turns it into language: pass adapter='module:Class'"
    elif near:
        cure = f"did you mean {names[near[0]]!r}?"
    else:
        cure = f"known: {', '.join(sorted(_adapters))}; for your own give 'module:Class'"
    return f"no environment {env_id!r} is registered; {cure}"


@cache
def _load_entry_points() -> None:
    """Let every installed package register its environments, once per process."""
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            point.load()()
        except Exception as error:
            raise EnvSetupError(
                f"entry point {point.name!r} = {point.value!r} of group {ENTRY_POINT_GROUP!r} failed: "
                f"{error!r}; repair or uninstall that package"
            ) from error


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise EnvSetupError(f"{path!r} is not of the form 'module:Class', like 'my_package.my_env:MyEnv'")


def _module(path: str) -> ModuleType:
    _check_path(path)
    name = path.partition(":")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        cure = "install it or put its folder on PYTHONPATH"
        raise EnvSetupError(f"{path!r}: no module {error.name!r}; {cure}") from error


def _load(path: str) -> Any:
    """The object that "module:Class" names."""
    module = _module(path)
    name = path.partition(":")[2]
    if not hasattr(module, name):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        near = get_close_matches(name, classes, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise EnvSetupError(f"{path!r}: module {module.__name__!r} has no {name!r}{hint}")
    return getattr(module, name)
