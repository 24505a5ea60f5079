"""Ray for one run: joins the cluster that is there, or starts a private one here and ends it with the run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from cluster.config import RayConfig
from protocol.errors import PlacementError

LOCAL_ADDRESSES = ("", "local")

WORKER_ENVIRONMENT = {
    # Every process computes on its own core; two OpenMP threads on a busy machine run several times slower.
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # Several engines on one host would all be pinned to its first core.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "RAY_TRAIN_V2_ENABLED": "1",
}


def resolve_address(config: RayConfig) -> str | None:
    """Address of the cluster to join, or None for a private local one."""
    address = os.environ.get("RAY_ADDRESS", "") if config.address == "auto" else config.address
    return None if address in LOCAL_ADDRESSES else address


@contextmanager
def ray_session(config: RayConfig, logical_cpus: int) -> Iterator[bool]:
    """Be connected to Ray inside the block; yields whether the cluster is a private local one.

    Args:
        config: Where to connect.
        logical_cpus: CPUs that a private cluster pretends to have; its processes share the real ones.

    Raises:
        PlacementError: The named cluster cannot be reached.
    """
    if ray.is_initialized():
        yield False
        return
    address = resolve_address(config)
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    runtime_env = {"env_vars": {k: os.environ[k] for k in WORKER_ENVIRONMENT}}
    try:
        if address is None:
            # A private cluster inherits the environment, so it needs no runtime_env (which would delay each start).
            ray.init(
                address="local",
                num_cpus=logical_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=address, runtime_env=runtime_env, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise PlacementError(
            f"Ray could not be reached at {address or 'a private local cluster'}: {error}",
            "start one with `ray start --head`, unset RAY_ADDRESS, or set ray.address=local",
        ) from error
    try:
        yield address is None
    finally:
        ray.shutdown()
