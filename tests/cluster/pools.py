"""Pools of rollout workers that play leaking environments against a scripted server, in a Ray of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from cluster.config import RayConfig, WorkersConfig
from cluster.config.env import EnvConfig
from cluster.runtime.processes import end_actor
from cluster.runtime.ray_session import ray_session
from cluster.runtime.waiting import StopFlag
from cluster.stages.model import corpus_of
from cluster.workers.actor import WorkerSpec
from cluster.workers.pool import WorkerPool
from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import TinyVLMConfig
from learner.tiny.corpus import TinyCorpus
from tests.cluster.leaking import ScriptedServer

SERVER = "scripted-server"


@contextmanager
def scripted_session(folder: Path) -> Iterator[Callable[..., WorkerSpec]]:
    """Makes the plan of a worker of one of the leaking environments; Ray and the server run meanwhile."""
    model = build_tiny_vlm(TinyVLMConfig(), TinyCorpus(*corpus_of(EnvConfig(), 0)), 0, folder / "model")

    def make(kind: str = "Leaking", **changes: Any) -> WorkerSpec:
        played = EnvConfig(id=f"tests.cluster.leaking:{kind}Env", adapter=f"tests.cluster.leaking:{kind}Task")
        plan = {"slots": 3, "max_tokens": 64, "seed": 0, "deterministic": True, "sample_deadline_s": 60.0}
        return WorkerSpec("run", str(model), played, {}, **plan | changes)

    with ray_session(RayConfig(address="local"), logical_cpus=4):
        server = ray.remote(ScriptedServer).options(name=SERVER, num_cpus=0).remote(model)
        yield make
        end_actor(server)


@contextmanager
def pool_of(spec: WorkerSpec, max_memory_mb: int | None = None, **changes: Any) -> Iterator[WorkerPool]:
    config = WorkersConfig(**{"count": 1, "max_restarts": 0, "max_memory_mb": max_memory_mb} | changes)
    pool = WorkerPool(spec, config, [SERVER], None, StopFlag())
    try:
        pool.wait_started(100)
        yield pool
    finally:
        pool.stop()
