"""A trained run or a bare model behind a server, for evaluation and play: no learner, the same proof of weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from actors.frames import FrameEncoder
from actors.prompting import PromptEncoder
from actors.sampler import Sample, SampleRequest, SamplingParams
from cluster.config import RunConfig, default_config, load_config
from cluster.config.env import EnvConfig, SingleEnvConfig
from cluster.learners.actor import PACKAGE_FOLDER
from cluster.record.run_dir import RunDir
from cluster.runtime.ray_session import ray_session
from cluster.runtime.waiting import StopFlag, wait_for
from cluster.servers.pool import ServerPool
from cluster.stages.plan import latest
from envs.base import TaskAdapter
from learner.model_folder import check_model_folder
from protocol.errors import CheckpointError, ConfigError
from protocol.package_files import load_package
from protocol.trajectory import BASE_POLICY_VERSION


@dataclass(frozen=True, slots=True)
class PolicySource:
    """What is to be served."""

    config: RunConfig
    model: Path
    package: Path | None
    """Folder of the adapter package; None serves the bare model."""

    def env(self, env_id: str, overrides: Sequence[str] = ()) -> EnvConfig:
        """What the run's own evaluations play where `env_id` is empty or names it, else that environment under
        the run's prompt switches, which are what its policy knows, and with the arguments that `overrides` give.

        Where the run plays a mixture, the name or the id of a component chooses it, with its arguments and prompt.
        """
        own = self.config.evaluated_env
        if not env_id or (not own.mixture and env_id == own.id):
            return own
        for name, component in own.mixture.items():
            if env_id in (name, component.id):
                return EnvConfig(**component.model_dump(include=set(SingleEnvConfig.model_fields)))
        # The run's own id, mixture and prompt stay where they are: overrides of them have changed `own` already.
        given = [override for override in overrides if override.startswith(("env.kwargs", "env.adapter"))]
        return default_config([f"env.id={env_id}", *given]).env.model_copy(update={"prompt": own.prompt})


def find_policy(run_or_model: str | Path, overrides: Sequence[str] = ()) -> PolicySource:
    """A run directory, one of its stages (what was trained there last), a checkpoint, or a model folder.

    Raises:
        ConfigError: There is no such folder, or its configuration does not fit.
        CheckpointError, ModelFolderError: The folder is incomplete.
    """
    path = Path(run_or_model)
    if not path.is_dir():
        raise ConfigError(f"There is no run directory or model folder {str(path)!r}.", "give the path of one")
    if (path / PACKAGE_FOLDER).is_dir():
        run, checkpoint = RunDir.open(path.absolute().parent.parent), path
    elif (path / "config.yaml").is_file():
        run, checkpoint = RunDir.open(path), None
    else:
        return PolicySource(default_config(overrides), check_model_folder(path).absolute(), None)
    config = load_config(run.config, overrides)
    stage, standing = latest(config, run)
    if stage is None:
        raise CheckpointError(
            f"{run.root} holds no complete checkpoint, and no model that a stage has finished.",
            "let the run reach its first checkpoint, or start anew",
        )
    checkpoint = checkpoint or standing.checkpoint
    package = None if checkpoint is None else checkpoint / PACKAGE_FOLDER
    return PolicySource(stage.config, check_model_folder(standing.model).absolute(), package)


@dataclass(slots=True)
class ServedPolicy:
    """Servers that hold one policy version."""

    source: PolicySource
    servers: ServerPool
    policy_version: int
    stop: StopFlag
    _encoder: PromptEncoder
    _frames: FrameEncoder

    def respond(self, adapter: TaskAdapter, observation: Any, info: dict[str, Any]) -> str:
        """Greedy response to one state."""
        query = adapter.query(observation, info)
        frames = [self._frames.encode(image) for image in query.images]
        request = SampleRequest(
            prompt_token_ids=list(self._encoder.encode(query.text, len(frames))),
            images=tuple(f.data for f in frames),
            image_digests=tuple(f.digest for f in frames),
            params=SamplingParams(temperature=0.0, max_tokens=self.source.config.rollout.max_tokens),
            policy_version=self.policy_version,
        )
        deadline_s = self.source.config.servers.request_timeout_s
        (samples,) = wait_for([self.servers.handles[0].sample_batch.remote([request])], "a response", deadline_s)
        sample: Sample = samples[0]
        return self._encoder.decode(sample.token_ids)


@contextmanager
def served_policy(source: PolicySource) -> Iterator[ServedPolicy]:
    """Serve a policy inside the block; an adapter has to pass its stored canaries first.

    Raises:
        CheckpointError: The stored adapter is damaged.
        ServerStartError, AdapterRejected: A server did not come up, or does not answer with the trained weights.
    """
    config, stop = source.config, StopFlag()
    package = None if source.package is None else load_package(source.package)
    with ExitStack() as resources:
        resources.enter_context(ray_session(config.ray, logical_cpus=config.workers.count + config.servers.count))
        servers = ServerPool(str(source.model), config.engine, None, stop)
        resources.callback(servers.stop)
        servers.wait_started()
        version = BASE_POLICY_VERSION
        if package is not None:
            version = package.manifest.policy_version
            servers.publish(package.manifest, ray.put(package))
        yield ServedPolicy(source, servers, version, stop, PromptEncoder(source.model), FrameEncoder())
