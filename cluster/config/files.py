"""Configuration files: YAML and `key.sub=value` overrides to a checked configuration, and mistakes told in words."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from cluster.config.mistakes import explain
from cluster.config.run import RunConfig
from protocol.errors import ConfigError


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file and apply `key.sub=value` overrides.

    Raises:
        ConfigError: The file is missing or no YAML mapping, a key is unknown (with the nearest known one), or a value
            is out of bounds; the message names the key, the value and the limit.
    """
    file = Path(path)
    if not file.is_file():
        near = difflib.get_close_matches(file.name, [p.name for p in shipped_configs()], n=1)
        hint = f"did you mean cluster/configs/{near[0]}?" if near else f"shipped: {_names(shipped_configs())}"
        raise ConfigError(f"There is no configuration file {str(path)!r}.", hint)
    try:
        loaded = OmegaConf.load(file)
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not readable YAML: {error}", "a configuration is a mapping of keys") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{file} holds a list.", "a configuration is a mapping of keys")
    return _resolve(loaded, overrides, str(file))


def default_config(overrides: Sequence[str] = ()) -> RunConfig:
    """The defaults with `key.sub=value` overrides; raises like `load_config`."""
    return _resolve(OmegaConf.create(), overrides, "the default configuration")


def _resolve(base: DictConfig, overrides: Sequence[str], origin: str) -> RunConfig:
    for override in overrides:
        if not override.partition("=")[1] or not override.partition("=")[0]:
            raise ConfigError(f"Override {override!r} is not of the form key=value.", "write e.g. rollout.updates=20")
    if overrides:
        origin = f"{origin} with {' '.join(overrides)}"
    try:
        merged = OmegaConf.merge(base, OmegaConf.from_dotlist(list(overrides)))
        values: Any = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(f"{origin}: {error}", "values are YAML: quote what holds any of {}[]:#$") from error
    return parse_config({str(k): v for k, v in values.items()}, origin=origin)


def parse_config(values: dict[str, Any], origin: str = "configuration") -> RunConfig:
    """Validate a nested mapping.

    Raises:
        ConfigError: One line per mistake.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [explain(e, RunConfig) for e in error.errors()]
        raise ConfigError(
            f"{origin}: " + "; ".join(lines), "see cluster/config/ for where every key is told"
        ) from error


def save_config(config: RunConfig, path: Path) -> None:
    """Write the resolved configuration as YAML."""
    OmegaConf.save(OmegaConf.create(config.model_dump(mode="json")), path)


def shipped_configs() -> list[Path]:
    """The configurations that come with the package."""
    return sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(f"cluster/configs/{p.name}" for p in paths)
